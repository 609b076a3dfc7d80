use insta::assert_snapshot;

use super::*;

mod shipped;

const REQUIRED: &str = "router_id: home\nserver_url: http://192.168.1.2:3000\nauth_token: t0psecret\n";

fn refused(text: &str) -> String {
    let error = Config::parse(Path::new("agent.yaml"), text).expect_err("a mistake");
    let message = error.to_string();
    assert!(!message.contains("t0psecret"), "the token is never shown: {message}");
    message
}

fn accepted(more: &str) -> Config {
    let text = format!("{REQUIRED}{more}");
    Config::parse(Path::new("agent.yaml"), &text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_least_file_gives_the_defaults() {
    assert_eq!(accepted(""), Config::new("home", "http://192.168.1.2:3000", "t0psecret"));
    assert_eq!(accepted("lan_subnets:\nmetrics_bind:\n"), accepted(""), "an empty key is as good as none");
}

#[test]
fn the_file_of_the_original_agent_is_accepted() {
    let old = "router_id: router-01\nrails_base_url: \"http://10.0.0.2:4000/\"\nauth_token: t0psecret\n\
        nflog_groups: [1, 2]\ndnsmasq_log_path: /tmp/dnsmasq.log\nlan_interfaces: [br-lan]\n\
        wan_interfaces: [eth0]\nlan_subnets: [192.168.1.0/24, 'fd00::/64']\nmetrics_bind: 127.0.0.1:9109\n\
        batch_max_events: 250\nbatch_max_wait: 1s\nqueue_depth: 2000\nspool_dir: /tmp/spool\n\
        spool_max_bytes: 52428800\nqname_hash_salt: pepper\nqname_hash_cap: 200\nemit_conntrack_new: false\n\
        http_timeout: 5s\nhttp_retry_max: 5\nhttp_retry_base: 1s\nhttp_flush_workers: 2\n\
        spool_replay_interval: 5s\nheartbeat_interval: 30s\nconntrack_read_buffer: 4194304\n\
        conntrack_workers: 2\nconntrack_event_buffer: 4096\n";
    let config = Config::parse(Path::new("agent.yaml"), old).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.server_urls, ["http://10.0.0.2:4000"]);
    assert_eq!(config.lan_subnets.len(), 2);
    assert_snapshot!(config.notes.join("\n"), @r##"
    batch_max_events has no effect: all events of one wake-up are one batch, sent at once
    batch_max_wait has no effect: batches are sent at once
    emit_conntrack_new has no effect: new connections are always reported
    http_retry_base has no effect: reconnection waits from 500ms up to 30s
    qname_hash_salt has no effect: names are sent in full; only transport: http hashes them
    qname_hash_cap has no effect: names are sent in full; only transport: http hashes them
    http_retry_max has no effect: a batch stays in the spool until the server has it
    http_flush_workers has no effect: one connection carries everything, in order
    spool_replay_interval has no effect: the spool is sent as soon as the server is there
    conntrack_workers has no effect: one thread reads conntrack
    conntrack_event_buffer has no effect: conntrack_read_buffer and the spool take bursts
    "##);
}

#[test]
fn what_is_heard_beside_connections_is_chosen() {
    let config = accepted(
        "nflog_groups: [10, 11]\ndns_nflog_groups: [20]\ndns_log: off\nlease_files: [/tmp/dhcp.leases]\n\
        transport: http\nbatch_max_events: 100\nqname_hash_salt: pepper\n",
    );
    assert_eq!((config.nflog_groups, config.dns_nflog_groups), (vec![10, 11], vec![20]));
    assert_eq!((config.dns_log, config.transport), (DnsLogKind::Off, TransportKind::Http));
    assert_eq!(config.notes, ["lease_files has no effect: JSON batches have no word for devices"]);
    assert_snapshot!(refused(&format!("{REQUIRED}nflog_groups: [5]\ndns_nflog_groups: [5]\ndns_log: syslog\ntransport: mqtt\n")), @r##"
    agent.yaml:5: dns_nflog_groups: expected other groups than those of nflog_groups
    agent.yaml:6: dns_log: expected file or logread or off, found "syslog"
    agent.yaml:7: transport: expected grpc or http, found "mqtt"
    "##);
}

#[test]
fn several_servers_are_tried_in_order() {
    let text = "router_id: home\nserver_urls:\n  - http://a:1\n  - http://b:2\nauth_token: x\n";
    let config = Config::parse(Path::new("agent.yaml"), text).expect("right");
    assert_eq!(config.server_urls, ["http://a:1", "http://b:2"]);
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!("{:?}", accepted("qname_hash_salt: pepper\n"));
    assert!(!printed.contains("t0psecret") && !printed.contains("pepper"), "{printed}");
}

#[test]
fn every_mistake_is_one_line() {
    assert_snapshot!(refused("router_id: my router\nauth_tokn: t0psecret\nlan_subnet: [192.168.1.0/24]\nxyzzy: 1\n"), @r##"
    agent.yaml:1: router_id: expected 1 to 64 of the characters A-Z a-z 0-9 . _ : -, found "my router"
    agent.yaml:2: auth_tokn: unknown key; did you mean auth_token?
    agent.yaml:3: lan_subnet: unknown key; did you mean lan_subnets?
    agent.yaml:4: xyzzy: unknown key
    agent.yaml: auth_token: missing; expected the server's token
    agent.yaml: server_url: missing; expected a URL such as http://192.168.1.2:3000
    "##);
    assert_snapshot!(refused(&format!("{REQUIRED}batch_max_wait: soon\nheartbeat_interval: 5\nreport_interval: 10ms\n")), @r##"
    agent.yaml:4: batch_max_wait: expected a duration such as 500ms, 1s or 1m30s, found "soon"
    agent.yaml:5: heartbeat_interval: expected a duration such as 500ms, 1s or 1m30s, found 5
    agent.yaml:6: report_interval: expected a duration of at least 1s, found "10ms"
    "##);
    assert_snapshot!(refused(&format!("{REQUIRED}lan_subnets: [192.168.1.0/33]\nwan_interfaces: eth0\n")), @r##"
    agent.yaml:4: lan_subnets: expected a network such as 192.168.1.0/24 or fd00::/64, found "192.168.1.0/33"
    agent.yaml:5: wan_interfaces: expected a list, found "eth0"
    "##);
    assert_snapshot!(refused(&format!("{REQUIRED}metrics_bind: nowhere\nspool_dir: spool\nspool_max_bytes: 10\n")), @r##"
    agent.yaml:4: metrics_bind: expected an address and port such as 127.0.0.1:9109, found "nowhere"
    agent.yaml:5: spool_dir: expected an absolute path, found "spool"
    agent.yaml:6: spool_max_bytes: expected a whole number from 65536 to 1099511627776, found 10
    "##);
    assert_snapshot!(refused(&format!("{REQUIRED}set_sysctls: maybe\nnflog_groups: [70000]\nqueue_depth: -1\n")), @r##"
    agent.yaml:4: set_sysctls: expected true or false, found "maybe"
    agent.yaml:5: nflog_groups: expected a whole number from 0 to 65535, found 70000
    agent.yaml:6: queue_depth: expected a whole number from 1 to 1000000, found -1
    "##);
}

#[test]
fn required_keys_are_asked_for() {
    assert_snapshot!(refused(""), @r##"
    agent.yaml: router_id: missing; expected a name for this router, such as home
    agent.yaml: auth_token: missing; expected the server's token
    agent.yaml: server_url: missing; expected a URL such as http://192.168.1.2:3000
    "##);
    assert_snapshot!(refused("router_id: 12\nserver_url: https://a/b\nauth_token: ''\nserver_fingerprint: AB\n"), @r##"
    agent.yaml:1: router_id: expected text (put it in quotes), found 12
    agent.yaml:2: server_url: expected a URL such as http://192.168.1.2:3000, found "https://a/b"
    agent.yaml:3: auth_token: expected the server's token, found an empty text
    agent.yaml:4: server_fingerprint: expected the SHA-256 of a certificate: 64 hexadecimal digits in quotes, found "AB"
    "##);
    assert_snapshot!(refused("router_id: a\nserver_url: ftp://a\nauth_token: 5\n"), @r##"
    agent.yaml:2: server_url: expected a URL such as http://192.168.1.2:3000, found "ftp://a"
    agent.yaml:3: auth_token: expected the server's token as text (put it in quotes)
    "##);
    assert_snapshot!(refused(&format!("{REQUIRED}rails_base_url: http://b\n")), @"agent.yaml:4: rails_base_url: means the same as server_url; keep one of them");
    assert_snapshot!(refused("router_id: a\nserver_url: http://me:t0psecret@a\nauth_token: x\n"), @"agent.yaml:2: server_url: expected a URL such as http://192.168.1.2:3000, without a user name");
    assert_snapshot!(refused("router_id: a\nserver_urls: []\nauth_token: 'with space t0psecret'\n"), @r##"
    agent.yaml:2: server_urls: expected at least one URL
    agent.yaml:3: auth_token: expected printable ASCII without spaces; it travels in a header
    "##);
}

#[test]
fn what_is_not_yaml_is_refused_with_its_line() {
    assert_snapshot!(refused("router_id: home\nauth_token: [t0psecret\n"), @"agent.yaml:3: not YAML: expected lines of the form `key: value`");
    assert_snapshot!(refused("auth_token: t0psecret\nauth_token: t0psecret\n"), @"agent.yaml:2: auth_token: stands there twice; keep one of them");
    assert_snapshot!(refused("just words"), @"agent.yaml: expected lines of the form `key: value`");
    assert_snapshot!(refused("- a\n- b\n"), @"agent.yaml: expected lines of the form `key: value`");
    assert_snapshot!(refused("router_id: home\n\tx: 1\n"), @"agent.yaml:2: not YAML: use spaces, not tabs");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/does/not/exist.yaml")).expect_err("no file");
    assert_snapshot!(error, @"/does/not/exist.yaml: cannot read it: No such file or directory (os error 2)");
}
