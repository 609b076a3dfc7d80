//! Drops, names, identities, health, and which HTTP batches are known: told by what the tables then hold.

use diesel::prelude::*;
use diesel::sql_types::Text;
use netmon_server::domain::{
    Changes, DnsAnswer, DnsBucket, DnsData, DnsResponse, FirewallDrop, FlowName, Health, HealthMinute, Hook,
    HttpBatch, Identity, InterfaceHealth, Mac, NameReason, NamedFlow, Observed, RouterId,
};
use netmon_server::store::{DatabaseUrl, FlowFilter, Page, StoreError};

use crate::sample::{NOON, NOON_MINUTE, ended, ip, kept, ping6, tcp};
use crate::schema::sqlite_connection;
use crate::{all_flows, opened};

pub(crate) const PHONE: Mac = [2, 0, 0, 0, 0, 7];
const DAY_US: i64 = 24 * 3_600_000_000;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// What a query gives, one text a row. NULL reads "-".
pub(crate) fn lines(url: &DatabaseUrl, columns: &[&str], rest: &str) -> Vec<String> {
    let text = |column: &&str| match url {
        DatabaseUrl::Sqlite(_) => {
            format!(
                "CASE typeof({column}) WHEN 'blob' THEN lower(hex({column})) ELSE coalesce({column}, '-') END"
            )
        }
        // A boolean is a number in SQLite.
        DatabaseUrl::Postgres(_) => format!(
            "coalesce(CASE pg_typeof({column})::text WHEN 'bytea' THEN substr({column}::text, 3)
             WHEN 'boolean' THEN CASE {column}::text WHEN 'true' THEN '1' ELSE '0' END
             ELSE {column}::text END, '-')"
        ),
    };
    let line = columns.iter().map(text).collect::<Vec<_>>().join(" || ' ' || ");
    let query = diesel::sql_query(format!("SELECT {line} AS line {rest}"));
    let rows: Vec<Line> = match url {
        DatabaseUrl::Sqlite(_) => query.load(&mut sqlite_connection(url)).unwrap(),
        DatabaseUrl::Postgres(url) => query.load(&mut PgConnection::establish(url).unwrap()).unwrap(),
    };
    rows.into_iter().map(|row| row.line).collect()
}

pub(crate) fn observed<T>(router: RouterId, what: T) -> Observed<T> {
    Observed { router, time: NOON, what }
}

pub(crate) fn identity(router: RouterId, mac: Option<Mac>, addresses: &[&str]) -> Changes {
    let identity = Identity {
        mac,
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        host_name: "phone".to_owned(),
        vendor_class: String::new(),
        lease_until: Some(NOON + DAY_US),
        interface: "br-lan".to_owned(),
        last_seen: NOON,
    };
    Changes { identities: vec![observed(router, identity)], ..Changes::default() }
}

pub(crate) fn firewall_drop(src: &str, dst: &str) -> FirewallDrop {
    FirewallDrop {
        hook: Hook::Forward,
        prefix: "DROP_FWD".to_owned(),
        nflog_group: 10,
        in_interface: "wan0".to_owned(),
        out_interface: String::new(),
        src: ip(src),
        dst: ip(dst),
        src_port: 5,
        dst_port: 65_535,
        protocol: 6,
        tcp_flags: Some(2),
        icmp: None,
        src_mac: Some(PHONE),
        length: 60,
        left_out: 3,
    }
}

pub(crate) fn dns_response() -> DnsResponse {
    let (kind, ttl_s) = (1, Some(60));
    let data = DnsData::Address(ip("203.0.113.5"));
    DnsResponse {
        client: ip("192.168.1.20"),
        name: "www.example.org".to_owned(),
        kind,
        rcode: 0,
        answers: vec![DnsAnswer { name: "www.example.org".to_owned(), kind, data, ttl_s }],
        resolver: None,
        cached: false,
    }
}

