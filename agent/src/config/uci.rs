//! OpenWrt's `/etc/config/netmon-agent`, read by the agent itself: no shell stands between a value and its use,
//! so that a quote, a `$(...)` or a line feed in a value is part of it and nothing else.
//!
//! The grammar is that of libuci's `file.c`: words in single quotes (nothing is special within), in double quotes
//! (a backslash takes the next character as it is) or bare, joined without a space; `#` begins a comment. Stricter
//! than libuci: one section `config agent 'main'`, no option twice, no unknown statement.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::Mistake;

/// Larger than any file of options by far.
const MOST_BYTES: usize = 256 * 1024;
/// What the agent's init script and firewall include read, and the groups that follow from them.
const DROP_GROUPS: [u64; 2] = [10, 11];
const DNS_GROUP: u64 = 20;

/// Keys and values, and the line of each.
pub(super) struct Parsed {
    pub(super) root: Mapping,
    pub(super) lines: BTreeMap<String, usize>,
}

/// What a router is without a word about it: its spool is small and in RAM, its name is its host's.
fn defaults(host: &str) -> [(&'static str, Value); 4] {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "._:-".contains(*c);
    let id: String = host.chars().filter(allowed).take(64).collect();
    let id = if id.is_empty() { "router".to_owned() } else { id };
    [
        ("router_id", id.into()),
        ("spool_dir", "/tmp/netmon-agent/spool".into()),
        ("spool_max_bytes", (4 * 1024 * 1024).into()),
        ("dns_log", "off".into()),
    ]
}

pub(super) fn parse(text: &str, host: &str) -> Result<Parsed, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut parsed = Parsed { root: Mapping::new(), lines: BTreeMap::new() };
    let mut in_section = false;
    if text.len() > MOST_BYTES || text.contains('\0') {
        let expected = format!("expected a text of at most {MOST_BYTES} bytes");
        return Err(vec![Mistake { line: None, key: None, expected }]);
    }
    for (line, words) in statements(text).map_err(|mistake| vec![mistake])? {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let wrong = |expected: &str| Mistake { line: Some(line), key: None, expected: expected.to_owned() };
        match words[..] {
            ["package", _] if !in_section => {}
            ["config", "agent", "main"] if !in_section => in_section = true,
            ["config", ..] => mistakes.push(wrong("expected one section: config agent 'main'")),
            ["option" | "list", ..] if !in_section => {
                mistakes.push(wrong("expected config agent 'main' before the first option"));
            }
            ["option", key, value] => {
                if parsed.lines.insert(key.to_owned(), line).is_some() {
                    mistakes.push(twice(key, line));
                }
                parsed.root.insert(key.into(), value.into());
            }
            ["list", key, value] => {
                parsed.lines.entry(key.to_owned()).or_insert(line);
                match parsed.root.entry(key.into()).or_insert_with(|| Value::Sequence(Vec::new())) {
                    Value::Sequence(list) => list.push(value.into()),
                    _ => mistakes.push(twice(key, line)),
                }
            }
            _ => mistakes.push(wrong("expected option NAME 'VALUE' or list NAME 'VALUE'")),
        }
    }
    if mistakes.is_empty() && !in_section {
        mistakes.push(Mistake { line: None, key: None, expected: "expected config agent 'main'".to_owned() });
    }
    finish(&mut parsed, &mut mistakes, host);
    if mistakes.is_empty() { Ok(parsed) } else { Err(mistakes) }
}

fn twice(key: &str, line: usize) -> Mistake {
    let short: String = key.chars().take(40).flat_map(char::escape_debug).collect();
    Mistake {
        line: Some(line),
        key: Some(short),
        expected: "stands there twice; keep one of them".to_owned(),
    }
}

