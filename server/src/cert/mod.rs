//! `netmon-server cert`: a CA of one's own, and a certificate for this server that it signs.
//!
//! The CA stays: it is made once, and each later call signs a new certificate with it, so that agents which
//! know the CA go on without a change.

mod make;

use std::{
    fs,
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use netmon_agent::transport::Fingerprint;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use time::OffsetDateTime;

pub use make::{Authority, Issued};

use crate::serve::{ServeArgs, reachable_ip};

/// The files, in the directory `tls` of the data directory.
pub(crate) const DIRECTORY: &str = "tls";
pub(crate) const CERTIFICATE: &str = "server.pem";
pub(crate) const KEY: &str = "server.key";
const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// Flags of `cert`.
#[derive(clap::Args, Debug, Default)]
pub struct CertArgs {
    /// A name or address by which agents and browsers reach this server; may be repeated. The host's name,
    /// its address on the LAN and localhost are always in
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// How long the certificate is valid; browsers take no more than 825 days of a private CA
    #[arg(long, value_name = "DAYS", default_value_t = 820, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
    /// The server's data directory [default: ./netmon-data]
    #[arg(long, env = "NETMON_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The server's configuration, for where its data directory is
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Makes what is missing and says how to use it.
///
/// # Errors
/// A file cannot be read or written, or a name is none.
pub fn run(args: CertArgs, now: OffsetDateTime, out: &mut impl io::Write) -> anyhow::Result<()> {
    let options = ServeArgs { config: args.config, data: args.data, ..ServeArgs::default() }.resolve()?;
    let dir = options.data.join(DIRECTORY);
    let ip = reachable_ip(options.listen);
    let names = all_names(args.name, ip);
    let files = Files::open(&options.data, &dir)?;
    let (authority, kept) = files.authority(now)?;
    let issued = authority.issue(&names, now, args.days)?;
    files.write(KEY, 0o600, &issued.key)?;
    files.write(CERTIFICATE, 0o644, &issued.certificate)?;

    let fingerprint = Fingerprint::of(&CertificateDer::from_pem_slice(issued.certificate.as_bytes())?);
    let url = format!("https://{}", std::net::SocketAddr::new(ip, options.listen.port()));
    let until = now + time::Duration::days(args.days.into());
    writeln!(
        out,
        "{} {}\ncertificate in {}, until {}, for {}\nfingerprint {fingerprint}\n\n\
         Start netmon-server again: it takes TLS then, on the same port. On a router with OpenWrt:\n\n    \
         uci set netmon-agent.main.server_url='{url}'\n    \
         uci set netmon-agent.main.server_fingerprint='{fingerprint}'\n    \
         uci commit netmon-agent && /etc/init.d/netmon-agent reload\n\n\
         In /etc/netmon-agent/config.yaml elsewhere:\n\n    server_url: \"{url}\"\n    \
         server_fingerprint: \"{fingerprint}\"\n\n\
         Instead of the fingerprint, which changes with each certificate, an agent may have a copy of\n{} \
         as tls_ca. A browser that imports it shows no warning.",
        if kept { "the CA of before is kept:" } else { "a CA was made:" },
        dir.join(CA_CERTIFICATE).display(),
        dir.display(),
        until.date(),
        names.join(", "),
        dir.join(CA_CERTIFICATE).display(),
    )?;
    Ok(())
}

/// The given names and those that this host has anyway, each once.
fn all_names(given: Vec<String>, ip: IpAddr) -> Vec<String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let own = [host, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = Vec::new();
    for name in given.into_iter().chain([ip.to_string()]).chain(own) {
        if !name.is_empty() && name != "(none)" && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The directory of the files, and who owns the data that it belongs to.
struct Files {
    dir: PathBuf,
    owner: (u32, u32),
}

impl Files {
    fn open(data: &Path, dir: &Path) -> anyhow::Result<Self> {
        let failed = || format!("{}: the directory cannot be made", dir.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(failed)?;
        // Root may call this, and the server runs as somebody else: the key has to be that somebody's.
        let about = fs::metadata(data).with_context(failed)?;
        let files = Self { dir: dir.to_owned(), owner: (about.uid(), about.gid()) };
        files.hand_over(dir).with_context(failed)?;
        Ok(files)
    }

    fn hand_over(&self, path: &Path) -> io::Result<()> {
        let about = fs::metadata(path)?;
        if (about.uid(), about.gid()) == self.owner {
            return Ok(());
        }
        chown(path, Some(self.owner.0), Some(self.owner.1))
    }

    /// The CA that is there, or a new one. True: it was there.
    fn authority(&self, now: OffsetDateTime) -> anyhow::Result<(Authority, bool)> {
        let path = self.dir.join(CA_KEY);
        match fs::read_to_string(&path) {
            Ok(key) => {
                let failed = || format!("{}: expected the key of the CA in PEM", path.display());
                let authority = Authority::from_key(&key).with_context(failed)?;
                // An earlier call may have ended between the two files.
                if !self.dir.join(CA_CERTIFICATE).exists() {
                    self.write(CA_CERTIFICATE, 0o644, &authority.certificate(now)?)?;
                }
                Ok((authority, true))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let authority = Authority::new()?;
                self.write(CA_KEY, 0o600, &authority.key())?;
                self.write(CA_CERTIFICATE, 0o644, &authority.certificate(now)?)?;
                Ok((authority, false))
            }
            Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
        }
    }

    /// Whole or not at all.
    fn write(&self, name: &str, mode: u32, text: &str) -> anyhow::Result<()> {
        let (path, new) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let written = || {
            // One that an earlier call left behind may have another mode.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            self.hand_over(&new)?;
            fs::rename(&new, &path)
        };
        written().with_context(|| format!("{}: cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The first start of a server that is to speak TLS alone needs what this makes.
    #[test]
    fn a_certificate_can_be_made_for_a_server_that_wants_one() {
        let data = tempfile::tempdir().unwrap();
        let config = data.path().join("server.yaml");
        fs::write(&config, format!("data: {}\ntls_only: true\n", data.path().display())).unwrap();
        let serving = || ServeArgs { config: Some(config.clone()), ..ServeArgs::default() };
        let refused = serving().resolve_to_serve().unwrap_err().to_string();
        assert!(
            refused.contains("tls_only needs a certificate: make one with netmon-server cert"),
            "{refused}"
        );
        let args = CertArgs { config: Some(config.clone()), days: 30, ..CertArgs::default() };
        run(args, OffsetDateTime::now_utc(), &mut Vec::new()).unwrap();
        let tls = serving().resolve_to_serve().unwrap().tls.expect("TLS");
        assert!(tls.only && tls.certificate.exists());
    }

    #[test]
    fn the_ca_stays_and_the_certificate_is_new_each_time() {
        let data = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let make = || {
            let name = vec!["netmon.lan".to_owned()];
            let args = CertArgs { name, days: 30, data: Some(data.path().to_owned()), config: None };
            let mut said = Vec::new();
            run(args, now, &mut said).unwrap();
            let read = |name| fs::read_to_string(data.path().join(DIRECTORY).join(name)).unwrap();
            (String::from_utf8(said).unwrap(), read(CA_CERTIFICATE), read(CERTIFICATE))
        };
        let (said, ca, certificate) = make();
        assert!(said.starts_with("a CA was made:") && said.contains("netmon.lan, "), "{said}");
        let (said, ca_again, certificate_again) = make();
        assert!(said.starts_with("the CA of before is kept:"), "{said}");
        assert_eq!(ca, ca_again);
        assert_ne!(certificate, certificate_again);
        fs::remove_file(data.path().join(DIRECTORY).join(CA_CERTIFICATE)).unwrap();
        let (said, ca_anew, _) = make();
        assert!(said.starts_with("the CA of before is kept:"), "{said}");
        // The public key is a BIT STRING of 66 bytes: a point of P-256, not compressed.
        let public_key = |pem: &str| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let at = der.windows(4).position(|bytes| bytes == [3, 66, 0, 4]).unwrap();
            der[at..at + 68].to_vec()
        };
        assert_eq!(public_key(&ca_anew), public_key(&ca));
        for name in [KEY, CA_KEY] {
            let mode = fs::metadata(data.path().join(DIRECTORY).join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
