//! What a commit costs: `cargo bench -p netmon-server --bench store`.
//!
//! The work: commits of 5,000 finished flows of 40 devices and 2,000 remote hosts, with 500 minute deltas, a
//! cursor and a router's facts, on SQLite with `synchronous=FULL`. Beside it the bare cost of the same rows: one
//! prepared insert into the same table without indexes, in one transaction of the same size. Figures are CPU
//! time of the writing thread, so that a second program on the machine disturbs little, and the best of three. Words on the
//! command line choose the measures whose names hold them.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[path = "../src/store/address.rs"]
mod address;
#[path = "../src/store/flow_row.rs"]
#[expect(dead_code, reason = "the bench writes rows and reads none")]
mod flow_row;
#[path = "../src/store/flow_statements.rs"]
mod flow_statements;
#[path = "../src/store/schema.rs"]
mod schema;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Instant;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use netmon_server::domain;
use netmon_server::domain::{
    Changes, Counters, CursorMove, DeviceTouch, Direction, End, FlowId, FlowKey, FlowRecord, HostMinuteDelta,
    HostTouch, MinuteDelta, RouterId, Tuple,
};
use netmon_server::store::{DatabaseUrl, Store, Writer};

const FLOWS: usize = 5_000;
const COMMITS: u64 = 40;
const HOSTS: usize = 2_000;
const DEVICES: usize = 40;
const SERVICES: usize = 12;
const NOON: i64 = 1_748_779_200_000_000;

fn main() {
    println!("load of the machine before: {}", read("/proc/loadavg").trim());
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut bare_us = None;
    for (name, measure) in [
        ("bare prepared insert", &(|| bare(false)) as &dyn Fn() -> Cost),
        ("bare prepared upsert of open flows", &|| bare(true)),
        ("commit() of finished flows", &|| commits(false)),
        ("commit() that opens as many flows and ends as many", &|| commits(true)),
    ] {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word)) {
            continue;
        }
        let cost = (0..3).map(|_| measure()).min_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us)).unwrap();
        println!(
            "{name}: {:.2} us CPU per flow, {:.0} flows a second, {:.0} bytes written per flow, {:.2} times the bare insert",
            cost.cpu_us,
            cost.rate,
            cost.bytes,
            cost.cpu_us / *bare_us.get_or_insert(cost.cpu_us)
        );
    }
}

struct Cost {
    cpu_us: f64,
    rate: f64,
    bytes: f64,
}

/// Runs `step` for each commit after a first one that warms the caches up.
fn measured(mut step: impl FnMut(u64)) -> Cost {
    step(0);
    let (cpu, written, begin) = (thread_cpu_ns(), written_bytes(), Instant::now());
    for number in 1..=COMMITS {
        step(number);
    }
    let flows = (COMMITS * FLOWS as u64) as f64;
    Cost {
        cpu_us: (thread_cpu_ns() - cpu) as f64 / 1_000.0 / flows,
        rate: flows / begin.elapsed().as_secs_f64(),
        bytes: (written_bytes() - written) as f64 / flows,
    }
}

fn commits(open: bool) -> Cost {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(&DatabaseUrl::Sqlite(directory.path().join("netmon.db"))).unwrap();
    let mut writer: Writer = store.writer().unwrap();
    let router = writer.attach_router("bench", NOON).unwrap().id;
    let changes: Vec<Changes> = (0..=COMMITS).map(|number| changes(router, number, open)).collect();
    let cost = measured(|number| writer.commit(&changes[usize::try_from(number).unwrap()]).unwrap());
    let totals = store.reader().totals().unwrap();
    assert_eq!(totals.flows.flows, ((COMMITS + 1 + u64::from(open)) * FLOWS as u64).cast_signed());
    assert_eq!(totals.device_minutes, totals.service_minutes);
    assert_eq!(totals.host_minutes, totals.host_days);
    cost
}

fn bare(open: bool) -> Cost {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("netmon.db");
    drop(Store::open(&DatabaseUrl::Sqlite(path.clone())).unwrap());
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection
        .batch_execute(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -32000;
             DROP INDEX flows_by_device; DROP INDEX flows_by_host;",
        )
        .unwrap();
    let changes: Vec<Changes> = (0..=COMMITS).map(|number| changes(RouterId(1), number, false)).collect();
    measured(|number| {
        connection
            .immediate_transaction(|c| {
                for flow in &changes[usize::try_from(number).unwrap()].finished {
                    let ids =
                        flow_row::FlowIds { device: Some(7), host: Some(flow.id.0 % 2_000), domain: None };
                    if open {
                        let row = flow_row::OpenRow::new(flow, ids);
                        flow_statements::UpsertOpen(&row).execute(c)?;
                    } else {
                        let row = flow_row::EndedRow::new(flow, ids);
                        flow_statements::InsertEnded(&row).execute(c)?;
                    }
                }
                QueryResult::Ok(())
            })
            .unwrap();
    })
}

