//! The bytes between agent and server, plain or secret, and whether the other side speaks what was expected.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// What is spoken over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// gRPC.
    Http2,
    /// JSON batches.
    Http1,
}

impl Spoken {
    pub(super) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }

    /// What is wrong with a plain answer that begins so.
    fn objection(self, first: u8) -> Option<&'static str> {
        match (self, first) {
            // Record types of TLS (RFC 8446, 5.1): alert and handshake.
            (_, 0x15 | 0x16) => Some("the server speaks TLS there: write https:// in server_url"),
            // HTTP/2 begins with the length of a SETTINGS frame, which is short (RFC 9113, 3.4).
            (Self::Http2, b'H') => Some(
                "the server answered in HTTP/1: it takes TLS alone (write https:// in server_url), \
                 or no netmon-server listens there",
            ),
            _ => None,
        }
    }
}

/// Why the other side cannot be understood, once that is known. A clone tells of the same connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Objection(Arc<OnceLock<&'static str>>);

impl Objection {
    pub(super) fn get(&self) -> Option<&'static str> {
        self.0.get().copied()
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    objection: Objection,
}

#[derive(Debug)]
enum Stream {
    /// Until the first byte has come, what is expected of it.
    Plain(TcpStream, Option<Spoken>),
    Secret(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, spoken: Spoken) -> Self {
        Self { stream: Stream::Plain(stream, Some(spoken)), objection: Objection::default() }
    }

    pub(super) fn secret(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Secret(Box::new(stream)), objection: Objection::default() }
    }

    pub(super) fn objection(&self) -> Objection {
        self.objection.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (stream, expected) = match &mut this.stream {
            Stream::Plain(stream, expected) => (stream, expected),
            Stream::Secret(stream) => return Pin::new(stream).poll_read(cx, buf),
        };
        let before = buf.filled().len();
        let polled = Pin::new(stream).poll_read(cx, buf);
        if let Some(first) = buf.filled().get(before)
            && let Some(spoken) = expected.take()
            && let Some(objection) = spoken.objection(*first)
        {
            let objection = *this.objection.0.get_or_init(|| objection);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, objection)));
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream, _) => Pin::new(stream).poll_write(cx, buf),
            Stream::Secret(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Secret(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream, _) => stream.is_write_vectored(),
            Stream::Secret(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream, _) => Pin::new(stream).poll_flush(cx),
            Stream::Secret(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Stream::Secret(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
