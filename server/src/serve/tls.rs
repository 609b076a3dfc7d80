//! TLS on the one port: the server's certificate, and which connections ask for it.
//!
//! Plain and TLS share the port and are told apart by their first byte: a TLS connection begins with a record
//! of type 22 (RFC 8446, 5.1), and no method of HTTP and no preface of HTTP/2 begins with that byte. So there is
//! one port to open in a firewall, and agents and bookmarks that say `http` go on working until each has been
//! changed. `tls_only` ends that.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use netmon_agent::transport::Fingerprint;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The type of the record that a TLS connection begins with.
const HANDSHAKE: u8 = 22;

/// As much is read of a client that is refused.
const LINGER_BYTES: u64 = 64 * 1024;

/// What a client is told that speaks plain HTTP where it must not.
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 45\r\n\
    Connection: close\r\n\r\nthis server takes TLS alone: say https:// ..\n";

/// Where the certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and the CA, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Whether plain connections are refused.
    pub only: bool,
}

/// The certificate, ready for connections.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    only: bool,
    pub(super) fingerprint: Fingerprint,
}

/// A connection whose kind is known.
pub(super) enum Greeted {
    Plain(TcpStream),
    Secret(Box<TlsStream<TcpStream>>),
}

impl Tls {
    pub(super) fn load(files: &TlsFiles) -> anyhow::Result<Self> {
        let shown = |path: &Path| path.display().to_string();
        let remedy = "make both with: netmon-server cert";
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect).with_context(
                || format!("tls_cert: {}: expected certificates in PEM; {remedy}", shown(&files.certificate)),
            )?;
        let Some(own) = chain.first() else {
            anyhow::bail!("tls_cert: {}: no certificate in it; {remedy}", shown(&files.certificate));
        };
        let fingerprint = Fingerprint::of(own);
        let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| {
            format!("tls_key: {}: expected a private key in PEM; {remedy}", shown(&files.key))
        })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| {
                format!("{} is not the key of {}", shown(&files.key), shown(&files.certificate))
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), only: files.only, fingerprint })
    }

    /// Looks at the first byte and shakes hands if it asks for that. None: refused, and told so.
    pub(super) async fn greet(&self, mut stream: TcpStream) -> io::Result<Option<Greeted>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        if first == [HANDSHAKE] {
            return Ok(Some(Greeted::Secret(Box::new(self.acceptor.accept(stream).await?))));
        }
        if !self.only {
            return Ok(Some(Greeted::Plain(stream)));
        }
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await?;
        // Closing with something unread resets the connection, and the answer may be lost.
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = String::from_utf8_lossy(REFUSAL);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{} bytes", body.len());
    }
}
