//! Acks while old rows go.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use netmon_proto::v1::{self, event::Kind};
use netmon_server::domain::{
    Changes, Counters, Direction, End, FlowId, FlowKey, FlowRecord, HostMinuteDelta, MINUTE_US, MinuteDelta,
    Tuple,
};
use netmon_server::store::{DatabaseUrl, Store};

use crate::grpc::{self, event};
use crate::now_us;
use crate::server::Server;

const DAY_US: i64 = 24 * 3_600_000_000;
/// Events per second beside it.
const RATE: f64 = 2_000.0;
/// How long a sweep is watched.
const LIMIT: Duration = Duration::from_secs(300);

/// Flows of two weeks, and the commits that they come in.
const OLD_FLOWS: i64 = 400_000;
const OLD_COMMIT: i64 = 4_000;

/// A database with flows of two weeks, which began so many days ago.
fn database(directory: &Path, days_ago: i64) {
    let store = Store::open(&DatabaseUrl::Sqlite(directory.join("netmon.db"))).expect("a database");
    let mut writer = store.writer().expect("a writer");
    let router = writer.attach_router("bench-old", now_us()).expect("a router").id;
    let first = writer.reserve_flow_ids(OLD_FLOWS).expect("ids");
    let begin = now_us() - days_ago * DAY_US;
    for commit in 0..OLD_FLOWS / OLD_COMMIT {
        let mut changes = Changes::default();
        for number in commit * OLD_COMMIT..(commit + 1) * OLD_COMMIT {
            let event = event(0, number.cast_unsigned(), v1::FlowPhase::End);
            let Some(Kind::Flow(flow)) = event.kind else { unreachable!("an event of a flow") };
            // Two weeks of them.
            let at = begin + number * (14 * DAY_US / OLD_FLOWS);
            let address = |bytes: &[u8]| IpAddr::from(<[u8; 4]>::try_from(bytes).expect("IPv4"));
            let (src, dst) = (address(&flow.src_ip), address(&flow.dst_ip));
            let counters = Counters {
                bytes_orig: flow.bytes_orig.cast_signed(),
                bytes_reply: flow.bytes_reply.cast_signed(),
                packets_orig: flow.packets_orig.cast_signed(),
                packets_reply: flow.packets_reply.cast_signed(),
            };
            let port = u16::try_from(flow.dst_port).expect("a port");
            changes.minutes.push(MinuteDelta {
                router,
                minute: at / MINUTE_US,
                device: Some(src),
                protocol: 6,
                port,
                flows: 1,
                counters,
            });
            changes.host_minutes.push(HostMinuteDelta {
                router,
                minute: at / MINUTE_US,
                remote: Some(dst),
                flows: 1,
                counters,
            });
            changes.finished.push(FlowRecord {
                id: FlowId(first + number),
                router,
                flow_id: flow.flow_id,
                key: FlowKey {
                    zone: 0,
                    conntrack_id: flow.conntrack_id,
                    protocol: 6,
                    tuple: Tuple { src, dst, src_port: flow.src_port as u16, dst_port: port },
                },
                reply: None,
                icmp: None,
                direction: Direction::Out,
                device: Some(src),
                remote: Some(dst),
                counters,
                before: Counters::default(),
                first_seen: at - 1_000_000,
                last_seen: at,
                kernel_start: None,
                tcp_state: 8,
                status: 14,
                mark: 0,
                no_counters: false,
                end: Some(End::Seen),
                name: None,
            });
        }
        writer.commit(&changes).expect("a commit");
    }
    writer.checkpoint().expect("a checkpoint");
}

/// Acks at 2,000 events/s while the first sweep of a server takes away all that is old, and while it brings the file
/// down to half of its size.
pub(crate) fn run_all(runtime: &tokio::runtime::Runtime, short: bool) {
    run(runtime, short, "retention", 60);
    run(runtime, short, "size cap", 15);
}

fn run(runtime: &tokio::runtime::Runtime, short: bool, what: &str, days_ago: i64) {
    let data = tempfile::tempdir().expect("a temporary directory");
    database(data.path(), days_ago);
    let store = |data: &Path| Store::open(&DatabaseUrl::Sqlite(data.join("netmon.db"))).expect("a database");
    let before = store(data.path()).reader().size_bytes().expect("a size");
    let config = data.path().join("config.yaml");
    let cap = if days_ago > 30 { before * 10 } else { before / 2 };
    std::fs::write(&config, format!("max_size: {cap}\n")).expect("a file");
    // Without a sweep beside it, for the ratio.
    let quiet = {
        let server = Server::start();
        let mut took = runtime.block_on(grpc::run(&server, Duration::from_secs(10), Some(RATE))).1;
        took.sort_unstable();
        took[took.len() * 99 / 100]
    };
    let config = config.display().to_string();
    let server = Server::on(data, &["--config", &config]);
    let reader = store(server.data.path()).reader();
    let file = server.data.path().join("netmon.db");
    let began = Instant::now();
    let watch = std::thread::spawn(move || {
        while began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(500));
            let size = std::fs::metadata(&file).expect("a file").len();
            let oldest = reader.oldest_flow().expect("a query");
            let young = oldest.is_none_or(|at| at > now_us() - 31 * DAY_US);
            if young && (size <= cap || days_ago > 30) {
                return Some(began.elapsed());
            }
        }
        None
    });
    let time = Duration::from_secs(if short { 30 } else { 90 });
    let (acked, took) = runtime.block_on(grpc::run(&server, time, Some(RATE)));
    let over = watch.join().expect("the watch ends");
    let after = store(server.data.path()).reader().size_bytes().expect("a size");
    let p99 = took[took.len() * 99 / 100];
    println!(
        "{what}, {OLD_FLOWS} flows of two weeks, beside {RATE} events/s: {}; {acked} acked, ack p50 {:?} p99 {p99:?} most {:?} \
         (goal: p99 100 ms); p99 without it {quiet:?}, ratio {:.1}; file and log {:.0} MB before, {:.0} MB after, cap {:.0} MB",
        over.map_or_else(
            || format!("not done after {LIMIT:?}"),
            |took| format!("done in {:.0} s", took.as_secs_f64())
        ),
        took[took.len() / 2],
        took[took.len() - 1],
        p99.as_secs_f64() / quiet.as_secs_f64(),
        before as f64 / 1e6,
        after as f64 / 1e6,
        cap as f64 / 1e6,
    );
}
