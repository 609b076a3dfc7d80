//! The road from the wire to the database: validation, the bounded queue, and the one writer.
//!
//! Whatever brings events (a gRPC stream, one call, an HTTP batch) checks them with [`check_event`],
//! waits for room in the queue and hands them to the writer. The writer owns
//! the engine and the write connection; it answers a batch when its transaction is committed, and never
//! before.

mod check_others;
mod frame;
mod health;
mod json_batch;
mod json_data;
mod json_flow;
mod json_scan;
mod observation;
mod queue;
#[cfg(test)]
mod tests;
mod validate;
mod writer;

pub(crate) use check_others::is_device_address;
pub use frame::{CheckedEvents, check_events};
pub use health::{Counts, Health};
pub use json_batch::{JsonBatch, NoBatch, read_batch};
pub(crate) use json_data::octets;
pub(crate) use json_flow::{direction_by_addresses, status_bits, tcp_state};
pub use observation::{Checked, FlowReport, GapReport, Observation, Phase};
pub use queue::{Ack, BatchWork, HelloWork, Ingest, IngestError, Reply, Welcome};
pub use validate::{Refusal, check_event, is_router_name, printable};
pub use writer::start;
