//! Any bytes, read as a configuration: no panic, mistakes in one line each, and what is taken is within the
//! bounds that the rest of the agent relies on. A secret is in no message.
#![no_main]

use std::{path::Path, time::Duration};

use libfuzzer_sys::fuzz_target;
use netmon_agent::Config;

/// The value of `auth_token` in the seeds; whatever the fuzzer does to it, whole it must not be printed.
const SECRET: &str = "k3ep-this-t0-yourself";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(Path::new("agent.yaml"), text) {
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
            let token = config.auth_token.reveal();
            // A short one may be a part of any word.
            if token.len() >= 12 {
                assert!(!format!("{:?}", config.auth_token).contains(token));
                assert!(config.notes.iter().all(|note| !note.contains(token)));
            }
        }
        Err(errors) => {
            let said = errors.to_string();
            assert!(said.lines().count() >= 1);
            for line in said.lines() {
                assert!(line.starts_with("agent.yaml"), "{line:?} is no line of its own");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
            // As a value it is a secret; as a key it is somebody's mistake.
            let as_value = text.lines().all(|line| !line.contains(SECRET) || line.starts_with("auth_token: "));
            assert!(!as_value || !said.contains(SECRET), "a secret in {said:?}");
        }
    }
});
