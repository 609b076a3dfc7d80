//! Prometheus metrics over HTTP: a responder that knows `GET /metrics` and `GET /healthz` and nothing more.
//!
//! The main loop owns the figures; a scrape asks it for a page. So there is nothing shared, nothing atomic
//! (32-bit MIPS has no 64-bit atomics), and an answer proves that the main loop turns.

use std::{fmt, io, net::SocketAddr, pin::Pin, time::Duration};

use netmon_proto::v1::GapCause;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Sleep, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    conntrack::MonitorStats, host, names::DigestStats, spool::SpoolStats, transport::TransportStats,
};

const REQUEST_BYTES: usize = 4096;
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// Between two tries to listen.
const LEAST_DELAY: Duration = Duration::from_secs(1);
const MOST_DELAY: Duration = Duration::from_secs(60);

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

/// One request for the page.
#[derive(Debug)]
pub(crate) struct Scrape(oneshot::Sender<Page>);

impl Scrape {
    /// Answers it.
    pub(crate) fn answer(self, page: Page) {
        // Whoever asked may have gone.
        let _ = self.0.send(page);
    }
}

/// The requests for the page, as they come. Where listening fails, or the responder ends, it is begun again
/// after a growing pause. Dropping it ends the responder.
#[derive(Debug)]
pub(crate) struct Scrapes {
    bind: Option<SocketAddr>,
    responder: Option<Responder>,
    /// Why there is none, and when it is tried again.
    failed: Option<(String, Pin<Box<Sleep>>)>,
    delay: Duration,
    restarts: u64,
    /// What was got for port 0.
    pub(crate) local_addr: Option<SocketAddr>,
}

#[derive(Debug)]
struct Responder {
    requests: mpsc::Receiver<Scrape>,
    task: JoinHandle<()>,
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scrapes {
    /// The next one. Waits for ever where there is nothing to serve. Cancel safe.
    pub(crate) async fn next(&mut self) -> Scrape {
        loop {
            if let Some(responder) = &mut self.responder {
                match responder.requests.recv().await {
                    Some(scrape) => {
                        self.delay = LEAST_DELAY;
                        return scrape;
                    }
                    // A defect: it never ends by itself.
                    None => self.fail("the responder ended".to_owned()),
                }
            }
            match &mut self.failed {
                None => std::future::pending().await,
                Some((_, retry)) => retry.as_mut().await,
            }
            self.restarts += 1;
            self.listen().await;
        }
    }

    /// Times it was begun again.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// What stands in its way now.
    pub(crate) fn warning(&self) -> Option<String> {
        let (why, bind) = (&self.failed.as_ref()?.0, self.bind?);
        Some(format!("metrics are not served at {bind}: {why}; is metrics_bind right, and free?"))
    }

    async fn listen(&mut self) {
        let Some(bind) = self.bind else { return };
        match TcpListener::bind(bind).await {
            Ok(listener) => {
                self.local_addr = listener.local_addr().ok();
                info!(address = %self.local_addr.unwrap_or(bind), "serving metrics");
                let (sender, requests) = mpsc::channel(1);
                self.responder = Some(Responder { requests, task: tokio::spawn(respond(listener, sender)) });
                self.failed = None;
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, why: String) {
        self.responder = None;
        if self.failed.as_ref().is_none_or(|(before, _)| *before != why) {
            warn!(bind = ?self.bind, "cannot serve metrics: {why}; is metrics_bind right, and free?");
        }
        self.failed = Some((why, Box::pin(sleep(self.delay))));
        self.delay = (self.delay * 2).min(MOST_DELAY);
    }
}

/// Begins to listen. Where that is not possible the agent goes on without, and tries again.
pub(crate) async fn serve(bind: Option<SocketAddr>) -> Scrapes {
    let mut scrapes =
        Scrapes { bind, responder: None, failed: None, delay: LEAST_DELAY, restarts: 0, local_addr: None };
    scrapes.listen().await;
    scrapes
}

/// One connection at a time, each for a short time: this is for one scraper on the local network.
async fn respond(listener: TcpListener, page: mpsc::Sender<Scrape>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = timeout(REQUEST_TIME, answer(stream, &page)).await;
            }
            // Out of file descriptors, say; without a pause this would spin.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, page: &mpsc::Sender<Scrape>) -> io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let room = REQUEST_BYTES.saturating_sub(request.len());
        if room == 0 {
            return reply(&mut stream, "431 Request Header Fields Too Large", "text/plain", "too large\n")
                .await;
        }
        if (&mut stream).take(room as u64).read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics" | b"/healthz") => {
            let (sender, receiver) = oneshot::channel();
            let asked = page.send(Scrape(sender)).await.is_ok();
            let Some(page) = receiver.await.ok().filter(|_| asked) else { return Ok(()) };
            if path == b"/healthz" {
                let (status, word) =
                    if page.works { ("200 OK", "ok") } else { ("503 Service Unavailable", "broken") };
                let lines = [word.to_owned()].into_iter().chain(page.warnings);
                let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
                return reply(&mut stream, status, "text/plain; charset=utf-8", &text).await;
            }
            let text = render(page.figures());
            reply(&mut stream, "200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", &text)
                .await
        }
        (b"GET", _) => reply(&mut stream, "404 Not Found", "text/plain", "see /metrics\n").await,
        _ => reply(&mut stream, "405 Method Not Allowed", "text/plain", "GET only\n").await,
    }
}

