//! One port for everything: HTTP/1 and HTTP/2, pages and gRPC, plain and TLS.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tracing::{debug, warn};

use super::tls::{Greeted, Tls};

/// The most connections at once; the next ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// A client that takes longer to send its request's head is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent HTTP/2 peer is asked whether it lives, and cut off if it does not say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow-control window of a connection and of a stream, in bytes: room for a full batch on the way.
const WINDOW: u32 = 4 * 1024 * 1024;

/// Serves `routes` until `shutdown` resolves; then calls `closing` and gives what is open `drain` to end.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    routes: Router,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
    closing: impl FnOnce(),
) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_concurrent_streams(64);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopping) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut shutdown => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let caller = Caller { tls: tls.clone(), http: http.clone(), routes: routes.clone() };
        let (watcher, mut stopping) = (graceful.watcher(), stopping.clone());
        tokio::spawn(async move {
            // A client that has said nothing yet must not hold up the end.
            let greeted = tokio::select! {
                greeted = caller.greet(stream) => greeted,
                _ = stopping.changed() => None,
            };
            match greeted {
                Some(Greeted::Plain(stream)) => caller.serve(stream, watcher).await,
                Some(Greeted::Secret(stream)) => caller.serve(*stream, watcher).await,
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
    tls: Option<Tls>,
    http: auto::Builder<TokioExecutor>,
    routes: Router,
}

impl Caller {
    async fn greet(&self, stream: TcpStream) -> Option<Greeted> {
        let Some(tls) = &self.tls else { return Some(Greeted::Plain(stream)) };
        match tls.greet(stream, HEAD_TIMEOUT).await {
            Ok(greeted) => greeted,
            Err(error) => {
                debug!(%error, "a connection ended before its first request");
                None
            }
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, watcher: Watcher) {
        let service = TowerToHyperService::new(self.routes.clone());
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            debug!(%error, "a connection ended badly");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Acks are small and must not wait for more.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY could not be set");
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