pub(crate) fn a_drop_is_stored_with_its_ends(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    let drops =
        [("198.51.100.7", "192.168.1.20"), ("192.168.1.20", "198.51.100.8"), ("0.0.0.0", "255.255.255.255")]
            .map(|(src, dst)| observed(router, firewall_drop(src, dst)));
    writer.commit(&Changes { drops: drops.to_vec(), ..Changes::default() }).unwrap();
    let columns = [
        "d.address",
        "h.address",
        "hook",
        "p.text",
        "i.text",
        "f.out_interface_id",
        "dst_port",
        "tcp_flags",
        "icmp_type",
        "src_mac",
        "left_out",
    ];
    let rows = lines(
        url,
        &columns,
        "FROM firewall_drops f LEFT JOIN devices d ON d.id = f.device_id LEFT JOIN remote_hosts h ON h.id = f.host_id
         JOIN labels p ON p.id = f.prefix_id JOIN labels i ON i.id = f.in_interface_id ORDER BY f.id",
    );
    let rest = "3 DROP_FWD wan0 - 65535 2 - 020000000007 3";
    assert_eq!(
        rows,
        [format!("c0a80114 c6336407 {rest}"), format!("c0a80114 c6336408 {rest}"), format!("- - {rest}")]
    );
}

/// What the router itself gets and sends: the other end is the remote host.
pub(crate) fn the_router_is_no_remote_host_of_its_drops(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    let (own, outside) = ("192.0.2.1", "198.51.100.7");
    let drops = [(Hook::Input, outside, own), (Hook::Output, own, outside)]
        .map(|(hook, src, dst)| observed(router, FirewallDrop { hook, ..firewall_drop(src, dst) }));
    writer.commit(&Changes { drops: drops.to_vec(), ..Changes::default() }).unwrap();
    let rows = lines(url, &["h.address"], "FROM firewall_drops f JOIN remote_hosts h ON h.id = f.host_id");
    assert_eq!(rows, ["c6336407"; 2]);
    assert_eq!(lines(url, &["address"], "FROM remote_hosts"), ["c6336407"]);
}

pub(crate) fn answers_are_stored_in_their_order(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    let answer = |name: &str, kind, data, ttl_s| DnsAnswer { name: name.to_owned(), kind, data, ttl_s };
    let response = DnsResponse {
        client: ip("192.168.1.20"),
        name: "www.example.org".to_owned(),
        kind: 1,
        rcode: 0,
        answers: vec![
            answer("www.example.org", 5, DnsData::Text("cdn.example.net".to_owned()), Some(300)),
            answer("cdn.example.net", 1, DnsData::Address(ip("203.0.113.5")), None),
        ],
        resolver: None,
        cached: true,
    };
    let nothing = DnsResponse { rcode: 3, answers: Vec::new(), client: ip("127.0.0.1"), ..response.clone() };
    let dns = vec![observed(router, response), observed(router, nothing)];
    let changes = Changes { dns, ..ended(&[tcp(router, 1)]) };
    writer.commit(&changes).unwrap();
    writer.commit(&changes.clone_dns()).unwrap();
    let queries = lines(
        url,
        &["q.id", "d.address", "n.name", "q.client_ip", "q.type", "q.rcode", "q.resolver_ip", "q.cached"],
        "FROM dns_queries q JOIN domains n ON n.id = q.domain_id LEFT JOIN devices d ON d.id = q.device_id ORDER BY q.id",
    );
    assert_eq!(
        queries,
        [
            "1 c0a80114 www.example.org c0a80114 1 0 - 1",
            "2 - www.example.org 7f000001 1 3 - 1",
            "3 c0a80114 www.example.org c0a80114 1 0 - 1",
            "4 - www.example.org 7f000001 1 3 - 1",
        ]
    );
    let answers = lines(
        url,
        &["a.query_id", "a.position", "n.name", "a.type", "a.address", "a.text", "a.ttl_s"],
        "FROM dns_answers a JOIN domains n ON n.id = a.domain_id WHERE a.query_id < 3 ORDER BY a.query_id, a.position",
    );
    assert_eq!(
        answers,
        ["1 0 www.example.org 5 - cdn.example.net 300", "1 1 cdn.example.net 1 cb007105 - -"]
    );
    assert_eq!(lines(url, &["name"], "FROM domains ORDER BY name"), ["cdn.example.net", "www.example.org"]);
}

/// The same answers once more, in another commit.
trait CloneDns {
    fn clone_dns(&self) -> Changes;
}

impl CloneDns for Changes {
    fn clone_dns(&self) -> Changes {
        Changes { dns: self.dns.clone(), ..Changes::default() }
    }
}

