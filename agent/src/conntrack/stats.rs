//! Counters of a monitor, for metrics.

use crate::flows::FlowStats;

/// What a monitor did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MonitorStats {
    /// NEW messages.
    pub new: u64,
    /// DESTROY messages.
    pub destroy: u64,
    /// Datagrams read from the event socket.
    pub datagrams: u64,
    /// Times that the event socket's buffer was full (ENOBUFS).
    pub overruns: u64,
    /// Messages of the kernel that could not be understood.
    pub parse_errors: u64,
    /// Dumps that came to their end.
    pub dumps: u64,
    /// Those of them that may lack rows.
    pub dumps_incomplete: u64,
    /// Dumps that failed.
    pub dumps_failed: u64,
    /// Rows of the last dump.
    pub last_dump_rows: u64,
    /// CPU time of the last dump.
    pub last_dump_cpu_us: u64,
    /// Times that the host's addresses were read again.
    pub address_refreshes: u64,
    /// What the flow table counts.
    pub flows: FlowStats,
}

impl MonitorStats {
    pub(super) fn take(&mut self, flows: &FlowStats) {
        self.new = flows.new;
        self.destroy = flows.destroy;
        self.flows = *flows;
    }
}
