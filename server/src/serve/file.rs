//! The configuration file. Every mistake in it is told, one line each: where, which key, what was expected.

use std::{fmt, net::SocketAddr, path::PathBuf};

use netmon_agent::config;
use serde::{Deserialize, de::DeserializeOwned};
use serde_yaml::{Mapping, Value};

use crate::store::Retention;

/// More would be a load test of somebody's resolver.
const MOST_REVERSE_DNS: u32 = 100;
pub(super) const KEYS: &[&str] = &[
    "listen",
    "data",
    "database_url",
    "api_token",
    "local",
    "mmdb",
    "oui_file",
    "reverse_dns_per_second",
    "whois_server",
    "tls_cert",
    "tls_key",
    "tls_only",
    "retention",
    "max_size",
];

/// A configuration file that cannot be used. `Display` gives one line for each mistake.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub struct ConfigError {
    /// Its name; empty: it is not about a file.
    pub(super) file: String,
    pub(super) mistakes: Vec<Mistake>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: Option<usize>,
    pub(super) problem: String,
}

impl ConfigError {
    pub(super) fn new(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { file: file.into(), mistakes: vec![Mistake { line: None, problem: problem.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Mistake { line, problem }) in self.mistakes.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            match line {
                _ if self.file.is_empty() => {}
                Some(line) => write!(f, "{}:{line}: ", self.file)?,
                None => write!(f, "{}: ", self.file)?,
            }
            f.write_str(problem)?;
        }
        Ok(())
    }
}

/// The file as it is written.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) data: Option<PathBuf>,
    pub(super) database_url: Option<String>,
    pub(super) api_token: Option<String>,
    pub(super) local: Option<bool>,
    pub(super) mmdb: Option<Vec<PathBuf>>,
    pub(super) oui_file: Option<PathBuf>,
    pub(super) reverse_dns_per_second: Option<u32>,
    pub(super) whois_server: Option<String>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) tls_only: Option<bool>,
    pub(super) retention: Retention,
    pub(super) max_size: Option<Size>,
}

/// A number of bytes, as a person writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Size(pub(super) u64);

impl TryFrom<Value> for Size {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor = match text[digits.len()..].trim() {
            "" => Some(1_u64),
            "M" | "MB" => Some(1_000_000),
            "G" | "GB" => Some(1_000_000_000),
            "T" | "TB" => Some(1_000_000_000_000),
            _ => None,
        };
        let bytes = factor.zip(digits.parse::<u64>().ok()).and_then(|(factor, n)| n.checked_mul(factor));
        bytes.map(Self).ok_or("no size")
    }
}

/// Reads the text of a file.
pub(super) fn parse(text: &str) -> Result<File, Vec<Mistake>> {
    let whole = |line: Option<usize>, problem: String| Err(vec![Mistake { line, problem }]);
    let root = match serde_yaml::from_str(text) {
        Ok(Value::Null) => Mapping::new(),
        Ok(Value::Mapping(root)) => root,
        Ok(_) => return whole(None, format!("expected keys and values, the keys are {}", KEYS.join(", "))),
        Err(error) => {
            let line = error.location().map(|place| place.line());
            let tab =
                line.and_then(|line| text.lines().nth(line - 1)).is_some_and(|line| line.contains('\t'));
            return whole(line, syntax(&error.to_string(), tab));
        }
    };
    let mut reader = Reader { text, mistakes: Vec::new() };
    let mut file = File::default();
    for (key, value) in &root {
        match key.as_str() {
            Some(key) => reader.read(key, value, &mut file),
            None => reader.say("", "expected names as keys, found something else".to_owned()),
        }
    }
    if reader.mistakes.is_empty() { Ok(file) } else { Err(reader.mistakes) }
}

