//! The files that packages bring explain every key, show values that are taken, and tell the defaults as they are.

use super::*;

const YAML: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/netmon-agent.example.yaml");
const UCI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openwrt/files/netmon-agent.config");
const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openwrt/files/netmon-agent.init");

/// Of the original agent: another name of `server_url`, and keys that have no effect.
const NOT_EXPLAINED: [&str; 6] = [
    "rails_base_url",
    "http_retry_max",
    "http_flush_workers",
    "spool_replay_interval",
    "conntrack_workers",
    "conntrack_event_buffer",
];

fn text(path: &str) -> String {
    std::fs::read_to_string(path).expect("a file that is shipped")
}

#[test]
fn the_example_file_is_right_and_complete() {
    let path = Path::new(YAML);
    let config = Config::load(path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.notes, Vec::<String>::new(), "the example sets nothing that has no effect");

    // Commented-out keys show defaults: with all of them in force nothing changes.
    let in_force: String = text(YAML)
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let all = Config::parse(path, &in_force).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(Config { notes: Vec::new(), ..all }, config);
    // Several servers are a list there.
    for key in read::KEYS.iter().filter(|key| !NOT_EXPLAINED.contains(key) && **key != "server_urls") {
        assert!(in_force.contains(&format!("\n{key}:")), "{key} is not in the example");
    }
}

/// An option of OpenWrt's file, with the explanation above it.
struct Shown {
    explanation: String,
    statement: String,
    key: String,
    value: String,
    in_force: bool,
}

fn shown() -> Vec<Shown> {
    let (mut shown, mut explanation, mut above) = (Vec::new(), String::new(), String::new());
    for line in text(UCI).lines().map(str::trim) {
        let statement = line.strip_prefix('#').unwrap_or(line);
        if statement.starts_with("option ") || statement.starts_with("list ") {
            let mut words = statement.splitn(3, ' ').skip(1).map(str::to_owned);
            let (key, value) = (words.next().expect("a name"), words.next().expect("a value"));
            let value = value.trim_matches('\'').to_owned();
            // Options without a line between them are explained together.
            explanation = if above.is_empty() { explanation } else { std::mem::take(&mut above) };
            let in_force = !line.starts_with('#');
            shown.push(Shown {
                explanation: explanation.clone(),
                statement: statement.replace("AA:BB:...", &"AB".repeat(32)),
                key,
                value,
                in_force,
            });
        } else if let Some(words) = line.strip_prefix("# ") {
            above.push_str(words);
            above.push(' ');
        } else {
            above.clear();
            explanation.clear();
        }
    }
    shown
}

const HOST: &str = "a-host";

/// What a file with a server, a token and these lines is taken for.
fn uci(more: &str) -> Config {
    let server = if more.contains("server_url") { "" } else { "option server_url 'http://s:1'\n" };
    let token = if more.contains("auth_token") { "" } else { "option auth_token 't'\n" };
    let text = format!("config agent 'main'\n{server}{token}{more}\n");
    let config = Config::parse_uci(Path::new("it"), &text, HOST).unwrap_or_else(|error| panic!("{error}"));
    Config { notes: Vec::new(), ..config }
}

#[test]
fn every_option_is_explained_on_the_router() {
    let shown = shown();
    let init_script = ["enabled", "log_drops", "log_rate", "log_dns", "jail"];
    let keys = read::KEYS.iter().filter(|key| !NOT_EXPLAINED.contains(key));
    for key in keys.chain(&init_script) {
        let places: Vec<&Shown> = shown.iter().filter(|shown| shown.key == *key).collect();
        assert_eq!(places.len(), 1, "{key} is there so often");
        assert!(places[0].explanation.len() > 15, "{key} has no explanation: {}", places[0].explanation);
    }
    for Shown { key, .. } in &shown {
        let known = read::KEYS.contains(&key.as_str()) || init_script.contains(&key.as_str());
        assert!(known && !NOT_EXPLAINED.contains(&key.as_str()), "{key} has no effect");
    }
}

#[test]
fn what_is_shown_on_the_router_is_the_default_or_an_example() {
    let least = uci("");
    // Those whose default is told in words, which are looked at below.
    let mut examples = Vec::new();
    for Shown { explanation, statement, key, value, in_force } in shown() {
        if ["server_url", "auth_token"].contains(&key.as_str()) {
            assert!(in_force && value.is_empty(), "{key} is for the owner to fill in");
        } else if explanation.contains("Default: ") {
            assert!(!in_force, "{key}: an example is in force");
            assert_ne!(uci(&statement), least, "{key}: the example is the default");
            examples.push(key);
        } else {
            assert_eq!(uci(&statement), least, "{statement} is not the default");
        }
    }
    assert_eq!(
        examples,
        [
            "server_urls",
            "router_id",
            "server_fingerprint",
            "tls_ca",
            "nflog_groups",
            "dns_nflog_groups",
            "lease_files",
            "lan_interfaces",
            "wan_interfaces",
            "lan_subnets",
            "qname_hash_salt",
        ],
        "look at the words for their defaults, then put them here"
    );
    assert_eq!((least.router_id.as_str(), least.server_fingerprints.len()), (HOST, 0));
    assert_eq!((&least.tls_ca, least.lease_files.len(), least.qname_hash_salt.reveal()), (&None, 0, ""));
    let found_out = (least.lan_interfaces.len(), least.wan_interfaces.len(), least.lan_subnets.len());
    assert_eq!(found_out, (0, 0, 0));
    let groups = |config: Config| (config.nflog_groups, config.dns_nflog_groups);
    assert_eq!(groups(least), (vec![], vec![]));
    let both = uci("option log_drops '1'\noption log_dns '1'");
    assert_eq!(groups(both), (vec![10, 11], vec![20]));
}

/// The init script has defaults of its own for what it looks at.
#[test]
fn the_init_script_has_the_defaults_that_are_shown() {
    let (shown, init) = (shown(), text(INIT));
    let mut seen = 0;
    for line in init.lines().map(str::trim).filter(|line| line.starts_with("config_get")) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[2] != "main" || words[3] == "tls_ca" {
            continue;
        }
        let place = shown.iter().find(|shown| shown.key == words[3]).expect(line);
        assert_eq!(words[4..], [place.value.as_str()], "{line}");
        seen += 1;
    }
    assert!(seen >= 9, "{seen} lines of the init script were looked at");
}
