//! One port for everything: HTTP/1 and HTTP/2, pages and gRPC, plain and TLS.

use std::{future, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use super::{
    places::{Place, Places, Shares},
    tls::{Greeted, Tls},
};
use crate::web::{OverTls, Refusal, RefusedConnections};

/// The most connections at once; the next ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// The most of one address: as many agents and viewers as may be behind one NAT, or behind a proxy on another machine,
/// while it takes eight such addresses to keep everyone else out. Whoever has one address of an IPv6 network has most
/// often all of them, but it may be a whole LAN: it gets half of all places.
const MAX_OF_ONE_ADDRESS: usize = 128;
const MAX_OF_ONE_NETWORK: usize = MAX_CONNECTIONS / 2;
/// A client that takes longer to send its request's head is cut off; its first head, from the connection's beginning on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent HTTP/2 peer is asked whether it lives, and cut off if it does not say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for peers that speak something else, by the kernel: those that vanish are gone after two minutes.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// Flow-control window of a connection and of a stream, in bytes: so much of what nobody reads anyone may leave in memory
/// (health and reflection ask for no token).
/// It is enough for 100 Mbit/s over a road of 20 ms; a batch is read as it comes.
const WINDOW: u32 = 256 * 1024;

/// How much of the server a client may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    connections: usize,
    shares: Shares,
    head_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            shares: Shares {
                address: MAX_OF_ONE_ADDRESS,
                network: MAX_OF_ONE_NETWORK,
                // A proxy here brings everyone's connections; a stranger has no loopback address.
                loopback: MAX_CONNECTIONS,
            },
            head_timeout: HEAD_TIMEOUT,
        }
    }
}

/// What is served, and how.
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) tls: Option<Tls>,
    pub(super) routes: Router,
    pub(super) limits: Limits,
    pub(super) refused: Arc<RefusedConnections>,
}

/// Serves until `shutdown` resolves; then calls `closing` and gives what is open `drain` to end.
pub(super) async fn serve(
    listener: TcpListener,
    offer: Offer,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
    closing: impl FnOnce(),
) {
    let Limits { connections, shares, head_timeout } = offer.limits;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_concurrent_streams(64);
    let graceful = GracefulShutdown::new();
    let places = Places::new(connections, shares);
    let (stop, stopping) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places, &offer.refused) => accepted,
            () = &mut shutdown => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let caller =
            Caller { offer: offer.clone(), http: http.clone(), deadline: Instant::now() + head_timeout };
        let (watcher, mut stopping) = (graceful.watcher(), stopping.clone());
        tokio::spawn(async move {
            // A client that has said nothing yet must not hold up the end.
            let greeted = tokio::select! {
                greeted = caller.greet(stream) => greeted,
                _ = stopping.changed() => None,
            };
            match greeted {
                Some(Greeted::Plain(stream)) => caller.serve(stream, OverTls(false), watcher).await,
                Some(Greeted::Secret(stream)) => caller.serve(*stream, OverTls(true), watcher).await,
                None => {}
            }
            drop(place);
        });
    }
    drop(stop);
    drop(listener);
    closing();
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        debug!("some connections did not end in time and are cut off");
    }
}

/// What it takes to serve one connection.
struct Caller {
    offer: Offer,
    http: auto::Builder<TokioExecutor>,
    /// When its first request must be there.
    deadline: Instant,
}

