//! What a monitor is told, and why it may refuse.

use std::{io, net::IpAddr, time::Duration};

/// What a monitor needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    /// Interfaces whose subnets are the LAN. Empty: found out.
    pub lan_interfaces: Vec<String>,
    /// Interfaces that never are the LAN.
    pub wan_interfaces: Vec<String>,
    /// The LAN itself. Empty: the subnets of interfaces.
    pub lan_subnets: Vec<(IpAddr, u8)>,
    /// Asked for as receive buffer of the event socket.
    pub read_buffer_bytes: usize,
    /// The longest interval between dumps that are cheap.
    pub report_interval: Duration,
    /// Set nf_conntrack_acct, _timestamp and _events.
    pub set_sysctls: bool,
    /// Have the kernel tell an end again that found no room in the buffer.
    pub reliable: bool,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        MonitorConfig {
            lan_interfaces: Vec::new(),
            wan_interfaces: Vec::new(),
            lan_subnets: Vec::new(),
            read_buffer_bytes: 4 * 1024 * 1024,
            report_interval: Duration::from_secs(10),
            set_sysctls: true,
            reliable: true,
        }
    }
}

/// Why conntrack cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// EPERM.
    #[error("not allowed to watch conntrack: run as root or with CAP_NET_ADMIN in this network namespace")]
    Permission,
    /// The protocol or the subsystem is missing.
    #[error(
        "this kernel has no conntrack over netlink: load the modules nf_conntrack and nf_conntrack_netlink (OpenWrt: install kmod-nf-conntrack-netlink) ({0})"
    )]
    Module(io::Error),
    /// Anything else.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(io::Error) -> MonitorError {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => MonitorError::Permission,
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => MonitorError::Module(source),
        _ => MonitorError::Io { what, source },
    }
}
