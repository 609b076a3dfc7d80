//! From the text of a file to a [`Config`], collecting every mistake on the way.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_yaml::{Mapping, Value};

use super::{
    Config, DnsLogKind, Mistake, Secret, TransportKind, uci,
    values::{self, Checked},
};
use crate::spool::SMALLEST_CAP_BYTES;

/// Every key, old and new.
pub(super) const KEYS: [&str; 42] = [
    "router_id",
    "server_url",
    "server_urls",
    "rails_base_url",
    "auth_token",
    "nflog_groups",
    "dnsmasq_log_path",
    "lan_interfaces",
    "wan_interfaces",
    "lan_subnets",
    "metrics_bind",
    "batch_max_events",
    "batch_max_wait",
    "queue_depth",
    "spool_dir",
    "spool_max_bytes",
    "spool_fsync",
    "qname_hash_salt",
    "qname_hash_cap",
    "emit_conntrack_new",
    "http_timeout",
    "http_retry_max",
    "http_retry_base",
    "http_flush_workers",
    "spool_replay_interval",
    "heartbeat_interval",
    "conntrack_read_buffer",
    "conntrack_workers",
    "conntrack_event_buffer",
    "report_interval",
    "set_sysctls",
    "conntrack_reliable",
    "transport",
    "dns_nflog_groups",
    "nflog_source_rate",
    "dns_log",
    "lease_files",
    "health_interval",
    "identity_interval",
    "drop_privileges",
    "tls_ca",
    "server_fingerprint",
];

pub(super) fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    let root = match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Mapping(root)) => root,
        Ok(Value::Null) => Mapping::new(),
        Ok(_) => return Err(vec![whole_file(None, "expected lines of the form `key: value`".to_owned())]),
        Err(error) => return Err(vec![syntax(text, &error)]),
    };
    check(File { origin: Origin::Yaml(text), root, mistakes: Vec::new(), notes: Vec::new() })
}

/// OpenWrt's form of the same. `host` is the name of this host.
pub(super) fn parse_uci(text: &str, host: &str) -> Result<Config, Vec<Mistake>> {
    let uci::Parsed { root, lines } = uci::parse(text, host)?;
    check(File { origin: Origin::Uci(lines), root, mistakes: Vec::new(), notes: Vec::new() })
}

fn check(mut file: File<'_>) -> Result<Config, Vec<Mistake>> {
    file.check_keys();
    let config = file.read();
    if file.mistakes.is_empty() {
        return Ok(Config { notes: file.notes, ..config });
    }
    file.mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
    Err(file.mistakes)
}

fn whole_file(line: Option<usize>, expected: String) -> Mistake {
    Mistake { line, key: None, expected }
}

/// The parser's own words may quote the file, a secret included, so only the place and a gist are kept.
fn syntax(text: &str, error: &serde_yaml::Error) -> Mistake {
    let said = error.to_string();
    if said.contains("duplicate entry") {
        let twice = KEYS.iter().find_map(|key| Some((*key, lines_of(text, key).nth(1)?)));
        let (key, line) = twice.map_or((None, None), |(key, line)| (Some(key.to_owned()), Some(line)));
        return Mistake { line, key, expected: "stands there twice; keep one of them".to_owned() };
    }
    let tabs = said.contains("tab");
    let what = if tabs { "use spaces, not tabs" } else { "expected lines of the form `key: value`" };
    whole_file(error.location().map(|place| place.line()), format!("not YAML: {what}"))
}

/// The lines, counted from one, on which a top-level key stands.
fn lines_of(text: &str, key: &str) -> impl Iterator<Item = usize> {
    let is_it = move |line: &str| {
        let name = line.strip_prefix(['"', '\'']).unwrap_or(line).strip_prefix(key);
        name.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    text.lines().enumerate().filter(move |(_, line)| is_it(line)).map(|(place, _)| place + 1)
}

/// Where the keys come from.
enum Origin<'a> {
    Yaml(&'a str),
    /// The line of each key.
    Uci(BTreeMap<String, usize>),
}

impl Origin<'_> {
    fn line(&self, key: &str) -> Option<usize> {
        match self {
            Self::Yaml(text) => lines_of(text, key).next(),
            Self::Uci(lines) => lines.get(key).copied(),
        }
    }
}

struct File<'a> {
    origin: Origin<'a>,
    root: Mapping,
    mistakes: Vec<Mistake>,
    notes: Vec<String>,
}

