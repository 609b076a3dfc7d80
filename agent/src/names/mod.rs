//! Names of hosts in DNS as the original agent told them: hashed, and counted by the minute.
//!
//! Only `transport: http` needs this; a gRPC stream carries names in full and lets the server count.

mod digest;
mod words;

pub(crate) use digest::{Digest, DigestStats};
pub(crate) use words::{rcode_name, type_name};