/// The parser's own words may quote the file, a secret included, so that only a gist is kept.
fn syntax(said: &str, tab: bool) -> String {
    if said.contains("duplicate entry") {
        let keys = KEYS.iter().chain(Retention::KEYS);
        let twice = keys.copied().find(|key| said.contains(&format!("\"{key}\""))).unwrap_or("a key");
        return format!("{twice}: stands there twice; keep one of them");
    }
    let what = if tab { "use spaces, not tabs" } else { "expected lines of the form `key: value`" };
    format!("not YAML: {what}")
}

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn read(&mut self, key: &str, value: &Value, file: &mut File) {
        const PATH: &str = "a path";
        const FLAG: &str = "true or false";
        match key {
            "listen" => self.set(key, value, &mut file.listen, "an address and port such as 0.0.0.0:3000"),
            "data" => self.set(key, value, &mut file.data, PATH),
            // What is found in the next two is not shown: both may hold a secret.
            "database_url" => self.set_secret(key, value, &mut file.database_url),
            "api_token" => self.set_secret(key, value, &mut file.api_token),
            "local" => self.set(key, value, &mut file.local, FLAG),
            "mmdb" => self.set(key, value, &mut file.mmdb, "a list of paths"),
            "oui_file" => self.set(key, value, &mut file.oui_file, PATH),
            "reverse_dns_per_second" => {
                let expected = format!("a whole number from 0 (off) to {MOST_REVERSE_DNS}");
                self.set(key, value, &mut file.reverse_dns_per_second, &expected);
                if file.reverse_dns_per_second.is_some_and(|rate| rate > MOST_REVERSE_DNS) {
                    self.wrong(key, value, &expected);
                }
            }
            "whois_server" => {
                self.set(key, value, &mut file.whois_server, "the name of a server, or \"\" for none")
            }
            "tls_cert" => self.set(key, value, &mut file.tls_cert, PATH),
            "tls_key" => self.set(key, value, &mut file.tls_key, PATH),
            "tls_only" => self.set(key, value, &mut file.tls_only, FLAG),
            "retention" => self.read_retention(value, &mut file.retention),
            "max_size" => self.set(key, value, &mut file.max_size, "a size such as 500MB or 20GB"),
            _ => self.unknown("", key, KEYS),
        }
    }

    fn read_retention(&mut self, value: &Value, retention: &mut Retention) {
        let Value::Mapping(days) = value else {
            if !value.is_null() {
                self.wrong("retention", value, &format!("a section of {}", Retention::KEYS.join(", ")));
            }
            return;
        };
        let before = self.mistakes.len();
        for (key, value) in days {
            let key = key.as_str().unwrap_or_default();
            if !Retention::KEYS.contains(&key) {
                self.unknown("retention: ", key, Retention::KEYS);
            } else if value.as_u64().is_none_or(|days| u32::try_from(days).is_err()) {
                self.wrong(key, value, "a whole number of days, 0 for ever");
            }
        }
        if self.mistakes.len() > before {
            return;
        }
        match serde_yaml::from_value(value.clone()) {
            Ok(days) => *retention = days,
            Err(error) => self.say("retention", format!("retention: {error}")),
        }
    }

    /// Nothing after a key is as good as no key.
    fn set<T: DeserializeOwned>(&mut self, key: &str, value: &Value, into: &mut Option<T>, expected: &str) {
        match serde_yaml::from_value(value.clone()) {
            Ok(checked) => *into = checked,
            Err(_) => self.wrong(key, value, expected),
        }
    }

    fn set_secret(&mut self, key: &str, value: &Value, into: &mut Option<String>) {
        match serde_yaml::from_value(value.clone()) {
            Ok(checked) => *into = checked,
            Err(_) => self.say(key, format!("{key}: expected text (put it in quotes)")),
        }
    }

    fn wrong(&mut self, key: &str, value: &Value, expected: &str) {
        self.say(key, format!("{key}: expected {expected}, found {}", config::shown(value)));
    }

    fn unknown(&mut self, section: &str, key: &str, known: &[&str]) {
        let expected = match config::nearest(known.iter().copied(), key) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("expected one of {}", known.join(", ")),
        };
        self.say(key, format!("{section}{}: unknown key; {expected}", config::short(key)));
    }

    fn say(&mut self, key: &str, problem: String) {
        let is_it = |line: &str| {
            let name = line.trim_start().trim_start_matches(['"', '\'']).strip_prefix(key);
            name.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
        };
        let line = self.text.lines().position(|line| !key.is_empty() && is_it(line)).map(|place| place + 1);
        self.mistakes.push(Mistake { line, problem });
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn refused(text: &str) -> String {
        let mistakes = parse(text).expect_err("wrong");
        ConfigError { file: "server.yaml".to_owned(), mistakes }.to_string()
    }

    #[test]
    fn every_mistake_is_one_line() {
        assert_snapshot!(refused(
            "lsten: 1\nlisten: here\ndata: 7\nlocal: maybe\nmmdb: /a\nmax_size: 20 apples\n\
             reverse_dns_per_second: 1000\ntls_only: [1]\nxyzzy: 1\nretention:\n  flow_days: 7\n  dns_days: soon\n  raw_days: -1\n"
        ), @r##"
        server.yaml:1: lsten: unknown key; did you mean listen?
        server.yaml:2: listen: expected an address and port such as 0.0.0.0:3000, found "here"
        server.yaml:3: data: expected a path, found 7
        server.yaml:4: local: expected true or false, found "maybe"
        server.yaml:5: mmdb: expected a list of paths, found "/a"
        server.yaml:6: max_size: expected a size such as 500MB or 20GB, found "20 apples"
        server.yaml:7: reverse_dns_per_second: expected a whole number from 0 (off) to 100, found 1000
        server.yaml:8: tls_only: expected true or false, found a list
        server.yaml:9: xyzzy: unknown key; expected one of listen, data, database_url, api_token, local, mmdb, oui_file, reverse_dns_per_second, whois_server, tls_cert, tls_key, tls_only, retention, max_size
        server.yaml:11: retention: flow_days: unknown key; did you mean flows_days?
        server.yaml:12: dns_days: expected a whole number of days, 0 for ever, found "soon"
        server.yaml:13: raw_days: expected a whole number of days, 0 for ever, found -1
        "##);
        assert_snapshot!(refused("retention: 7\noui_file: {a: b}\nwhois_server: 5\n1: 2\n"), @r##"
        server.yaml:1: retention: expected a section of flows_days, minutes_days, host_minutes_days, hours_days, days_days, dns_days, drops_days, raw_days, incidents_days, found 7
        server.yaml:2: oui_file: expected a path, found a section
        server.yaml:3: whois_server: expected the name of a server, or "" for none, found 5
        server.yaml: expected names as keys, found something else
        "##);
        assert_snapshot!(refused("max_size: 99999999999T"), @r##"server.yaml:1: max_size: expected a size such as 500MB or 20GB, found "99999999999T""##);
        assert_snapshot!(refused("\"a\\e[31m\": 1"), @r##"server.yaml: a\u{1b}[31m: unknown key; expected one of listen, data, database_url, api_token, local, mmdb, oui_file, reverse_dns_per_second, whois_server, tls_cert, tls_key, tls_only, retention, max_size"##);
        assert_snapshot!(refused("- 1"), @r##"server.yaml: expected keys and values, the keys are listen, data, database_url, api_token, local, mmdb, oui_file, reverse_dns_per_second, whois_server, tls_cert, tls_key, tls_only, retention, max_size"##);
        assert_snapshot!(refused("listen: 127.0.0.1:1\nlisten: 127.0.0.1:1\n"), @r##"server.yaml:1: listen: stands there twice; keep one of them"##);
        assert_snapshot!(refused("data: [a\n"), @r##"server.yaml:2: not YAML: expected lines of the form `key: value`"##);
        assert_snapshot!(refused("retention:\n\tflows_days: 1\n"), @r##"server.yaml:2: not YAML: use spaces, not tabs"##);
    }

    #[test]
    fn a_secret_is_in_no_message() {
        for text in [
            "api_token: [t0psecret]\n",
            "api_token: {t0psecret: 1}\n",
            "api_token: 't0psecret\n",
            "api_token: t0psecret: x\n",
            "api_token: t0psecret\napi_token: t0psecret\n",
            "database_url: [postgres://me:t0psecret@db/netmon]\n",
        ] {
            let said = refused(text);
            assert!(!said.contains("t0psecret") && said.starts_with("server.yaml:"), "{said}");
        }
    }
}