/// The commit of this number. With `open`, it ends the flows that the one before opened, and opens the next.
fn changes(router: RouterId, number: u64, open: bool) -> Changes {
    let finished: Vec<FlowRecord> = (0..FLOWS).map(|place| flow(router, number, place)).collect();
    let seen = NOON + number.cast_signed() * 100_000;
    let mut changes = Changes {
        cursors: vec![CursorMove {
            router,
            epoch: 1,
            from: number.checked_sub(1).map(|before| before + 1),
            to: number + 1,
        }],
        devices: (0..DEVICES)
            .map(|place| DeviceTouch { router, address: device(place), first_seen: seen, last_seen: seen })
            .collect(),
        hosts: (0..HOSTS)
            .map(|place| HostTouch { address: host(place), first_seen: seen, last_seen: seen })
            .collect(),
        minutes: (0..500)
            .map(|place| MinuteDelta {
                router,
                minute: seen / 60_000_000 - i64::from(place >= 480),
                device: Some(device(place % DEVICES)),
                protocol: 6,
                port: u16::try_from(440 + place / DEVICES % SERVICES).unwrap(),
                flows: 10,
                counters: Counters {
                    bytes_orig: 1_000,
                    bytes_reply: 9_000,
                    packets_orig: 10,
                    packets_reply: 11,
                },
            })
            .collect(),
        // Every remote host of the commit moved something: about two flows a host, as in a busy household's hour.
        host_minutes: (0..HOSTS)
            .map(|place| HostMinuteDelta {
                router,
                minute: seen / 60_000_000,
                remote: Some(host(place)),
                flows: 2,
                counters: Counters { bytes_orig: 500, bytes_reply: 4_500, packets_orig: 5, packets_reply: 6 },
            })
            .collect(),
        ..Changes::default()
    };
    if open {
        changes.closed = finished.iter().map(|flow| flow.id.0).collect();
        changes.open =
            (0..FLOWS).map(|place| FlowRecord { end: None, ..flow(router, number + 1, place) }).collect();
    }
    Changes { finished, ..changes }
}

fn flow(router: RouterId, number: u64, place: usize) -> FlowRecord {
    let id = number * FLOWS as u64 + place as u64 + 1;
    let random = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let port = |shift: u32| ((random >> shift) as u16).max(1_024);
    let device = device(random as usize % DEVICES);
    let remote = host((random >> 20) as usize % HOSTS);
    let service = 440 + (random >> 40) as u16 % SERVICES as u16;
    let begin = NOON + id.cast_signed() * 20;
    FlowRecord {
        id: FlowId(id.cast_signed()),
        router,
        flow_id: (0xdead_beef << 32) | id,
        key: FlowKey {
            zone: 0,
            conntrack_id: (random >> 32) as u32,
            protocol: 6,
            tuple: Tuple { src: device, dst: remote, src_port: port(3), dst_port: service },
        },
        reply: Some(Tuple {
            src: remote,
            dst: IpAddr::from([198, 51, 100, 1]),
            src_port: service,
            dst_port: port(7),
        }),
        icmp: None,
        direction: Direction::Out,
        device: Some(device),
        remote: Some(remote),
        counters: Counters {
            bytes_orig: (random >> 50).cast_signed(),
            bytes_reply: (random >> 44).cast_signed(),
            packets_orig: (random >> 60).cast_signed(),
            packets_reply: (random >> 58).cast_signed(),
        },
        before: Counters::default(),
        first_seen: begin,
        last_seen: begin + 3_000_000,
        kernel_start: Some(begin),
        tcp_state: 8,
        status: 0x1fe,
        mark: 0,
        no_counters: false,
        end: Some(End::Seen),
        name: None,
    }
}

fn device(place: usize) -> IpAddr {
    IpAddr::from([192, 168, 1, u8::try_from(10 + place).unwrap()])
}

fn host(place: usize) -> IpAddr {
    IpAddr::from(Ipv4Addr::from_bits(0x0505_0000 + u32::try_from(place * 97).unwrap()))
}

/// Time that this thread ran, from the scheduler.
fn thread_cpu_ns() -> u64 {
    read("/proc/thread-self/schedstat").split(' ').next().unwrap().parse().unwrap()
}

/// What the process handed to the kernel to write.
fn written_bytes() -> u64 {
    let io = read("/proc/self/io");
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}
