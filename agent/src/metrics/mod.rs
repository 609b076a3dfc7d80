//! Prometheus metrics over HTTP: a responder that knows `GET /metrics` and `GET /healthz` and nothing more.
//!
//! The main loop owns the figures; a scrape asks it for a page. So there is nothing shared, nothing atomic
//! (32-bit MIPS has no 64-bit atomics), and an answer proves that the main loop turns.

mod figure;
mod page;
mod respond;

use std::{io, net::SocketAddr, pin::Pin, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Sleep, sleep},
};
use tracing::{info, warn};

pub(crate) use figure::{Figure, render};
pub(crate) use page::Page;
use respond::respond;

/// Between two tries to listen.
const LEAST_DELAY: Duration = Duration::from_secs(1);
const MOST_DELAY: Duration = Duration::from_secs(60);

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
        Some(format!("metrics are not served at {bind}: {why}"))
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
            Err(error) => self.fail(format!("{error}{}", remedy(&error))),
        }
    }

    fn fail(&mut self, why: String) {
        self.responder = None;
        if self.failed.as_ref().is_none_or(|(before, _)| *before != why) {
            warn!(bind = ?self.bind, "cannot serve metrics: {why}");
        }
        self.failed = Some((why, Box::pin(sleep(self.delay))));
        self.delay = (self.delay * 2).min(MOST_DELAY);
    }
}

/// What to do about it.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": a port below 1024 needs a right that the agent gives up: take a higher one"
        }
        _ => "; is metrics_bind right, and free?",
    }
}

/// Begins to listen. Where that is not possible the agent goes on without, and tries again.
pub(crate) async fn serve(bind: Option<SocketAddr>) -> Scrapes {
    let mut scrapes =
        Scrapes { bind, responder: None, failed: None, delay: LEAST_DELAY, restarts: 0, local_addr: None };
    scrapes.listen().await;
    scrapes
}

#[cfg(test)]
mod tests {
    use netmon_proto::v1::GapCause;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };

    use super::{respond::REQUEST_BYTES, *};

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