impl File<'_> {
    fn mistake(&mut self, key: &str, expected: impl Into<String>) {
        let (line, expected) = (self.origin.line(key), expected.into());
        self.mistakes.push(Mistake { line, key: Some(key.to_owned()), expected });
    }

    fn check_keys(&mut self) {
        let keys: Vec<Value> = self.root.keys().cloned().collect();
        for key in keys {
            let Some(key) = key.as_str() else {
                self.mistakes
                    .push(whole_file(None, "expected names as keys, found something else".to_owned()));
                continue;
            };
            if KEYS.contains(&key) {
                continue;
            }
            let hint = super::nearest(KEYS.iter().copied(), key)
                .map_or_else(String::new, |known| format!("; did you mean {known}?"));
            let line = self.origin.line(key);
            let expected = format!("unknown key{hint}");
            self.mistakes.push(Mistake { line, key: Some(super::short(key)), expected });
        }
    }

    /// The value of a key; none if it is missing or empty.
    fn get(&self, key: &str) -> Option<Value> {
        self.root.get(key).filter(|value| !value.is_null()).cloned()
    }

    /// Puts the checked value of a key in place, if it is there and right.
    fn set<T>(&mut self, key: &str, into: &mut T, check: impl Fn(&Value) -> Checked<T>) {
        let Some(value) = self.get(key) else { return };
        match check(&value) {
            Ok(checked) => *into = checked,
            Err(expected) => {
                let meanings = match self.origin {
                    Origin::Yaml(_) => Vec::new(),
                    Origin::Uci(_) => uci::meanings(&value),
                };
                match meanings.iter().find_map(|meaning| check(meaning).ok()) {
                    Some(checked) => *into = checked,
                    None => self.mistake(key, expected),
                }
            }
        }
    }

    fn set_number<T: TryFrom<u64>>(&mut self, key: &str, into: &mut T, least: u64, most: u64) {
        let what = || format!("expected a whole number from {least} to {most}");
        self.set(key, into, |value| T::try_from(values::number(value, least, most)?).map_err(|_| what()));
    }

    fn set_duration(&mut self, key: &str, into: &mut Duration, least_ms: u64) {
        self.set(key, into, |value| values::duration(value, Duration::from_millis(least_ms)));
    }

    fn required(&mut self, key: &str, what: &str) {
        if self.get(key).is_none() {
            self.mistake(key, format!("missing; expected {what}"));
        }
    }

    fn read(&mut self) -> Config {
        let mut config = Config::new("", "", "");
        self.required("router_id", "a name for this router, such as home");
        self.set("router_id", &mut config.router_id, values::router_id);
        self.required("auth_token", "the server's token");
        self.set("auth_token", &mut config.auth_token, |value| values::token(value).map(Secret::new));
        self.read_servers(&mut config);
        self.set("tls_ca", &mut config.tls_ca, |value| match value.as_str() {
            Some("") => Ok(None),
            _ => path(value).map(Some),
        });
        self.set("server_fingerprint", &mut config.server_fingerprints, values::fingerprints);

        self.set("lan_interfaces", &mut config.lan_interfaces, |value| {
            values::list(value, values::interface)
        });
        self.set("wan_interfaces", &mut config.wan_interfaces, |value| {
            values::list(value, values::interface)
        });
        self.set("lan_subnets", &mut config.lan_subnets, |value| values::list(value, values::cidr));
        self.set("metrics_bind", &mut config.metrics_bind, values::bind);
        self.set_number("queue_depth", &mut config.queue_depth, 1, 1_000_000);
        self.set("spool_dir", &mut config.spool_dir, path);
        self.set_number("spool_max_bytes", &mut config.spool_max_bytes, SMALLEST_CAP_BYTES, 1 << 40);
        self.set("spool_fsync", &mut config.spool_fsync, values::flag);
        self.set_duration("http_timeout", &mut config.http_timeout, 100);
        self.set_duration("heartbeat_interval", &mut config.heartbeat_interval, 1_000);
        self.set_number("conntrack_read_buffer", &mut config.conntrack_read_buffer, 4096, 1 << 30);
        self.set_duration("report_interval", &mut config.report_interval, 1_000);
        self.set("set_sysctls", &mut config.set_sysctls, values::flag);
        self.set("conntrack_reliable", &mut config.conntrack_reliable, values::flag);
        self.read_parts(&mut config);
        self.read_transport(&mut config);
        self.read_without_effect();
        config
    }

    fn read_servers(&mut self, config: &mut Config) {
        let keys = ["server_url", "server_urls", "rails_base_url"];
        let given: Vec<&str> = keys.into_iter().filter(|key| self.get(key).is_some()).collect();
        match given[..] {
            [] => self.mistake("server_url", "missing; expected a URL such as http://192.168.1.2:3000"),
            [key] => self.set(key, &mut config.server_urls, |value| match value {
                Value::Sequence(list) if list.is_empty() => Err("expected at least one URL".to_owned()),
                Value::Sequence(_) => values::list(value, values::url),
                _ => values::url(value).map(|url| vec![url]),
            }),
            [first, second, ..] => {
                self.mistake(second, format!("means the same as {first}; keep one of them"))
            }
        }
    }

    fn read_parts(&mut self, config: &mut Config) {
        self.set("nflog_groups", &mut config.nflog_groups, groups);
        self.set("dns_nflog_groups", &mut config.dns_nflog_groups, groups);
        if config.nflog_groups.iter().any(|group| config.dns_nflog_groups.contains(group)) {
            self.mistake("dns_nflog_groups", "expected other groups than those of nflog_groups");
        }
        self.set_number("nflog_source_rate", &mut config.nflog_source_rate, 1, 1_000_000);
        let sources =
            [("file", DnsLogKind::File), ("logread", DnsLogKind::Logread), ("off", DnsLogKind::Off)];
        self.set("dns_log", &mut config.dns_log, |value| values::choice(value, &sources));
        self.set("dnsmasq_log_path", &mut config.dnsmasq_log_path, path);
        self.set("qname_hash_salt", &mut config.qname_hash_salt, |value| {
            values::secret(value).map(Secret::new)
        });
        self.set_number("qname_hash_cap", &mut config.qname_hash_cap, 1, 1_000_000);
        self.set("lease_files", &mut config.lease_files, |value| values::list(value, path));
        self.set_duration("health_interval", &mut config.health_interval, 1_000);
        self.set_duration("identity_interval", &mut config.identity_interval, 10_000);
        self.set("drop_privileges", &mut config.drop_privileges, values::flag);
    }

    fn read_transport(&mut self, config: &mut Config) {
        let kinds = [("grpc", TransportKind::Grpc), ("http", TransportKind::Http)];
        self.set("transport", &mut config.transport, |value| values::choice(value, &kinds));
        self.set_number("batch_max_events", &mut config.batch_max_events, 1, 8192);
        self.set_duration("batch_max_wait", &mut config.batch_max_wait, 0);
        self.set("emit_conntrack_new", &mut config.emit_conntrack_new, values::flag);
        self.set_duration("http_retry_base", &mut config.http_retry_base, 100);
        if config.transport == TransportKind::Grpc {
            self.note(&[
                ("batch_max_events", "all events of one wake-up are one batch, sent at once"),
                ("batch_max_wait", "batches are sent at once"),
                ("emit_conntrack_new", "new connections are always reported"),
                ("http_retry_base", "reconnection waits from 500ms up to 30s"),
                ("qname_hash_salt", "names are sent in full; only transport: http hashes them"),
                ("qname_hash_cap", "names are sent in full; only transport: http hashes them"),
            ]);
        } else {
            self.note(&[
                ("health_interval", "JSON batches have no word for the router's health"),
                ("identity_interval", "JSON batches have no word for devices"),
                ("lease_files", "JSON batches have no word for devices"),
            ]);
        }
    }

    /// Keys that are checked, so that a file stays portable, but change nothing here.
    fn read_without_effect(&mut self) {
        let (mut count, mut time) = (0_u64, Duration::ZERO);
        for key in ["http_retry_max", "http_flush_workers", "conntrack_workers", "conntrack_event_buffer"] {
            self.set_number(key, &mut count, 0, 1 << 40);
        }
        self.set_duration("spool_replay_interval", &mut time, 0);
        self.note(&[
            ("http_retry_max", "a batch stays in the spool until the server has it"),
            ("http_flush_workers", "one connection carries everything, in order"),
            ("spool_replay_interval", "the spool is sent as soon as the server is there"),
            ("conntrack_workers", "one thread reads conntrack"),
            ("conntrack_event_buffer", "conntrack_read_buffer and the spool take bursts"),
        ]);
    }

    /// Says of these keys, where they are set, that they have no effect.
    fn note(&mut self, replaced: &[(&str, &str)]) {
        for (key, instead) in replaced {
            if self.get(key).is_some() {
                self.notes.push(format!("{key} has no effect: {instead}"));
            }
        }
    }
}

fn groups(value: &Value) -> Checked<Vec<u16>> {
    values::list(value, |group| {
        u16::try_from(values::number(group, 0, 65535)?).map_err(|error| error.to_string())
    })
}

fn path(value: &Value) -> Checked<PathBuf> {
    let path = PathBuf::from(values::text(value)?);
    if path.is_absolute() { Ok(path) } else { Err(format!("expected an absolute path, found {path:?}")) }
}