pub(crate) fn counts_of_questions_are_stored(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    let bucket = DnsBucket {
        start: NOON,
        client: ip("192.168.1.20"),
        kind: "AAAA".to_owned(),
        name_hash: "b64:x\0".to_owned(),
        count: 7,
        nxdomain: 1,
    };
    let dns_buckets = vec![observed(router, bucket)];
    writer.commit(&Changes { dns_buckets, ..ended(&[tcp(router, 1)]) }).unwrap();
    let columns = ["d.address", "b.type", "b.name_hash", "b.count", "b.nxdomain"];
    let rows = lines(url, &columns, "FROM dns_buckets b JOIN devices d ON d.id = b.device_id");
    assert_eq!(rows, ["c0a80114 AAAA b64:x\u{fffd} 7 1"]);
}

pub(crate) fn a_minute_of_health_adds_up(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    let sample = |load: i64, count: i64, up: bool| Health {
        interval_ms: 30_000,
        load_milli: [load, 2, 3],
        disk_read_bytes: 4_096,
        conntrack_count: count,
        temperature_milli_c: (load > 1).then_some(-1_500),
        interfaces: vec![InterfaceHealth {
            name: "wan".to_owned(),
            bytes: [10, i64::MAX],
            up,
            ..InterfaceHealth::default()
        }],
        ..Health::default()
    };
    let mut first = sample(1, 90, false);
    first.add(sample(5, 80, true));
    assert_eq!(first.interfaces[0].bytes, [20, i64::MAX]);
    for health in [first, sample(7, 70, true)] {
        let health = vec![HealthMinute { router, minute: NOON_MINUTE, health }];
        writer.commit(&Changes { health, ..Changes::default() }).unwrap();
    }
    let columns = ["interval_ms", "load1_milli", "disk_read_bytes", "conntrack_count", "temperature_milli_c"];
    assert_eq!(lines(url, &columns, "FROM router_minutes"), ["90000 7 12288 90 -1500"]);
    let columns = ["text", "rx_bytes", "tx_bytes", "up"];
    let rows = lines(url, &columns, "FROM interface_minutes JOIN labels ON id = interface_id");
    assert_eq!(rows, [format!("wan 30 {} 1", i64::MAX)]);
}

fn device_ids(url: &DatabaseUrl, text: &str) -> Vec<String> {
    let columns = ["identity", "address", "merged_into", "root_id"];
    lines(url, &columns, &format!("FROM devices {text}"))
}

/// What an address did before its MAC was known is shown with the MAC; what it does after it went to another MAC is not.
pub(crate) fn an_address_moves_to_the_mac_that_holds_it(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    writer.commit(&identity(router, Some(PHONE), &["2001:db8::20", "192.168.1.20"])).unwrap();
    // Another program's memory holds nothing of this.
    let mut other = store.writer().unwrap();
    other.commit(&ended(&[tcp(router, 2), ping6(router, 3)])).unwrap();
    writer.commit(&ended(&[tcp(router, 4)])).unwrap();
    assert_eq!(device_ids(url, "ORDER BY id"), ["c0a80114 c0a80114 2 2", "020000000007 c0a80114 - -"]);
    let of = |address: &str| {
        let filter = FlowFilter { device: Some(ip(address)), ..FlowFilter::default() };
        let page = store.reader().flows(&filter, Page { before: None, limit: 10 }).unwrap();
        page.items.iter().map(|row| row.flow.id.0).collect::<Vec<_>>()
    };
    assert_eq!(of("192.168.1.20"), [4, 3, 2, 1]);
    assert_eq!(of("2001:db8::20"), [4, 3, 2, 1]);

    writer.commit(&identity(router, Some([2, 0, 0, 0, 0, 8]), &["192.168.1.20"])).unwrap();
    writer.commit(&ended(&[tcp(router, 5)])).unwrap();
    assert_eq!(of("192.168.1.20"), [5]);
    assert_eq!(of("2001:db8::20"), [4, 3, 2, 1]);
    let names = lines(url, &["device_id", "source", "name"], "FROM device_names ORDER BY device_id");
    assert_eq!(names, ["2 2 phone", "3 2 phone"]);
    // Without an address there is nothing to show.
    writer.commit(&identity(router, Some([2, 0, 0, 0, 0, 9]), &[])).unwrap();
    assert_eq!(device_ids(url, "").len(), 3);
}

