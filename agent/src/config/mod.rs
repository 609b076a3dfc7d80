//! The configuration file: YAML with the keys of the original agent and a few of our own.
//!
//! [`Config::parse`] looks at the whole file and reports every mistake in one line each: file, line, key
//! and what was expected. Secrets are in no message and in no `Debug` output.

mod read;
mod uci;
mod values;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

pub use values::shown;

use crate::{conntrack::MonitorConfig, transport::Fingerprint};

/// Where the file is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/netmon-agent/config.yaml";
/// Where it is on OpenWrt, if the one above is not there.
pub const DEFAULT_UCI: &str = "/etc/config/netmon-agent";

/// Everything the agent can be told, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Names this router to the server: 1 to 64 of `A-Z a-z 0-9 . _ : -`.
    pub router_id: String,
    /// Servers in the order in which they are tried: `http://HOST:PORT` or `https://HOST:PORT`.
    pub server_urls: Vec<String>,
    /// CAs that may sign a server's certificate, in PEM. `None`: those of the system, if no fingerprint is given.
    pub tls_ca: Option<PathBuf>,
    /// Certificates of servers that are trusted. Empty: any that a CA signed.
    pub server_fingerprints: Vec<Fingerprint>,
    /// The token that the server expects of agents.
    pub auth_token: Secret,
    /// Interfaces of the LAN. Empty: found out.
    pub lan_interfaces: Vec<String>,
    /// Interfaces to the outside. Empty: found out.
    pub wan_interfaces: Vec<String>,
    /// Networks of the LAN. Empty: found out.
    pub lan_subnets: Vec<(IpAddr, u8)>,
    /// Where Prometheus metrics are served. `None`: nowhere.
    pub metrics_bind: Option<SocketAddr>,
    /// How many events are kept in memory while the spool cannot be written.
    pub queue_depth: usize,
    /// Directory of the spool.
    pub spool_dir: PathBuf,
    /// The most bytes that the spool takes.
    pub spool_max_bytes: u64,
    /// Whether every batch is forced to the disk.
    pub spool_fsync: bool,
    /// How long connecting to a server may take.
    pub http_timeout: Duration,
    /// Time between two heartbeats.
    pub heartbeat_interval: Duration,
    /// Receive buffer of the conntrack socket.
    pub conntrack_read_buffer: usize,
    /// Longest time between two progress reports of a flow.
    pub report_interval: Duration,
    /// Whether the agent may switch on the kernel's accounting.
    pub set_sysctls: bool,
    /// Whether the kernel keeps DESTROY messages that it could not deliver.
    pub conntrack_reliable: bool,
    /// How events travel.
    pub transport: TransportKind,
    /// NFLOG groups that bring what the firewall drops.
    pub nflog_groups: Vec<u16>,
    /// NFLOG groups that bring DNS responses.
    pub dns_nflog_groups: Vec<u16>,
    /// How many drops a second are reported of one source, in the long run.
    pub nflog_source_rate: u32,
    /// Where the log of dnsmasq comes from.
    pub dns_log: DnsLogKind,
    /// The log of dnsmasq.
    pub dnsmasq_log_path: PathBuf,
    /// Files with DHCP leases. Empty: the usual ones.
    pub lease_files: Vec<PathBuf>,
    /// Time between two samples of the router's health.
    pub health_interval: Duration,
    /// Time between two full pictures of all devices.
    pub identity_interval: Duration,
    /// Whether rights that are not needed are given up at the start.
    pub drop_privileges: bool,
    /// `transport: http` only: the most events of one post.
    pub batch_max_events: usize,
    /// `transport: http` only: how long events may wait for others to be posted with.
    pub batch_max_wait: Duration,
    /// `transport: http` only: whether connections are told of before their end, too.
    pub emit_conntrack_new: bool,
    /// `transport: http` only: the first delay after a failure.
    pub http_retry_base: Duration,
    /// Mixed into hashes of names.
    pub qname_hash_salt: Secret,
    /// The most distinct names that are hashed at a time.
    pub qname_hash_cap: usize,
    /// What the log should say once about this file: keys that have no effect.
    pub notes: Vec<String>,
}

