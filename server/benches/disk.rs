//! `cargo bench -p netmon-server --bench disk`: what a flow costs on disk, everything counted.
//!
//! The real writer stores three days as dense as those of a month with 10 million flows: 25 devices behind NAT, names
//! for most flows, row ids in the order of beginnings and rows in that of ends. What SQLite says of each table and
//! index is taken for the days that it is kept, of the 30 of a month. `short` besides: a tenth of the flows.
#![expect(clippy::print_stdout, reason = "a benchmark's output is what it is for")]

use std::net::{IpAddr, Ipv4Addr};

use diesel::sql_types::{BigInt, Text};
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};
use netmon_server::domain::{
    Changes, Counters, Direction, End, FlowId, FlowKey, FlowName, FlowRecord, HostMinuteDelta, MINUTE_US,
    MinuteDelta, NameReason, RouterId, Tuple,
};
use netmon_server::store::{DatabaseUrl, Retention, Step, Store};

const DAY_US: i64 = 24 * 60 * MINUTE_US;
/// 2026-01-01.
const BEGIN: i64 = 1_767_225_600_000_000;
const DAYS: i64 = 3;
const MONTH: i64 = 30;
const FLOWS_OF_MONTH: i64 = 10_000_000;
/// Flows of one commit.
const COMMIT: usize = 2_000;

/// Numbers that look random and are the same each time (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// Small ones are much more frequent.
    fn skewed(&mut self, sides: u64) -> u64 {
        let roll = self.roll(sides);
        roll * self.roll(sides) / sides * self.roll(sides) / sides
    }
}

fn flow(dice: &mut Dice, router: RouterId, id: i64, began: i64) -> FlowRecord {
    let host = dice.skewed(20_000) as u32;
    let (src, dst) = (
        IpAddr::from([192, 168, 1, 10 + dice.skewed(25) as u8]),
        IpAddr::from(Ipv4Addr::from(0x0d00_0000 + host.wrapping_mul(2_654_435_761) % 0x8000_0000)),
    );
    let port =
        [443, 443, 443, 443, 443, 443, 53, 53, 80, 123, 5228, 8080, 6881, 993, 22][dice.roll(15) as usize];
    let udp = matches!(port, 53 | 123) || dice.roll(4) == 0;
    let src_port = 32_768 + dice.roll(28_000) as u16;
    let reply = Tuple { src: dst, dst: [198, 51, 100, 7].into(), src_port: port, dst_port: src_port };
    let (up, down) =
        if port == 53 { (70, 180) } else { (900 + dice.skewed(200_000), 4_000 + dice.skewed(9_000_000)) };
    let lasted = if port == 53 { 200_000 } else { 1_000_000 + dice.skewed(600_000_000) as i64 };
    FlowRecord {
        id: FlowId(id),
        router,
        flow_id: 0xdead_beef_0000_0000 | id.cast_unsigned(),
        key: FlowKey {
            zone: 0,
            conntrack_id: dice.roll(1 << 31) as u32,
            protocol: if udp { 17 } else { 6 },
            tuple: Tuple { src, dst, src_port, dst_port: port },
        },
        reply: Some(reply),
        icmp: None,
        direction: Direction::Out,
        device: Some(src),
        remote: Some(dst),
        counters: Counters {
            bytes_orig: up as i64,
            bytes_reply: down as i64,
            packets_orig: 1 + (up / 200) as i64,
            packets_reply: 1 + (down / 1_200) as i64,
        },
        before: Counters::default(),
        first_seen: began,
        last_seen: began + lasted,
        kernel_start: Some(began),
        tcp_state: if udp { 0 } else { 8 },
        status: 0x19e,
        mark: 0,
        no_counters: false,
        end: Some(End::Seen),
        name: (port != 53 && dice.roll(10) < 8).then(|| FlowName {
            domain: Some(format!("host{}.example.org", host % 4_000).into()),
            confidence: 95,
            reason: NameReason::OnlyCandidate,
        }),
    }
}