/// Takes out what is not the agent's, and fills in what follows from it.
fn finish(parsed: &mut Parsed, mistakes: &mut Vec<Mistake>, host: &str) {
    // An empty option is as good as none, as it is to `uci set`.
    parsed.root.retain(|_, value| value.as_str() != Some(""));
    let mut flag = |key: &str| match parsed.root.remove(key).as_ref().map(Value::as_str) {
        None => false,
        Some(word) => word.and_then(truth).unwrap_or_else(|| {
            let line = parsed.lines.get(key).copied();
            mistakes.push(Mistake {
                line,
                key: Some(key.to_owned()),
                expected: "expected 0 or 1".to_owned(),
            });
            false
        }),
    };
    // For the init script alone.
    let _ = (flag("enabled"), flag("jail"));
    let (drops, dns) = (flag("log_drops"), flag("log_dns"));
    if let Some(rate) = parsed.root.remove("log_rate")
        && !rate.as_str().is_some_and(is_rate)
    {
        let (line, expected) =
            (parsed.lines.get("log_rate").copied(), "expected a whole number from 1 to 1000");
        mistakes.push(Mistake { line, key: Some("log_rate".to_owned()), expected: expected.to_owned() });
    }
    let mut set = |key: &str, value: Value| {
        parsed.root.entry(key.into()).or_insert(value);
    };
    if drops {
        set("nflog_groups", DROP_GROUPS.map(Value::from).to_vec().into());
    }
    if dns {
        set("dns_nflog_groups", vec![Value::from(DNS_GROUP)].into());
    }
    for (key, value) in defaults(host) {
        set(key, value);
    }
    // The word for what is an empty text in YAML.
    if let Some(bind) = parsed.root.get_mut("metrics_bind").filter(|bind| bind.as_str() == Some("off")) {
        *bind = "".into();
    }
}

/// A number that reads the same to a shell: no sign, and no zero before it, which would make it octal.
fn is_rate(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|rate| (1..=1000).contains(&rate) && rate.to_string() == text)
}

/// The words that UCI's own `config_get_bool` takes.
pub(super) fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "yes" | "on" | "true" | "enabled" => Some(true),
        "0" | "no" | "off" | "false" | "disabled" => Some(false),
        _ => None,
    }
}

/// What a word of UCI may mean to a key: text first, then a number, a flag, and a list of one.
pub(super) fn meanings(value: &Value) -> Vec<Value> {
    let number = |value: &Value| Some(Value::from(value.as_str()?.parse::<u64>().ok()?));
    let mut meanings = vec![value.clone()];
    match value {
        Value::String(word) => {
            meanings.extend(number(value));
            meanings.extend(truth(word).map(Value::from));
            meanings.push(vec![value.clone()].into());
            meanings.extend(number(value).map(|number| vec![number].into()));
        }
        Value::Sequence(words) => {
            meanings.extend(words.iter().map(number).collect::<Option<Vec<_>>>().map(Value::from));
        }
        _ => {}
    }
    meanings
}

