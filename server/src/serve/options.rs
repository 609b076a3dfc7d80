//! What `serve` is told: flags win over the environment, the environment over the file, the file over the
//! defaults.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    TlsFiles,
    file::{self, ConfigError, File, Size},
};
use crate::{
    cert,
    enrich::{EnrichOptions, whois::DEFAULT_SERVER},
    store::{DatabaseUrl, Retention},
};

const DEFAULT_LISTEN: &str = "0.0.0.0:3000";
const DEFAULT_DATA: &str = "./netmon-data";
const DATABASE_FILE: &str = "netmon.db";
/// Polite to a resolver that serves a whole house besides.
const DEFAULT_REVERSE_DNS: u32 = 2;

/// Flags of `serve`, and their environment.
#[derive(clap::Args, Debug, Default)]
pub struct ServeArgs {
    /// Address and port for pages, JSON and gRPC alike; port 0 takes a free one [default: 0.0.0.0:3000]
    #[arg(long, env = "NETMON_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Directory for the database, the token and the state of --local [default: ./netmon-data]
    #[arg(long, env = "NETMON_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// sqlite:PATH, a plain path, or postgres://... [default: DATA/netmon.db]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<DatabaseUrl>,
    /// YAML file with these settings and others; README.md lists them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also watch this machine's own connections, without an agent
    #[arg(long)]
    pub local: bool,
    /// The certificate for TLS, in PEM [default: DATA/tls/server.pem, where netmon-server cert puts it, if it is there]
    #[arg(long, env = "NETMON_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM [default: DATA/tls/server.key]
    #[arg(long, env = "NETMON_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Refuse connections without TLS
    #[arg(long)]
    pub tls_only: bool,
    /// The token for agents and people; empty lets nobody in [default: made at the first start]
    #[arg(long = "api-token", env = "NETMON_API_TOKEN", hide = true, hide_env_values = true)]
    pub api_token: Option<String>,
}

/// What `serve` does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where files go.
    pub data: PathBuf,
    /// Which database.
    pub database_url: DatabaseUrl,
    /// The token, if it is given.
    pub api_token: Option<String>,
    /// Whether to watch this machine.
    pub local: bool,
    /// Where to look up what hosts and devices are.
    pub enrich: EnrichOptions,
    /// The certificate, if TLS is spoken.
    pub tls: Option<TlsFiles>,
    /// For how long rows are kept.
    pub retention: Retention,
}

impl ServeArgs {
    /// The same as [`Self::resolve`], for who is about to serve.
    ///
    /// # Errors
    /// Its errors; and TLS alone is to be spoken without a certificate.
    pub fn resolve_to_serve(self) -> Result<Options, ConfigError> {
        let file = self.config.as_deref().map_or_else(String::new, |path| path.display().to_string());
        let options = self.resolve()?;
        if options.tls.as_ref().is_some_and(|tls| tls.only && !tls.certificate.exists()) {
            return Err(ConfigError::new(
                file,
                "tls_only needs a certificate: make one with netmon-server cert",
            ));
        }
        Ok(options)
    }

    /// Puts flags, environment, file and defaults together. A certificate may still have to be made.
    ///
    /// # Errors
    /// The file cannot be read, or says something that is not expected there.
    pub fn resolve(self) -> Result<Options, ConfigError> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let name = self.config.as_deref().unwrap_or_else(|| Path::new("")).display().to_string();
        let data = self.data.or(file.data).unwrap_or_else(|| DEFAULT_DATA.into());
        let from_file = file
            .database_url
            .map(|url| url.parse::<DatabaseUrl>())
            .transpose()
            .map_err(|error| ConfigError::new(&name, format!("database_url: {error}")))?;
        let only = self.tls_only || file.tls_only.unwrap_or_default();
        let tls = tls(&data, self.tls_cert.or(file.tls_cert), self.tls_key.or(file.tls_key), only)
            .map_err(|problem| ConfigError::new(&name, problem))?;
        let url_file = if self.database_url.is_none() { name.clone() } else { String::new() };
        let database_url =
            self.database_url.or(from_file).unwrap_or_else(|| DatabaseUrl::Sqlite(data.join(DATABASE_FILE)));
        if !database_url.is_plausible() {
            let problem =
                "database_url: expected sqlite:PATH, a plain path or postgres://USER:PASSWORD@HOST/NAME";
            return Err(ConfigError::new(url_file, problem));
        }
        Ok(Options {
            listen: match self.listen.or(file.listen) {
                Some(listen) => listen,
                None => DEFAULT_LISTEN.parse().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 3000))),
            },
            database_url,
            data,
            api_token: self.api_token.or(file.api_token),
            local: self.local || file.local.unwrap_or_default(),
            enrich: EnrichOptions {
                mmdb: file.mmdb.unwrap_or_default(),
                oui: file.oui_file,
                reverse_dns_per_second: file.reverse_dns_per_second.unwrap_or(DEFAULT_REVERSE_DNS),
                whois_server: match file.whois_server {
                    None => Some(DEFAULT_SERVER.to_owned()),
                    Some(server) => Some(server).filter(|server| !server.is_empty()),
                },
            },
            tls,
            retention: Retention {
                max_size_bytes: file.max_size.map_or(0, |Size(bytes)| bytes),
                ..file.retention
            },
        })
    }
}

