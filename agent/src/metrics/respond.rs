//! As much of HTTP as a scraper needs.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Scrape, render};

pub(super) const REQUEST_BYTES: usize = 4096;
const REQUEST_TIME: Duration = Duration::from_secs(2);

/// One connection at a time, each for a short time: this is for one scraper on the local network.
pub(super) async fn respond(listener: TcpListener, page: mpsc::Sender<Scrape>) {
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
