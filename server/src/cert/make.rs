//! Certificates by rcgen; the time is an argument.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

/// A CA lives as long as a household's hardware.
const CA_DAYS: i64 = 3650;
/// Clocks differ; a certificate is valid a little before it is made.
const EARLIER: Duration = Duration::days(1);

/// Signs certificates of servers.
pub struct Authority {
    key: KeyPair,
}

/// A server's certificate and its key, in PEM.
pub struct Issued {
    /// The certificate alone: agents have the CA.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { key: KeyPair::generate()? })
    }

    /// The one whose key this is.
    ///
    /// # Errors
    /// It is no key.
    pub fn from_key(pem: &str) -> anyhow::Result<Self> {
        Ok(Self { key: KeyPair::from_pem(pem)? })
    }

    /// Its private key, in PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Its certificate, in PEM.
    ///
    /// # Errors
    /// Those of signing.
    pub fn certificate(&self, now: OffsetDateTime) -> anyhow::Result<String> {
        let mut params = self.params();
        params.not_before = now - EARLIER;
        params.not_after = now + Duration::days(CA_DAYS);
        Ok(params.self_signed(&self.key)?.pem())
    }

    /// A certificate for a server of these names and addresses, valid for so many days.
    ///
    /// # Errors
    /// A name is neither a DNS name nor an address.
    pub fn issue(&self, names: &[String], now: OffsetDateTime, days: u16) -> anyhow::Result<Issued> {
        let key = KeyPair::generate()?;
        let wrong = || format!("{names:?}: expected names of hosts, such as netmon.lan, and addresses");
        let mut params = CertificateParams::new(names).with_context(wrong)?;
        params.distinguished_name = named(names.first().map_or("netmon-server", String::as_str));
        params.not_before = now - EARLIER;
        params.not_after = now + Duration::days(days.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(self.params(), &self.key);
        Ok(Issued { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
    }

    /// All of it follows from the key, so that the key is all there is to keep.
    fn params(&self) -> CertificateParams {
        let digest = Sha256::digest(self.key.der_bytes());
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("netmon CA {short}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