fn tls(
    data: &Path,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    only: bool,
) -> Result<Option<TlsFiles>, String> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, only })),
        (Some(_), None) => Err("tls_cert is given without tls_key".to_owned()),
        (None, Some(_)) => Err("tls_key is given without tls_cert".to_owned()),
        (None, None) => {
            let dir = data.join(cert::DIRECTORY);
            let (certificate, key) = (dir.join(cert::CERTIFICATE), dir.join(cert::KEY));
            // Where TLS alone is to be spoken nothing is without it.
            Ok((only || certificate.exists()).then_some(TlsFiles { certificate, key, only }))
        }
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::new(&file, error.to_string()))?;
    file::parse(&text).map_err(|mistakes| ConfigError { file, mistakes })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn with_file(text: &str, args: ServeArgs) -> Result<Options, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let name = file.path().display().to_string();
        let args = ServeArgs { config: Some(file.path().to_owned()), ..args };
        args.resolve_to_serve().map_err(|error| error.to_string().replace(&name, "FILE"))
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "listen: 127.0.0.1:4000\ndata: /var/lib/netmon\nlocal: true\n";
        let args = ServeArgs { listen: Some("127.0.0.1:5000".parse().unwrap()), ..ServeArgs::default() };
        let options = with_file(text, args).unwrap();
        assert_eq!(options.listen.port(), 5000);
        assert_eq!(options.data, Path::new("/var/lib/netmon"));
        assert!(options.local);
        assert_eq!(options.database_url.to_string(), "sqlite:/var/lib/netmon/netmon.db");
        assert_eq!(ServeArgs::default().resolve().unwrap().listen.to_string(), DEFAULT_LISTEN);
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/netmon-server.example.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let example = with_file(&text, ServeArgs::default()).unwrap();
        assert_eq!(example.data, Path::new("/var/lib/netmon-server"));
        // Each line that is a setting once "#" is taken away.
        let all: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting)
                    if setting.starts_with(|c: char| {
                        c.is_ascii_lowercase() || c == ' ' && setting.starts_with("  ")
                    }) =>
                {
                    setting
                }
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut keys: Vec<_> = file::KEYS.iter().filter(|key| !matches!(**key, "local")).collect();
        keys.retain(|key| !all.contains(&format!("\n{key}:")));
        assert!(keys.is_empty(), "the example does not show {keys:?}");
        let shown = with_file(&all, ServeArgs::default()).unwrap();
        assert_eq!(shown.retention, Retention { max_size_bytes: 20_000_000_000, ..Retention::default() });
        assert_eq!((shown.listen, &shown.database_url), (example.listen, &example.database_url));
        assert_eq!(shown.enrich.whois_server, example.enrich.whois_server);
        assert_eq!(shown.enrich.reverse_dns_per_second, example.enrich.reverse_dns_per_second);
    }

    #[test]
    fn what_is_kept_can_be_set() {
        let text = "retention: {flows_days: 7, dns_days: 0}\nmax_size: 20GB\n";
        let retention = with_file(text, ServeArgs::default()).unwrap().retention;
        let expected =
            Retention { flows_days: 7, dns_days: 0, max_size_bytes: 20_000_000_000, ..Retention::default() };
        assert_eq!(retention, expected);
        let size = |text: &str| with_file(text, ServeArgs::default()).map(|o| o.retention.max_size_bytes);
        assert_eq!(size("max_size: 500"), Ok(500));
        assert_eq!(size("max_size: 1 T"), Ok(1_000_000_000_000));
        for (key, value) in Retention::KEYS.iter().zip(1_u32..) {
            let kept = with_file(&format!("retention: {{{key}: {value}}}"), ServeArgs::default()).unwrap();
            assert_ne!(kept.retention, Retention::default(), "{key}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("lsten: 1", "FILE:1: lsten: unknown key; did you mean listen?"),
            ("tls_cert: /a", "FILE: tls_cert is given without tls_key"),
            ("tls_key: /a", "FILE: tls_key is given without tls_cert"),
            ("tls_only: true", "FILE: tls_only needs a certificate: make one with netmon-server cert"),
            (
                "database_url: mysql://me:secret@db/netmon",
                "FILE: database_url: expected sqlite:PATH, a plain path or postgres://USER:PASSWORD@HOST/NAME",
            ),
        ] {
            let error = with_file(text, ServeArgs::default()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
