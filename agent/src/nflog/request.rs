//! What is asked of the kernel's log subsystem.

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NFULNL_MSG_CONFIG: u16 = 4 << 8 | 1;

// enum nfulnl_attr_config
const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_NLBUFSIZ: u16 = 3;
const NFULA_CFG_TIMEOUT: u16 = 4;
const NFULA_CFG_FLAGS: u16 = 6;

const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULNL_CFG_CMD_UNBIND: u8 = 2;
const NFULNL_CFG_CMD_PF_BIND: u8 = 3;
const NFULNL_COPY_PACKET: u8 = 2;
const NFULNL_CFG_F_SEQ: u16 = 1;

/// How the kernel is to hand over the packets of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// How much of each packet.
    pub(super) copy_bytes: u32,
    /// How long packets may wait for others to share a datagram with.
    pub(super) wait_centiseconds: u32,
    /// How large such a datagram may become.
    pub(super) datagram_bytes: u32,
}

/// Binds a group to the socket that this is sent on, with its settings, in one step.
pub(super) fn bind(group: u16, mode: Mode) -> Vec<u8> {
    let mut copy = [0; 6];
    copy[..4].copy_from_slice(&mode.copy_bytes.to_be_bytes());
    copy[4] = NFULNL_COPY_PACKET;
    config(
        0,
        group,
        &[
            (NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]),
            (NFULA_CFG_MODE, &copy),
            (NFULA_CFG_NLBUFSIZ, &mode.datagram_bytes.to_be_bytes()),
            (NFULA_CFG_TIMEOUT, &mode.wait_centiseconds.to_be_bytes()),
            (NFULA_CFG_FLAGS, &NFULNL_CFG_F_SEQ.to_be_bytes()),
        ],
    )
}

/// Lets a group go; what waits in it is handed over before.
pub(super) fn unbind(group: u16) -> Vec<u8> {
    config(0, group, &[(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_UNBIND])])
}

/// Makes the log subsystem the one that rules of a family log to. Needed by Linux before 3.17 alone.
pub(super) fn bind_family(family: u8) -> Vec<u8> {
    config(family, 0, &[(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_PF_BIND])])
}

fn config(family: u8, group: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&NFULNL_MSG_CONFIG.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence and port: requests are made one after the other.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&group.to_be_bytes());
    for (kind, value) in attributes {
        bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}
