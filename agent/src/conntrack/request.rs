//! The few requests that are sent to the kernel.

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_GET_STATS: u16 = 5;
const IPCTNL_MSG_CT_GET_DYING: u16 = 6;

/// All entries of the conntrack table, of both families.
pub(super) fn dump_conntrack() -> Vec<u8> {
    // nfgenmsg: AF_UNSPEC, version 0, resource 0.
    message(SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &[0; 4])
}

/// The entries that are gone, but whose end found no room in the buffer of who wants it reliably.
pub(super) fn dump_untold() -> Vec<u8> {
    message(SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_DYING, NLM_F_REQUEST | NLM_F_DUMP, &[0; 4])
}

/// The size of the conntrack table: cheap, and refused wherever a dump would be.
pub(super) fn conntrack_size() -> Vec<u8> {
    message(SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS, NLM_F_REQUEST, &[0; 4])
}

/// A dump of rtnetlink, with a header of `header_bytes` zeroes: all families, no filter.
pub(super) fn dump_routes(message_type: u16, header_bytes: usize) -> Vec<u8> {
    message(message_type, NLM_F_REQUEST | NLM_F_DUMP, &[0; 16][..header_bytes.min(16)])
}

fn message(message_type: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len() as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&message_type.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // Sequence and port: each request has a socket of its own, so nothing needs to be told apart.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(payload);
    bytes
}
