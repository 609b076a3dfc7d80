//! DNS responses heard as packets, against a real dnsmasq's answers to a real client.

use netmon_agent::nflog::{Unreported, read_message};
use serde_json::Value;

use crate::support::{
    dnsmasq::{Answered, Dnsmasq, dig},
    dump::Dump,
    must, needs,
    network::Network,
    packets::{Payload, packet, send},
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] =
    &[("every_dns_answer_is_told_as_the_client_got_it", every_answer), ("broken_dns_is_counted", broken)];

const AGENT: &str = env!("CARGO_BIN_EXE_netmon-agent");

const RULES: &str = "
    table inet dns {
        chain forward {
            type filter hook forward priority 10
            udp sport 53 log prefix \"dns\" group 20
            tcp sport 53 log prefix \"dns\" group 20
        }
        chain output {
            type filter hook output priority 10
            udp sport 53 log prefix \"dns\" group 21
            tcp sport 53 log prefix \"dns\" group 21
        }
    }";

const GROUPS: &str = "dns_nflog_groups: [20, 21]\ndns_log: 'off'";

const ZONE: &str = "
    local=/lan.test/
    local-ttl=77
    host-record=host.lan.test,10.77.0.99,fd77::99
    cname=a.lan.test,b.lan.test
    cname=b.lan.test,host.lan.test
    mx-host=lan.test,mail.lan.test,10
    txt-record=text.lan.test,\"v=spf1 -all\",more
    srv-host=_sip._udp.lan.test,host.lan.test,5060
    ptr-record=99.0.77.10.in-addr.arpa,host.lan.test
    server=/remote.test/198.51.100.10";

/// What the internet knows. The texts do not fit into UDP, nor one line of a configuration.
fn remote_zone() -> String {
    let text = |letter: &str| [","; 3].map(|comma| format!("{comma}{}", letter.repeat(250))).concat();
    format!(
        "
    local=/remote.test/
    local-ttl=300
    host-record=www.remote.test,198.51.100.80,2001:db8:51::80
    cname=alias.remote.test,www.remote.test
    txt-record=long.remote.test{}
    txt-record=long.remote.test{}",
        text("a"),
        text("b")
    )
}

const QUESTIONS: [(&str, &str); 16] = [
    ("host.lan.test", "A"),
    ("host.lan.test", "AAAA"),
    ("HOST.Lan.Test", "A"),
    ("a.lan.test", "A"),
    ("a.lan.test", "AAAA"),
    ("nothing.lan.test", "A"),
    ("host.lan.test", "MX"),
    ("lan.test", "MX"),
    ("text.lan.test", "TXT"),
    ("_sip._udp.lan.test", "SRV"),
    ("99.0.77.10.in-addr.arpa", "PTR"),
    ("www.remote.test", "A"),
    ("alias.remote.test", "AAAA"),
    ("nothing.remote.test", "AAAA"),
    // Nobody knows whom to ask.
    ("elsewhere.example", "A"),
    ("long.remote.test", "TXT"),
];

fn rules() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("rules.nft");
    std::fs::write(&path, RULES).expect("written");
    must(&format!("nft -f {}", path.display()));
}

/// One line of a comparison.
fn line(client: &str, resolver: &str, answered: &Answered) -> String {
    format!("{client} by {resolver:?}: {answered:?}")
}

fn told(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let record = |record: &Value| {
        let ttl = record["ttl_s"].as_u64().expect("a TTL");
        (text(&record["name"]), ttl, text(&record["type"]), text(&record["data"]))
    };
    let answered = Answered {
        name: text(&event["name"]),
        record_type: text(&event["record_type"]),
        rcode: text(&event["rcode"]),
        answers: event["answers"].as_array().into_iter().flatten().map(record).collect(),
    };
    line(&text(&event["client_ip"]), &text(&event["resolver_ip"]), &answered)
}

fn every_answer() {
    needs(&["dnsmasq", "dig"]);
    let network = Network::lay_out();
    rules();
    let _remote = Dnsmasq::start(Some(&network.wan), &remote_zone());
    let _local = Dnsmasq::start(None, ZONE);
    let dump = Dump::start_with_groups(AGENT, GROUPS, &[20, 21]);
    let mut expected = Vec::new();
    let mut ask = |client, server: &str, resolver, options: &[&str]| {
        for (name, record_type) in QUESTIONS {
            let answered = dig(&network.lan, server, name, record_type, options);
            expected.push(line(client, resolver, &cut(answered)));
        }
    };
    ask("10.77.0.10", "10.77.0.1", "", &[]);
    ask("fd77::10", "fd77::1", "", &["+noedns"]);
    ask("10.77.0.10", "10.77.0.1", "", &["+tcp"]);
    ask("10.77.0.10", "198.51.100.10", "198.51.100.10", &[]);
    ask("fd77::10", "2001:db8:51::10", "2001:db8:51::10", &["+tcp"]);
    let events = dump.finish();
    let mut told: Vec<String> = events.iter().map(told).collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    for rcode in ["NOERROR", "NXDOMAIN", "REFUSED"] {
        assert!(expected.iter().any(|line| line.contains(rcode)), "no {rcode} among the answers");
    }
}

/// The agent tells the beginning of a long text.
fn cut(mut answered: Answered) -> Answered {
    for (.., data) in &mut answered.answers {
        data.truncate(255);
    }
    answered
}

fn broken() {
    let network = Network::lay_out();
    rules();
    let dump = Dump::start_with_groups(AGENT, GROUPS, &[20, 21]);
    // A response whose name points to itself; half a response; a query; TC.
    let header = |flags: u8| vec![0, 7, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let question = [1, b'a', 0, 0, 1, 0, 1];
    let looped = [header(0x80), vec![0xc0, 12, 0, 1, 0, 1]].concat();
    assert_eq!(read_message(&looped), Err(Unreported::Malformed));
    let payloads = [
        looped,
        header(0x80)[..11].to_vec(),
        [&header(0)[..], &question].concat(),
        [&header(0x82)[..], &question].concat(),
        [&header(0x80)[..], &question].concat(),
    ];
    let (wan, lan) =
        ("198.51.100.10".parse().expect("an address"), "10.77.0.10".parse().expect("an address"));
    let udp = |bytes: &Vec<u8>| Payload::Udp { from: 53, to: 4000, bytes: bytes.clone() };
    let packets: Vec<Vec<u8>> = payloads.iter().map(|bytes| packet(wan, lan, &udp(bytes), None)).collect();
    send(&network.wan, &packets);
    let events = dump.finish();
    let (gaps, responses): (Vec<_>, Vec<_>) = events.iter().partition(|event| event["type"] == "gap");
    assert_eq!(responses.len(), 1, "{events:#?}");
    assert_eq!((&responses[0]["name"], &responses[0]["client_ip"]), (&"a".into(), &"10.77.0.10".into()));
    let count = |gap: &&Value| gap["count"].as_u64().expect("a count");
    assert!(gaps.iter().all(|gap| gap["cause"] == "decode"), "{gaps:#?}");
    assert_eq!(gaps.iter().map(count).sum::<u64>(), 2, "{gaps:#?}");
}