async fn reply(stream: &mut TcpStream, status: &str, content_type: &str, body: &str) -> io::Result<()> {
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

impl Page {
    /// The names without `_total` are completed by the encoder for counters.
    fn figures(self) -> Vec<Figure> {
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

/// The page of these figures.
pub(crate) fn render(figures: Vec<Figure>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(figures)));
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = text::encode(&mut out, &registry);
    out
}

type Labels = Vec<(&'static str, String)>;

/// One metric with all its label values, as of now.
#[derive(Debug)]
pub(crate) struct Figure {
    name: &'static str,
    help: &'static str,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
}

impl Figure {
    /// A counter without labels; its name is without `_total`.
    pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, values: Values::Counter(vec![(Vec::new(), value)]) }
    }

    /// A counter by labels.
    pub(crate) fn counters<const N: usize>(
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
    ) -> Self {
        let values = values.into_iter().map(|(labels, value)| (labels.into(), value)).collect();
        Self { name, help, values: Values::Counter(values) }
    }

    /// A gauge without labels.
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, values: Values::Gauge(vec![(Vec::new(), value)]) }
    }

    /// A gauge by labels.
    pub(crate) fn gauges<const N: usize>(
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) -> Self {
        let values = values.into_iter().map(|(labels, value)| (labels.into(), value)).collect();
        Self { name, help, values: Values::Gauge(values) }
    }
}

#[derive(Debug)]
struct Figures(Vec<Figure>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Figure { name, help, values } in &self.0 {
            let kind = match values {
                Values::Counter(_) => MetricType::Counter,
                Values::Gauge(_) => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            match values {
                Values::Counter(values) => {
                    for (labels, value) in values {
                        if labels.is_empty() {
                            metric.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                        } else {
                            metric
                                .encode_family(labels)?
                                .encode_counter::<NoLabelSet, _, u64>(value, None)?;
                        }
                    }
                }
                Values::Gauge(values) => {
                    for (labels, value) in values {
                        if labels.is_empty() {
                            metric.encode_gauge(value)?;
                        } else {
                            metric.encode_family(labels)?.encode_gauge(value)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &str) -> String {
        let mut scrapes = serve(Some(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
        let mut stream = TcpStream::connect(scrapes.local_addr.expect("bound")).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let page =
            || Page { works: true, gaps: vec![(GapCause::SpoolFull, 7)], spool_bytes: 42, ..Page::default() };
        let mut text = String::new();
        let mut read = std::pin::pin!(stream.read_to_string(&mut text));
        loop {
            tokio::select! {
                scrape = scrapes.next() => scrape.answer(page()),
                result = &mut read => {
                    result.expect("an answer");
                    break;
                }
            }
        }
        text
    }

    #[tokio::test]
    async fn metrics_are_served_under_their_old_names() {
        let text = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        for line in [
            "conntrack_destroy_total 0",
            "conntrack_parse_errors_total 0",
            "http_batches_sent_total 0",
            "spool_bytes 42.0",
            "spool_dropped_batches_total 0",
            "queue_depth{stream=\"spool\"} 0.0",
            "events_dropped_local_total{stream=\"spool\"} 0",
            "gaps_total{cause=\"GAP_CAUSE_SPOOL_FULL\"} 7",
            "http_last_send_success_ts 0.0",
        ] {
            assert!(text.lines().any(|got| got == line), "{line} is missing in\n{text}");
        }
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        assert!(ask("GET /healthz?x HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        assert!(ask("GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
        assert!(ask(&"x".repeat(REQUEST_BYTES)).await.starts_with("HTTP/1.1 431 "));
    }

    #[tokio::test]
    async fn an_address_in_use_is_told_of_and_tried_again() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let bind = taken.local_addr().expect("bound");
        let mut scrapes = serve(Some(bind)).await;
        assert!(scrapes.warning().expect("a warning").contains("is metrics_bind right, and free?"));
        drop(taken);
        let ask = async {
            let mut stream = loop {
                match TcpStream::connect(bind).await {
                    Ok(stream) => break stream,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            };
            stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.expect("sent");
            stream.read_to_string(&mut String::new()).await.expect("an answer")
        };
        let answer = async { scrapes.next().await.answer(Page::default()) };
        let ((), length) =
            timeout(Duration::from_secs(20), async { tokio::join!(answer, ask) }).await.expect("soon");
        assert!(length > 0);
        assert_eq!((scrapes.warning(), scrapes.restarts()), (None, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_responder_that_ends_is_begun_again() {
        let mut scrapes = serve(Some(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
        scrapes.responder.as_ref().expect("serving").task.abort();
        let waited = timeout(LEAST_DELAY * 2, scrapes.next()).await;
        assert!(waited.is_err(), "nobody asks");
        assert_eq!((scrapes.restarts(), scrapes.warning(), scrapes.responder.is_some()), (1, None, true));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_to_be_served_nothing_is_waited_for() {
        let mut scrapes = serve(None).await;
        assert!(timeout(MOST_DELAY * 2, scrapes.next()).await.is_err());
        assert_eq!((scrapes.restarts(), scrapes.warning()), (0, None));
    }
}