/// The address has another holder after them; a server that starts again must not take them for that one's.
pub(crate) fn answers_stay_with_who_held_the_address(url: &DatabaseUrl) {
    const NEXT: Mac = [2, 0, 0, 0, 0, 8];
    let (_store, mut writer, router) = opened(url);
    let asked = || Changes { dns: vec![observed(router, dns_response())], ..Changes::default() };
    writer.commit(&asked()).unwrap();
    writer.commit(&identity(router, Some(PHONE), &["192.168.1.20"])).unwrap();
    writer.commit(&asked()).unwrap();
    writer.commit(&identity(router, Some(NEXT), &["192.168.1.20"])).unwrap();
    let known = writer.attach_router("gw", NOON).unwrap();
    assert_eq!(known.holders, [(ip("192.168.1.20"), NEXT)]);
    let macs: Vec<Option<Mac>> = known.answers.iter().map(|answer| answer.mac).collect();
    assert_eq!(macs, [None, Some(PHONE)]);
}

pub(crate) fn merging_can_be_undone(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2)])).unwrap();
    let mut third = tcp(router, 3);
    third.device = Some(ip("192.168.1.21"));
    writer.commit(&ended(&[third])).unwrap();
    let places = || lines(url, &["id", "merged_into", "root_id"], "FROM devices ORDER BY id");
    let (first, second, third) = (1, 2, 3);
    assert!(writer.merge_devices(third, second, NOON).unwrap());
    assert!(writer.merge_devices(second, first, NOON).unwrap());
    assert!(!writer.merge_devices(first, third, NOON).unwrap(), "a circle");
    assert!(!writer.merge_devices(first, first, NOON).unwrap(), "itself");
    assert_eq!(places(), ["1 - -", "2 1 1", "3 2 1"]);
    assert!(writer.split_device(second, NOON + 1).unwrap());
    assert!(!writer.split_device(second, NOON + 1).unwrap());
    assert_eq!(places(), ["1 - -", "2 - -", "3 2 2"]);
    writer.name_device(first, "attic", NOON).unwrap();
    assert_eq!(lines(url, &["source", "name"], "FROM device_names"), ["1 attic"]);
    let log = lines(url, &["device_id", "into_id", "cause", "undone_us"], "FROM device_merges ORDER BY id");
    assert_eq!(log, ["3 2 2 -".to_owned(), format!("2 1 2 {}", NOON + 1)]);
    let other = writer.attach_router("other", NOON).unwrap().id;
    writer.commit(&ended(&[tcp(other, 4)])).unwrap();
    assert!(!writer.merge_devices(4, first, NOON).unwrap(), "behind another router");
}

pub(crate) fn a_name_that_came_late_is_written(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut flow = ping6(router, 1);
    writer.commit(&ended(&[flow.clone()])).unwrap();
    let name = |domain: Option<&str>, confidence, reason| FlowName {
        domain: domain.map(Into::into),
        confidence,
        reason,
    };
    for name in [
        name(None, 0, NameReason::OtherDeviceOnly),
        name(Some("nas.lan"), 50, NameReason::AnswerAfterFlow),
        name(Some("nas.lan"), 95, NameReason::OnlyCandidate),
        name(Some("nas.lan"), 95, NameReason::SeveralCandidates),
    ] {
        let named = vec![NamedFlow { id: flow.id, last_seen: flow.last_seen, name: name.clone() }];
        writer.commit(&Changes { named, ..Changes::default() }).unwrap();
        flow.name = Some(name);
        assert_eq!(all_flows(&store)[0].flow, kept(&flow));
    }
}

pub(crate) fn an_http_batch_is_stored_once_and_forgotten_after_a_day(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let batch =
        |number: u8, time: i64| HttpBatch { router, digest: [number; 32], time, accepted: 3, rejected: 1 };
    let with = |batch: HttpBatch, id: i64| Changes { http_batches: vec![batch], ..ended(&[tcp(router, id)]) };
    writer.commit(&with(batch(1, NOON), 1)).unwrap();
    assert_eq!(writer.http_batch(router, &[1; 32]).unwrap(), Some((3, 1)));
    assert_eq!(writer.http_batch(router, &[2; 32]).unwrap(), None);
    let error = store.writer().unwrap().commit(&with(batch(1, NOON + 1), 2)).unwrap_err();
    assert!(matches!(error, StoreError::BatchStored { router: r } if r == router), "{error}");
    assert_eq!(all_flows(&store).len(), 1);
    writer.commit(&with(batch(2, NOON + DAY_US), 3)).unwrap();
    assert!(writer.http_batch(router, &[1; 32]).unwrap().is_some());
    writer.commit(&with(batch(3, NOON + DAY_US + 1), 4)).unwrap();
    assert_eq!(writer.http_batch(router, &[1; 32]).unwrap(), None);
    assert!(writer.http_batch(router, &[2; 32]).unwrap().is_some());
}