impl Caller {
    async fn greet(&self, stream: TcpStream) -> Option<Greeted> {
        let Some(tls) = &self.offer.tls else { return Some(Greeted::Plain(stream)) };
        match timeout_at(self.deadline, tls.greet(stream)).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => {
                debug!(%error, "a connection ended before its first request");
                None
            }
            Err(_) => {
                self.offer.refused.count(Refusal::Silent);
                None
            }
        }
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        over_tls: OverTls,
        watcher: Watcher,
    ) {
        let begun = Arc::new(Notify::new());
        let routes = TowerToHyperService::new(self.offer.routes.clone());
        let service = service_fn({
            let begun = begun.clone();
            move |mut request: Request<Incoming>| {
                begun.notify_one();
                request.extensions_mut().insert(over_tls);
                routes.call(request)
            }
        });
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        // hyper's own timer for heads begins where HTTP/1 does. What tells the versions apart waits for ever.
        let too_late = async {
            if timeout_at(self.deadline, begun.notified()).await.is_ok() {
                future::pending::<()>().await;
            }
            self.offer.refused.count(Refusal::Silent);
        };
        tokio::select! {
            // First, for both timers may be over at once.
            biased;
            () = too_late => {}
            ended = watcher.watch(connection) => if let Err(error) = ended {
                debug!(%error, "a connection ended badly");
            },
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Places,
    refused: &RefusedConnections,
) -> Option<(TcpStream, Place)> {
    let free = places.free().await?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let Some(place) = places.give(free, peer.ip()) else {
                debug!("a connection is refused: its address has as many as it may");
                refused.count(Refusal::Crowded);
                return None;
            };
            if let Err(error) = tune(&stream) {
                debug!(%error, "a connection keeps the system's settings");
            }
            Some((stream, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: waiting lets connections end.
            warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // Acks are small and must not wait for more.
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinHandle,
    };

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// An empty SETTINGS frame.
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// Time enough for anything but a time-out that does not come.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server that says `hello`.
    struct Served {
        address: SocketAddr,
        refused: Arc<RefusedConnections>,
        task: JoinHandle<()>,
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn served(head_timeout: Duration, of_loopback: usize) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Arc::new(RefusedConnections::default());
        let offer = Offer {
            tls: None,
            routes: Router::new().route("/", get(|| future::ready("hello"))),
            limits: Limits {
                connections: 9,
                shares: Shares { address: 1, network: 1, loopback: of_loopback },
                head_timeout,
            },
            refused: refused.clone(),
        };
        let task = tokio::spawn(serve(listener, offer, future::pending(), Duration::ZERO, || ()));
        Served { address, refused, task }
    }

    impl Served {
        async fn connect(&self, said: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(said).await.unwrap();
            stream
        }

        fn counts(&self) -> [u64; 2] {
            self.refused.counts().map(|(_, count)| count)
        }
    }

    /// What comes until the server closes.
    async fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut all = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
        // Closing with something unread resets the connection: that is an end, too.
        drop(end.expect("the server closes the connection"));
        all
    }

    async fn hello(stream: &mut TcpStream) -> bool {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.is_ok() && {
            let mut answer = [0; 12];
            let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await;
            read.expect("an answer or an end").is_ok() && answer == *b"HTTP/1.1 200"
        }
    }

    #[tokio::test]
    async fn who_does_not_ask_in_time_is_closed() {
        let served = served(Duration::from_millis(100), 9).await;
        let settings = [PREFACE, SETTINGS].concat();
        for (number, said) in
            [&b""[..], b"P", b"PRI * HTT", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: x\r\n", &settings]
                .into_iter()
                .enumerate()
        {
            rest(&mut served.connect(said).await).await;
            assert_eq!(served.counts(), [number as u64 + 1, 0], "{}", String::from_utf8_lossy(said));
        }
    }

    #[tokio::test]
    async fn who_has_asked_is_not_closed_by_the_first_deadline() {
        let served = served(Duration::from_millis(100), 9).await;
        // A head of HTTP/2 in 13 bytes: GET, http, / by their numbers in HPACK's table.
        let request = [PREFACE, SETTINGS, &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84]].concat();
        let mut stream = served.connect(&request).await;
        let mut answer = vec![0; 1024];
        let mut got = 0;
        while !answer[..got].windows(5).any(|five| five == b"hello") {
            got += stream.read(&mut answer[got..]).await.unwrap();
        }
        // Past the deadline, and past all frames that came before it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let quiet = Duration::from_millis(200);
        while let Ok(more) = tokio::time::timeout(quiet, stream.read(&mut answer)).await {
            assert!(more.unwrap() > 0, "the server has closed it");
        }
        assert_eq!(served.counts(), [0, 0]);
        // HTTP/1 is asked for its next head in the same time.
        let mut stream = served.connect(b"").await;
        assert!(hello(&mut stream).await);
        rest(&mut stream).await;
    }

    #[tokio::test]
    async fn an_address_has_so_many_connections_and_gets_a_place_back() {
        let served = served(PATIENCE * 2, 2).await;
        let mut held = [served.connect(b"").await, served.connect(b"").await];
        for stream in &mut held {
            assert!(hello(stream).await);
        }
        assert_eq!(rest(&mut served.connect(b"").await).await, b"");
        assert_eq!(served.counts(), [0, 1]);
        drop(held);
        let begin = Instant::now();
        while !hello(&mut served.connect(b"").await).await {
            assert!(begin.elapsed() < PATIENCE, "no place comes free");
        }
    }

    #[tokio::test]
    async fn what_nobody_reads_is_little() {
        let served = served(PATIENCE * 2, 9).await;
        let mut stream = served.connect(&[PREFACE, SETTINGS].concat()).await;
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        // SETTINGS come first (RFC 9113, 3.4): pairs of two and four bytes.
        assert_eq!(head[3], 4, "{head:?}");
        let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        stream.read_exact(&mut settings).await.unwrap();
        let window = settings.chunks_exact(6).find(|pair| pair[..2] == [0, 4]).expect("a stream's window");
        assert_eq!(u32::from_be_bytes(window[2..].try_into().unwrap()), 256 * 1024);
        // The connection's is raised from the 65,535 bytes that it begins with.
        stream.read_exact(&mut head).await.unwrap();
        if head[3] == 4 {
            // Ours are acknowledged.
            stream.read_exact(&mut head).await.unwrap();
        }
        assert_eq!(head, [0, 0, 4, 8, 0, 0, 0, 0, 0], "a WINDOW_UPDATE of the connection");
        assert_eq!(stream.read_u32().await.unwrap(), 256 * 1024 - 65_535);
    }

    #[tokio::test]
    async fn the_kernel_looks_after_peers_that_vanish() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let places = Places::new(1, Shares { address: 1, network: 1, loopback: 1 });
        let (stream, _place) = accept(&listener, &places, &RefusedConnections::default()).await.unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap() && stream.nodelay().unwrap());
        let set = (sockopt::tcp_keepidle(&stream), sockopt::tcp_keepintvl(&stream));
        assert_eq!(set, (Ok(PROBE_AFTER), Ok(PROBE_EVERY)));
        assert_eq!(sockopt::tcp_keepcnt(&stream), Ok(PROBES));
    }
}
