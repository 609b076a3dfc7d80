//! What goes into the flow table's methods and what it counts.

/// The time, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970, for what is told.
    pub unix_us: i64,
    /// Milliseconds of a clock that nobody sets, for what is waited for.
    pub uptime_ms: u64,
}

/// Counts of what the table did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// NEW messages taken in.
    pub new: u64,
    /// DESTROY messages taken in, repeated ones included.
    pub destroy: u64,
    /// DESTROY messages that told an end again.
    pub repeated: u64,
    /// Rows of dumps.
    pub rows: u64,
    /// Flows that ended unseen.
    pub end_unseen: u64,
    /// Flows, at their NEW or per dump, that the full table did not take.
    pub untracked: u64,
    /// Times that a flow's counters went down.
    pub zeroed: u64,
    /// Changed flows, per dump, that were not reported because progress was switched off.
    pub progress_skipped: u64,
    /// Flows whose entry has no counters, among those that ended.
    pub no_counters: u64,
}