impl Config {
    /// A configuration with the required values and every default.
    pub fn new(
        router_id: impl Into<String>,
        server_url: impl Into<String>,
        auth_token: impl Into<String>,
    ) -> Self {
        Self {
            router_id: router_id.into(),
            server_urls: vec![server_url.into()],
            tls_ca: None,
            server_fingerprints: Vec::new(),
            auth_token: Secret::new(auth_token),
            lan_interfaces: Vec::new(),
            wan_interfaces: Vec::new(),
            lan_subnets: Vec::new(),
            metrics_bind: Some(SocketAddr::from(([127, 0, 0, 1], 9109))),
            queue_depth: 2000,
            spool_dir: PathBuf::from("/var/lib/netmon-agent/spool"),
            spool_max_bytes: 50 * 1024 * 1024,
            spool_fsync: false,
            http_timeout: Duration::from_secs(5),
            heartbeat_interval: Duration::from_secs(30),
            conntrack_read_buffer: 4 * 1024 * 1024,
            report_interval: Duration::from_secs(10),
            set_sysctls: true,
            conntrack_reliable: true,
            transport: TransportKind::Grpc,
            nflog_groups: Vec::new(),
            dns_nflog_groups: Vec::new(),
            nflog_source_rate: 20,
            dns_log: DnsLogKind::File,
            dnsmasq_log_path: PathBuf::from("/var/log/dnsmasq.log"),
            lease_files: Vec::new(),
            health_interval: Duration::from_secs(30),
            identity_interval: Duration::from_secs(600),
            drop_privileges: true,
            batch_max_events: 250,
            batch_max_wait: Duration::from_secs(1),
            emit_conntrack_new: false,
            http_retry_base: Duration::from_secs(1),
            qname_hash_salt: Secret::default(),
            qname_hash_cap: 200,
            notes: Vec::new(),
        }
    }

    /// Reads and checks a file of YAML.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::read(path, |text| Self::parse(path, text))
    }

    /// Reads and checks a file of OpenWrt's UCI.
    pub fn load_uci(path: &Path) -> Result<Self, ConfigErrors> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::read(path, |text| Self::parse_uci(path, text, &host))
    }

    fn read(path: &Path, parse: impl Fn(&str) -> Result<Self, ConfigErrors>) -> Result<Self, ConfigErrors> {
        match std::fs::read_to_string(path) {
            Ok(text) => parse(&text),
            Err(error) => {
                let expected = format!("cannot read it: {error}");
                Err(ConfigErrors {
                    file: path.to_owned(),
                    list: vec![Mistake { line: None, key: None, expected }],
                })
            }
        }
    }

    /// Checks the text of a file; `path` is for the messages only.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        read::parse(text).map_err(|list| ConfigErrors { file: path.to_owned(), list })
    }

    /// Checks the text of a file in OpenWrt's form; `host` is the name of this host.
    pub fn parse_uci(path: &Path, text: &str, host: &str) -> Result<Self, ConfigErrors> {
        read::parse_uci(text, host).map_err(|list| ConfigErrors { file: path.to_owned(), list })
    }

    /// The part that the conntrack source needs.
    pub fn monitor(&self) -> MonitorConfig {
        MonitorConfig {
            lan_interfaces: self.lan_interfaces.clone(),
            wan_interfaces: self.wan_interfaces.clone(),
            lan_subnets: self.lan_subnets.clone(),
            read_buffer_bytes: self.conntrack_read_buffer,
            report_interval: self.report_interval,
            set_sysctls: self.set_sysctls,
            reliable: self.conntrack_reliable,
        }
    }
}

/// How events travel to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// A stream of `netmon.v1.Collector`.
    Grpc,
    /// JSON batches as the original agent posted them.
    Http,
}

/// Where the log of dnsmasq comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsLogKind {
    /// A file or a named pipe.
    File,
    /// The system log of OpenWrt, by `logread`.
    Logread,
    /// It is not read.
    Off,
}

/// A string that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for where it is needed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { "(hidden)" })
    }
}

/// All mistakes of one file. `Display` gives one line each.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors {
    file: PathBuf,
    list: Vec<Mistake>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mistake) in self.list.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = mistake.line {
                write!(f, ":{line}")?;
            }
            if let Some(key) = &mistake.key {
                write!(f, ": {key}")?;
            }
            write!(f, ": {}", mistake.expected)?;
        }
        Ok(())
    }
}

/// One of them.
#[derive(Debug)]
struct Mistake {
    line: Option<usize>,
    key: Option<String>,
    expected: String,
}

/// The name that may be meant by an unknown one.
#[must_use]
pub fn nearest<'a>(known: impl Iterator<Item = &'a str> + Clone, unknown: &str) -> Option<&'a str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(known, unknown);
    let begins = known.clone().find(|known| unknown.len() > 2 && known.starts_with(unknown));
    let resembles = || known.min_by_key(distance).filter(|known| distance(known) <= 1 + unknown.len() / 3);
    begins.or_else(resembles)
}

/// A name that is the writer's and may be anything, as one short line.
#[must_use]
pub fn short(name: &str) -> String {
    name.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
