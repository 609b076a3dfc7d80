//! Conntrack messages, from the kernel's bytes to plain values.
//!
//! Pure: bytes in, a [`CtMessage`] out. No socket, no clock, no allocation, no panic on any input. What
//! cannot be understood is an error of one message and never costs its neighbours.
//!
//! The layout is that of `linux/netfilter/nfnetlink.h` and `linux/netfilter/nfnetlink_conntrack.h`:
//! a datagram holds netlink messages, each with a `nfgenmsg` of four bytes and attributes after it.
//! Header fields are in host order; everything inside an attribute is in network order.

mod attributes;
mod envelope;
mod message;
#[cfg(test)]
mod tests;

pub use attributes::decode_conntrack;
pub(crate) use attributes::{be16, be32, walk};
pub use envelope::{Envelopes, Frame, FrameError};
pub use message::{Counters, CtMessage, DecodeError, Kind, Tuple, status};
pub(crate) use message::{address_bytes, is_icmp};