/// The words of each statement, and the line on which it begins.
fn statements(text: &str) -> Result<Vec<(usize, Vec<String>)>, Mistake> {
    let mut statements = Vec::new();
    let (mut line, mut begin) = (1, 1);
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if words.is_empty() && word.is_none() {
            begin = line;
        }
        match c {
            '\n' | ' ' | '\t' | '\r' => {
                words.extend(word.take());
                if c == '\n' {
                    line += 1;
                    statements.push((begin, std::mem::take(&mut words)));
                }
            }
            '#' if word.is_none() => {
                // To the end of the line, which ends the statement.
                if characters.by_ref().any(|c| c == '\n') {
                    line += 1;
                }
                statements.push((begin, std::mem::take(&mut words)));
            }
            quote @ ('\'' | '"') => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        None => {
                            let expected = format!("the {quote} that begins here has no end");
                            return Err(Mistake { line: Some(begin), key: None, expected });
                        }
                        Some(c) if c == quote => break,
                        Some('\\') if quote == '"' => word.extend(characters.next()),
                        Some(c) => word.push(c),
                    }
                    line += usize::from(word.ends_with('\n'));
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    statements.push((begin, words));
    statements.retain(|(_, words)| !words.is_empty());
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use proptest::prelude::*;
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const REQUIRED: &str =
        "config agent 'main'\n\toption server_url 'http://s:3000'\n\toption auth_token 't'\n";

    fn load(text: &str) -> Result<Config, String> {
        Config::parse_uci(Path::new("netmon-agent"), text, "My Router!").map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        load(text).expect_err("refused")
    }

    #[test]
    fn a_server_and_a_token_are_enough() {
        let config = load(REQUIRED).expect("right");
        assert_eq!(config.router_id, "MyRouter");
        assert_eq!(config.spool_dir, Path::new("/tmp/netmon-agent/spool"));
        assert_eq!((config.spool_max_bytes, config.nflog_groups.len()), (4 * 1024 * 1024, 0));
    }

    #[test]
    fn words_mean_what_their_option_takes() {
        let more = "option enabled '1'\nlist lan_subnets '192.168.1.0/24'\nlist lan_subnets fd00::/64\n\
            option lan_interfaces br-lan\noption set_sysctls 0\noption queue_depth \"77\"\noption router_id 12\n\
            option log_drops '1'\noption log_dns '1'\noption metrics_bind off # nowhere\noption dns_log ''\n";
        let config = load(&format!("{REQUIRED}{more}")).expect("right");
        assert_eq!((config.lan_subnets.len(), config.lan_interfaces.len()), (2, 1));
        assert_eq!((config.set_sysctls, config.queue_depth, config.router_id.as_str()), (false, 77, "12"));
        assert_eq!((config.nflog_groups, config.dns_nflog_groups), (vec![10, 11], vec![20]));
        assert_eq!(config.metrics_bind, None);
        let own = load(&format!("{REQUIRED}option log_drops 1\nlist nflog_groups 5\n")).expect("right");
        assert_eq!(own.nflog_groups, [5]);
    }

    #[test]
    fn mistakes_have_their_lines() {
        assert_snapshot!(refused(""), @"netmon-agent: expected config agent 'main'");
        assert_snapshot!(refused("option a b\n"), @"netmon-agent:1: expected config agent 'main' before the first option");
        let wrong = "option queue_depth many\noption enabled maybe\noption log_rate 0\nlist x 'a\nb'\nfoo\n";
        assert_snapshot!(refused(&format!("{REQUIRED}{wrong}")), @r##"
        netmon-agent:9: expected option NAME 'VALUE' or list NAME 'VALUE'
        netmon-agent:5: enabled: expected 0 or 1
        netmon-agent:6: log_rate: expected a whole number from 1 to 1000
        "##);
        assert_snapshot!(refused(&format!("{REQUIRED}option queue_depth many\noption sever_url 'x'\n")), @r##"
        netmon-agent:4: queue_depth: expected a whole number from 1 to 1000000, found "many"
        netmon-agent:5: sever_url: unknown key; did you mean server_url?
        "##);
        assert_snapshot!(refused(&format!("{REQUIRED}option auth_token 'again\n")), @"netmon-agent:4: the ' that begins here has no end");
        assert_snapshot!(refused(&format!("{REQUIRED}option auth_token x\nconfig agent 'b'\n")), @r##"
        netmon-agent:4: auth_token: stands there twice; keep one of them
        netmon-agent:5: expected one section: config agent 'main'
        "##);
    }

    /// The init script hands it to a shell's arithmetic, to which 08 is no number and 010 is eight.
    #[test]
    fn a_rate_is_written_as_a_number_is() {
        let with = |rate: &str| load(&format!("{REQUIRED}option log_rate '{rate}'\n"));
        for right in ["1", "8", "10", "1000"] {
            assert!(with(right).is_ok(), "{right}");
        }
        for wrong in ["08", "010", "+10", " 10", "10 ", "0", "1001", "0x10", "1e1", "-1"] {
            let said = with(wrong).expect_err(wrong);
            assert_eq!(said, "netmon-agent:4: log_rate: expected a whole number from 1 to 1000", "{wrong}");
        }
    }

    /// As `uci set` writes it.
    fn quoted(value: &str) -> String {
        format!("'{}'", value.replace('\'', "'\\''"))
    }

    #[test]
    fn hostile_values_stay_values() {
        for value in ["a'b", "$(reboot)", "a\nb", "`id`", "\\", "\"", "# no comment", &"x".repeat(4096)] {
            let text = format!("{REQUIRED}option qname_hash_salt {}\n", quoted(value));
            assert_eq!(load(&text).expect("right").qname_hash_salt.reveal(), value);
        }
    }

    proptest! {
        #[test]
        fn any_value_survives_quoting(value in "[^\0]{1,60}", double: bool) {
            let written = if double {
                format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
            } else {
                quoted(&value)
            };
            let words = statements(&format!("option a {written} # c\n")).map_err(|_| "refused").unwrap();
            prop_assert_eq!(&words[0].1, &["option".to_owned(), "a".to_owned(), value]);
        }

        #[test]
        fn no_text_is_too_much(text in "\\PC{0,200}|(config|option|list|'|\"|\\\\|#|\n| |a){0,60}") {
            let _ = load(&text);
        }
    }
}
