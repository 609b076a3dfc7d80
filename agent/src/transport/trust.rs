//! Whether a server's certificate is the right one, and if not, what to change.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};

use crate::host;

/// SHA-256 of a certificate in DER, as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// From 64 hexadecimal digits, with or without colons between bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// That of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(place, byte)| {
            let colon = if place == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")
        })
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a certificate must pass.
#[derive(Debug)]
pub(super) struct Verifier {
    /// CAs and the file that they come from.
    chain: Option<(Arc<WebPkiServerVerifier>, PathBuf)>,
    fingerprints: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        chain: Option<(Arc<WebPkiServerVerifier>, PathBuf)>,
        fingerprints: Vec<Fingerprint>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { chain, fingerprints, algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Fingerprint::of(end_entity);
        if !self.fingerprints.is_empty() && !self.fingerprints.contains(&presented) {
            return Err(refused(Refusal::Fingerprint { presented }));
        }
        match &self.chain {
            Some((chain, file)) => chain
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| match error {
                    Error::InvalidCertificate(error) => {
                        refused(Refusal::Certificate { error, file: file.clone(), presented })
                    }
                    error => error,
                }),
            None if self.fingerprints.is_empty() => Err(refused(Refusal::NothingTrusted { presented })),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    // Only TLS 1.3 is spoken, but the trait asks for both.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refused(refusal: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// Why a server is not believed, and what to change.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(
        "the server's certificate has the fingerprint {presented}, not that of server_fingerprint; if the \
         server got a new certificate, compare with what `netmon-server cert` printed and set the new one"
    )]
    Fingerprint { presented: Fingerprint },
    #[error(
        "nothing says which certificates to trust; set tls_ca to a copy of the server's ca.pem, or, if \
         `netmon-server cert` printed the same, server_fingerprint to {presented}"
    )]
    NothingTrusted { presented: Fingerprint },
    #[error("{}", certificate(error, file, presented))]
    Certificate { error: CertificateError, file: PathBuf, presented: Fingerprint },
}

fn certificate(error: &CertificateError, file: &std::path::Path, presented: &Fingerprint) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "the server's certificate expired on {}; make a new one on the server with `netmon-server cert`",
            day(*not_after)
        ),
        CertificateError::NotValidYetContext { time, not_before } => {
            let set =
                u64::try_from(host::NEVER_SET_US / 1_000_000).is_ok_and(|never| time.as_secs() >= never);
            let from = day(*not_before);
            let here = day(*time);
            if set {
                format!(
                    "the server's certificate is valid from {from}, here it is {here}; set both clocks by NTP"
                )
            } else {
                format!(
                    "the server's certificate is valid from {from}, and this host's clock was never set (it says \
                     {here}); wait for NTP, set it with date -s, or set server_fingerprint, which needs no clock"
                )
            }
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().take(10).map(|name| plain_name(name)).collect();
            format!(
                "the server's certificate is for {}, not for {}; use one of its names in server_url, or make a \
                 certificate for this one: netmon-server cert --name {1}",
                if names.is_empty() { "no name".to_owned() } else { names.join(", ") },
                expected.to_str()
            )
        }
        CertificateError::UnknownIssuer => format!(
            "the server's certificate is not signed by a CA in {}; set tls_ca to a copy of this server's ca.pem, \
             or, if `netmon-server cert` printed the same, server_fingerprint to {presented}",
            file.display()
        ),
        other => format!(
            "the server's certificate is refused ({other}); make another with `netmon-server cert`, or, if that \
             printed the same, set server_fingerprint to {presented}"
        ),
    }
}

/// A name as rustls shows it, `DnsName("a")` or `IpAddress(1.2.3.4)`, without the trimmings. It comes from a
/// stranger, and goes into a log.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')'));
    inner.trim_matches('"').chars().take(80).flat_map(char::escape_debug).collect()
}

/// Why a handshake failed, in words that say what to change.
pub(super) fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(refusal)))) => refusal.to_string(),
        Some(Error::InvalidMessage(_)) => {
            "the server does not speak TLS there; write http:// in server_url, or \
             give the server a certificate: netmon-server cert"
                .to_owned()
        }
        Some(Error::NoApplicationProtocol) => {
            "the server speaks TLS, but no HTTP/2; does a proxy stand before netmon-server?".to_owned()
        }
        Some(Error::AlertReceived(alert)) => {
            format!("the server ended the handshake ({alert:?}); does it speak TLS 1.3?")
        }
        Some(other) => format!("no TLS with the server: {other}"),
        None => format!(
            "the server closed the connection during the handshake ({error}); does it speak TLS? if not, write \
             http:// in server_url, or give it a certificate: netmon-server cert"
        ),
    }
}

/// The day of a time, `2026-11-24`: days to date in the proleptic Gregorian calendar, after Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms".
fn day(time: UnixTime) -> String {
    let days = Duration::from_secs(time.as_secs()).as_secs() / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) =
        (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let check = |seconds: u64, expected: &str| assert_eq!(day(at(seconds)), expected);
        check(0, "1970-01-01");
        check(951_782_400, "2000-02-29");
        check(951_868_800, "2000-03-01");
        check(1_735_689_599, "2024-12-31");
        check(1_795_478_400, "2026-11-24");
        check(4_107_542_400, "2100-03-01");
    }

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let text =
            "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";
        let print = Fingerprint::parse(text).expect("right");
        assert_eq!(print.to_string(), text);
        assert_eq!(Fingerprint::parse(&text.replace(':', "").to_ascii_lowercase()), Some(print));
        for bad in ["", "00:11", &text[1..], &format!("{text}0"), &text.replace("AA", "+A"), &"é".repeat(32)]
        {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }

    /// A router without a battery begins in 1970, and every certificate is of the future then.
    #[test]
    fn a_clock_that_was_never_set_is_named_as_the_cause() {
        let said = |time: u64| {
            let error =
                CertificateError::NotValidYetContext { time: at(time), not_before: at(1_795_478_400) };
            certificate(&error, std::path::Path::new("/ca.pem"), &Fingerprint([0; 32]))
        };
        let never = said(120);
        assert!(never.contains("clock was never set (it says 1970-01-01)"), "{never}");
        assert!(never.contains("wait for NTP") && never.contains("server_fingerprint"), "{never}");
        let behind = said(1_790_000_000);
        assert!(behind.contains("valid from 2026-11-24, here it is 2026-09-"), "{behind}");
    }

    #[test]
    fn a_strangers_names_stay_on_one_short_line() {
        assert_eq!(plain_name("DnsName(\"router.lan\")"), "router.lan");
        assert_eq!(plain_name("IpAddress(192.168.1.2)"), "192.168.1.2");
        assert_eq!(plain_name("DnsName(\"a\nb\")"), "a\\nb");
        assert!(plain_name(&"x".repeat(5000)).len() <= 80);
    }
}