fn store_all(path: &std::path::Path, per_day: i64) {
    let store = Store::open(&DatabaseUrl::Sqlite(path.to_owned())).expect("a database");
    let mut writer = store.writer().expect("a writer");
    let router = writer.attach_router("gw", BEGIN).expect("a router").id;
    let mut dice = Dice(7);
    let first = writer.reserve_flow_ids(DAYS * per_day).expect("ids");
    for day in 0..DAYS {
        let mut flows: Vec<FlowRecord> = (0..per_day)
            .map(|place| {
                let began = BEGIN + day * DAY_US + place * (DAY_US / per_day) + dice.roll(900_000) as i64;
                flow(&mut dice, router, first + day * per_day + place, began)
            })
            .collect();
        flows.sort_by_key(|flow| flow.last_seen);
        for flows in flows.chunks(COMMIT) {
            let minute = |flow: &FlowRecord| flow.last_seen / MINUTE_US;
            let changes = Changes {
                minutes: flows
                    .iter()
                    .map(|flow| MinuteDelta {
                        router,
                        minute: minute(flow),
                        device: flow.device,
                        protocol: flow.key.protocol,
                        port: flow.service_port(),
                        flows: 1,
                        counters: flow.counters,
                    })
                    .collect(),
                host_minutes: flows
                    .iter()
                    .map(|flow| HostMinuteDelta {
                        router,
                        minute: minute(flow),
                        remote: flow.remote,
                        flows: 1,
                        counters: flow.counters,
                    })
                    .collect(),
                finished: flows.to_vec(),
                ..Changes::default()
            };
            writer.commit(&changes).expect("a commit");
        }
    }
    // What retention does to hours and days that are over, and nothing else of it.
    let for_ever = Retention {
        flows_days: 0,
        minutes_days: 0,
        host_minutes_days: 0,
        hours_days: 0,
        ..Retention::default()
    };
    let mut sweep = for_ever.sweep(BEGIN + (DAYS + 3) * DAY_US);
    while let Step::More = sweep.step(&mut writer).expect("a step") {}
    writer.checkpoint().expect("a checkpoint");
}

#[derive(QueryableByName)]
struct Part {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    of: String,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    payload: i64,
}

/// For how many of a month's 30 days a table is kept, by the defaults of retention.
fn kept_days(table: &str) -> i64 {
    match table {
        "host_minutes" => 2,
        _ if table.ends_with("_minutes") => 14,
        _ => MONTH,
    }
}

fn main() {
    println!("load average before: {}", std::fs::read_to_string("/proc/loadavg").expect("proc").trim());
    let share = if std::env::args().any(|word| word == "short") { 10 } else { 1 };
    let per_day = FLOWS_OF_MONTH / MONTH / share;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("netmon.db");
    store_all(&path, per_day);
    let mut connection = SqliteConnection::establish(path.to_str().expect("UTF-8")).expect("a connection");
    let parts: Vec<Part> = diesel::sql_query(
        "SELECT d.name, COALESCE(m.tbl_name, d.name) AS of, CAST(SUM(d.pgsize) AS INTEGER) AS bytes, \
         CAST(SUM(d.payload) AS INTEGER) AS payload \
         FROM dbstat d LEFT JOIN sqlite_master m ON m.name = d.name GROUP BY 1, 2 ORDER BY 3 DESC",
    )
    .load(&mut connection)
    .expect("dbstat");
    let flows = (DAYS * per_day) as f64;
    let (mut all, mut bare) = (0.0, 0.0);
    for Part { name, of, bytes, payload } in &parts {
        // What interns is made once, however many days there are.
        let days =
            if matches!(of.as_str(), "remote_hosts" | "domains" | "devices") { DAYS } else { kept_days(of) };
        let of_month = *bytes as f64 * days as f64 / DAYS as f64;
        let each = of_month / (flows * MONTH as f64 / DAYS as f64);
        all += each;
        if name == "flows" {
            bare = *payload as f64 / flows;
        }
        if each >= 0.1 {
            println!("{name:28} {each:6.1} bytes per flow ({bytes} bytes in {DAYS} days, kept {days})");
        }
    }
    println!(
        "{flows:.0} flows: {all:.1} bytes per flow (goal: 115); the row alone {bare:.1}, ratio {:.2}",
        all / bare
    );
}
