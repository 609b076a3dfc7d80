//! The protocol between `netmon-agent` and `netmon-server`, package `netmon.v1`.
//!
//! The source of truth is `proto/netmon/v1/*.proto`: every field there states its meaning, its unit and
//! what its absence means. This crate holds the code generated from them and nothing that does I/O or
//! takes a decision.

/// Messages and services of `netmon.v1`.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code; the .proto files carry the documentation"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/netmon.v1.rs"));
}

/// The encoded `FileDescriptorSet` of all files, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/netmon_descriptor.bin"));

/// The largest encoded message that either side sends or accepts, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// The most events that one [`v1::Batch`] may carry.
pub const MAX_BATCH_EVENTS: usize = 8192;

/// The kernel's `IPS_*` bits (linux/netfilter/nf_conntrack_common.h) by number, without the prefix: bit 0 first. The bits
/// of [`v1::Flow::status`], and the words of `flags` in the original agent's JSON.
pub const STATUS_BITS: [&str; 16] = [
    "EXPECTED",
    "SEEN_REPLY",
    "ASSURED",
    "CONFIRMED",
    "SRC_NAT",
    "DST_NAT",
    "SEQ_ADJUST",
    "SRC_NAT_DONE",
    "DST_NAT_DONE",
    "DYING",
    "FIXED_TIMEOUT",
    "TEMPLATE",
    "NAT_CLASH",
    "HELPER",
    "OFFLOAD",
    "HW_OFFLOAD",
];
