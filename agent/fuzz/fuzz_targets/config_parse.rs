//! Any bytes, read as a configuration of both forms: no panic, mistakes in one line each, and what is taken is within the
//! bounds that the rest of the agent relies on. A secret is in no message, whatever else is in the file.
#![no_main]

use std::{path::Path, time::Duration};

use libfuzzer_sys::fuzz_target;
use netmon_agent::{Config, config::ConfigErrors};

/// In none of the agent's own words.
const SECRET: &str = "k3ep-this-t0-yourself";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check(yaml(text));
    check(uci(text));
    // Without an anchor in its line the secret cannot stand anywhere else, or become a key.
    if !text.contains(SECRET) {
        let with_secret = [
            check(yaml(&format!("auth_token: {SECRET}\n{text}"))),
            check(uci(&format!("config agent 'main'\n\toption auth_token '{SECRET}'\n{text}"))),
        ];
        assert!(with_secret.iter().all(|said| !said.contains(SECRET)), "a secret in {with_secret:?}");
    }
});

fn yaml(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(Path::new("agent.conf"), text)
}

fn uci(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse_uci(Path::new("agent.conf"), text, "attic")
}

/// Checks what was made of a file, and returns everything that would be printed of it.
fn check(parsed: Result<Config, ConfigErrors>) -> String {
    match parsed {
        Ok(config) => {
            assert!((1..=64).contains(&config.router_id.len()) && config.router_id.is_ascii());
            assert!(!config.server_urls.is_empty() && !config.auth_token.reveal().is_empty());
            assert!(config.queue_depth >= 1 && config.nflog_source_rate >= 1 && config.qname_hash_cap >= 1);
            assert!((1..=8192).contains(&config.batch_max_events));
            assert!(config.heartbeat_interval >= Duration::from_secs(1));
            assert!(config.identity_interval >= Duration::from_secs(10));
            assert!(config.spool_dir.is_absolute() && config.dnsmasq_log_path.is_absolute());
            assert!(config.lease_files.iter().all(|path| path.is_absolute()));
            for (network, length) in &config.lan_subnets {
                assert!(*length <= if network.is_ipv4() { 32 } else { 128 });
            }
            format!("{config:?}")
        }
        Err(errors) => {
            let said = errors.to_string();
            assert!(said.lines().count() >= 1);
            for line in said.lines() {
                assert!(line.starts_with("agent.conf"), "{line:?} is no line of its own");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
            said
        }
    }
}
