//! The road to a server: TCP, and TLS where its URL says `https`. Every transport begins here.
//!
//! A server is the right one if its certificate leads to a CA of `tls_ca` and names the host of the URL, or if
//! it is the very certificate of `server_fingerprint`. A fingerprint asks for no name, no CA and no date, so it
//! also works on a router whose clock starts in 1970. Given both, both must hold.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;

use super::{
    connection::{Connection, Spoken},
    failure::Failure,
    trust::{Fingerprint, Verifier, explain},
};
use crate::config::Config;

/// Where OpenWrt's `ca-bundle` and Debian's `ca-certificates` put the CAs of the public web.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Which servers are trusted. The default trusts none: it is for `http` URLs.
#[derive(Debug, Clone)]
pub struct Tls {
    trust: Trust,
    client: Arc<ClientConfig>,
}

/// What makes two of them the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trust {
    cas: Vec<CertificateDer<'static>>,
    fingerprints: Vec<Fingerprint>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.trust == other.trust
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::trusting(Trust::default(), None)
    }
}

impl Tls {
    /// From the agent's configuration. The error says which file is wrong and what was expected of it.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let fingerprints = config.server_fingerprints.clone();
        let wanted = config.server_urls.iter().any(|url| url.starts_with("https://"));
        let file = match &config.tls_ca {
            Some(file) => Some(file.as_path()),
            None if fingerprints.is_empty() => Some(Path::new(SYSTEM_CAS)).filter(|file| file.exists()),
            None => None,
        };
        let Some(file) = file.filter(|_| wanted) else {
            return Ok(Self::trusting(Trust { cas: Vec::new(), fingerprints }, None));
        };
        let cas = read_cas(file)?;
        let mut roots = RootCertStore::empty();
        // The system's bundle may hold one of a kind that this library does not know.
        let (taken, _) = roots.add_parsable_certificates(cas.iter().cloned());
        let none = || anyhow::anyhow!("tls_ca: {}: no certificate in it can be used as a CA", file.display());
        anyhow::ensure!(taken > 0, none());
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        Ok(Self::trusting(Trust { cas, fingerprints }, Some((chain, file.to_owned()))))
    }

    fn trusting(trust: Trust, chain: Option<(Arc<WebPkiServerVerifier>, PathBuf)>) -> Self {
        let provider = provider();
        let verifier =
            Verifier::new(chain, trust.fingerprints.clone(), provider.signature_verification_algorithms);
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap_or_else(|_| unreachable!("the provider speaks TLS 1.3"))
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Self { trust, client: Arc::new(client) }
    }

    /// Connects to the host of a URL, and shakes hands where it says `https`.
    pub(super) async fn connect(&self, url: &str, spoken: Spoken) -> Result<Connection, Failure> {
        let wrong = || Failure::Connect(format!("{url:?} is not a URL such as https://192.168.1.2:3000"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let secret = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secret { 443 } else { 80 });
        let stream =
            TcpStream::connect((host, port)).await.map_err(|error| Failure::Connect(error.to_string()))?;
        // Batches and acks are small and must not wait for more. A socket without it is slow, not wrong.
        let _ = stream.set_nodelay(true);
        if !secret {
            return Ok(Connection::plain(stream, spoken));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = vec![spoken.alpn().to_vec()];
        match TlsConnector::from(Arc::new(client)).connect(name, stream).await {
            Ok(stream) => Ok(Connection::secret(stream)),
            Err(error) => Err(Failure::Tls(explain(&error))),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read_cas(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = file.display();
    let text = std::fs::read(file).map_err(|error| {
        anyhow::anyhow!("tls_ca: {shown}: cannot read it ({error}); copy the server's ca.pem there")
    })?;
    let cas: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match cas {
        Ok(cas) if !cas.is_empty() => Ok(cas),
        _ => anyhow::bail!("tls_ca: {shown}: expected certificates in PEM, such as the server's ca.pem"),
    }
}
