//! What a page shows.

use netmon_proto::v1::GapCause;

use super::Figure;
use crate::{
    conntrack::MonitorStats, host, names::DigestStats, spool::SpoolStats, transport::TransportStats,
};

/// Everything a page shows.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Connections are watched, and what is heard can be kept.
    pub(crate) works: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) monitor: MonitorStats,
    pub(crate) open_flows: usize,
    pub(crate) spool: SpoolStats,
    pub(crate) spool_bytes: u64,
    pub(crate) spool_batches: u64,
    pub(crate) transport: TransportStats,
    pub(crate) gaps: Vec<(GapCause, u64)>,
    pub(crate) events_unwritten: u64,
    pub(crate) last_append_us: i64,
    /// Of `transport: http`.
    pub(crate) digest: DigestStats,
    /// Those of the parts.
    pub(crate) parts: Vec<Figure>,
}

impl Page {
    /// The names without `_total` are completed by the encoder for counters.
    pub(super) fn figures(self) -> Vec<Figure> {
        let seconds = |us: i64| us as f64 / 1e6;
        let Self { monitor, spool, transport, .. } = &self;
        let by = |label: &'static str, values: Vec<(&'static str, u64)>| {
            values.into_iter().map(move |(value, count)| ([(label, value.to_owned())], count))
        };
        let failures = transport.failures.iter().map(|(code, count)| (*code, *count)).collect();
        let gaps = self.gaps.iter().map(|(cause, count)| (cause.as_str_name(), *count)).collect();
        let dropped = vec![("spool", spool.dropped_events), ("write", self.events_unwritten)];
        let mut figures = vec![
            Figure::counter("conntrack_new", "NEW messages of the kernel", monitor.new),
            Figure::counter("conntrack_destroy", "DESTROY messages of the kernel", monitor.destroy),
            Figure::counter(
                "conntrack_zeroed",
                "Flows whose counters another program set to zero, each time",
                monitor.flows.zeroed,
            ),
            Figure::counter(
                "conntrack_parse_errors",
                "Messages of the kernel that were not understood",
                monitor.parse_errors,
            ),
            Figure::counter(
                "conntrack_overruns",
                "Times the kernel's socket buffer overran",
                monitor.overruns,
            ),
            Figure::counter("conntrack_dumps", "Dumps of the whole table", monitor.dumps),
            Figure::gauge("conntrack_open_flows", "Flows held open", self.open_flows as f64),
            Figure::gauges(
                "queue_depth",
                "Batches that wait for an ack",
                [([("stream", "spool".to_owned())], self.spool_batches as f64)],
            ),
            Figure::counters(
                "events_dropped_local",
                "Events lost on this host: spool full, or not writable",
                by("stream", dropped),
            ),
            Figure::counters("gaps", "What was reported as missing, by cause", by("cause", gaps)),
            Figure::counter("http_batches_sent", "Batches sent, again included", transport.batches_sent),
            Figure::counters("http_send_errors", "Failures by kind", by("code", failures)),
            Figure::gauge(
                "http_last_enqueue_ts",
                "When a batch was last spooled",
                seconds(self.last_append_us),
            ),
            Figure::gauge(
                "http_last_send_success_ts",
                "When an ack last came",
                seconds(transport.last_success_us),
            ),
            Figure::gauge(
                "http_last_send_error_ts",
                "When delivery last failed",
                seconds(transport.last_failure_us),
            ),
            Figure::gauge(
                "connected",
                "Whether a stream to the server is open",
                f64::from(u8::from(transport.connected)),
            ),
            Figure::counter(
                "dns_buckets_emitted",
                "Counts of questions that were posted",
                self.digest.buckets,
            ),
            Figure::counter(
                "dns_buckets_left_out",
                "Questions that no posted count holds",
                self.digest.left_out,
            ),
            Figure::counter("streams", "Streams that the server welcomed", transport.streams),
            Figure::counter("acks", "Acks received", transport.acks),
            Figure::counter("events_accepted", "Events that the server took", transport.accepted),
            Figure::counter("events_rejected", "Events that the server refused", transport.rejected),
            Figure::gauge("spool_bytes", "Bytes that wait for an ack", self.spool_bytes as f64),
            Figure::gauge("spool_batches", "Batches that wait for an ack", self.spool_batches as f64),
            Figure::counter("spool_dropped_batches", "Batches dropped from the spool", spool.dropped_batches),
            Figure::counter("spool_damaged", "Places with damaged records", spool.damaged),
            Figure::counter("spool_write_errors", "Writes to the spool that failed", spool.write_errors),
            Figure::gauge("process_resident_memory_bytes", "Resident memory", host::memory_bytes() as f64),
            Figure::gauge("process_cpu_seconds", "CPU time", host::cpu_ms() as f64 / 1e3),
        ];
        figures.extend(self.parts);
        figures
    }
}
