//! `cargo bench -p netmon-server --bench read`: how long a reader waits while events pour in.
//!
//! The work: a SQLite file of a month (`--flows 10000000`, else a million; as many DNS answers and drops), the real
//! server on it with 2,000 flow events a second over gRPC, and every question asked `--times` times (200) through the
//! query layer that pages, JSON and the console use, by one reader. Devices, hosts, names and ports take turns, of
//! which some have half of all flows and some a few. Beside it the look-up of one flow by its primary key, for the
//! ratio. With `--file FILE` the filled database is kept there and found again.
#![expect(clippy::print_stdout, reason = "a benchmark's output is what it is for")]

#[path = "../tests/store/million.rs"]
#[expect(dead_code, reason = "the plans' test uses more of it")]
mod million;
#[path = "../tests/store/sample.rs"]
#[expect(dead_code, reason = "the stories use more of it")]
mod sample;
#[path = "ingest/server.rs"]
#[expect(dead_code, reason = "the ingest benchmark uses more of it")]
mod server;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diesel::prelude::*;
use netmon_proto::v1::{self, collector_client::CollectorClient, event::Kind};
use netmon_server::domain::RouterId;
use netmon_server::store::{
    DatabaseUrl, FlowFilter, FlowText, Page, Reader, Store, StoreError, TopBy, TopFilter, Writer,
};
use tonic::Request;

use crate::server::{Server, TOKEN};

const RATE: u64 = 2_000;
const BATCH: u64 = 500;
const HOUR: i64 = 3_600_000_000;

/// What `million` asks of its surroundings.
fn opened(url: &DatabaseUrl) -> (Store, Writer, RouterId) {
    let store = Store::open(url).expect("a database");
    let mut writer = store.writer().expect("a writer");
    let router = writer.attach_router("gw", now_us()).expect("a router").id;
    (store, writer, router)
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 294000")
}

/// Reports flows, a NEW and an END each, until it is told to stop. Gives how many events were acknowledged.
fn load(url: &str, stop: &AtomicBool, acked: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = CollectorClient::connect(url.to_owned()).await.expect("connects");
        let began = Instant::now();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let flows = number..number + BATCH / 2;
            number = flows.end;
            let phases = [v1::FlowPhase::New, v1::FlowPhase::End];
            let events = flows.flat_map(|flow| phases.map(|phase| event(flow, phase))).collect();
            let batch = v1::Batch { router_id: "bench".to_owned(), events, ..v1::Batch::default() };
            let mut request = Request::new(batch);
            let bearer = format!("Bearer {TOKEN}").parse().expect("a header value");
            request.metadata_mut().insert("authorization", bearer);
            let ack = client.report(request).await.expect("an ack").into_inner();
            acked.fetch_add(ack.accepted, Ordering::Relaxed);
            let due = Duration::from_secs_f64((2 * number) as f64 / RATE as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    });
}

fn event(number: u64, phase: v1::FlowPhase) -> v1::Event {
    let now = now_us();
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let bytes = if phase == v1::FlowPhase::End { 1500 + mixed % 9000 } else { 0 };
    v1::Event {
        time_us: now,
        kind: Some(Kind::Flow(v1::Flow {
            phase: phase.into(),
            flow_id: 1 << 32 | number,
            protocol: 6,
            src_ip: vec![192, 168, 1, (1 + mixed % 50) as u8].into(),
            dst_ip: vec![203, 0, (mixed >> 5) as u8 % 12, (mixed >> 9) as u8].into(),
            src_port: 1024 + (number % 60_000) as u32,
            dst_port: [443, 443, 53, 80][(mixed % 4) as usize],
            direction: v1::Direction::Out.into(),
            bytes_orig: bytes,
            bytes_reply: 10 * bytes,
            packets_orig: bytes / 100,
            packets_reply: bytes / 100,
            first_seen_us: now - 1_000_000,
            last_seen_us: now,
            conntrack_id: number as u32,
            device: v1::End::Initiator.into(),
            remote: v1::End::Responder.into(),
            ..v1::Flow::default()
        })),
    }
}

type Ask<'a> = &'a dyn Fn(&Reader, usize) -> Result<(), StoreError>;

/// Sorted times of so many questions.
fn measure(reader: &Reader, times: usize, ask: Ask<'_>) -> Vec<Duration> {
    let mut took: Vec<Duration> = (0..times)
        .map(|turn| {
            let began = Instant::now();
            ask(reader, turn).expect("an answer");
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}

fn ms(took: &[Duration], percent: usize) -> f64 {
    took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// Turns of devices and hosts: the first has many flows, the others few.
fn turn_of(turn: usize) -> usize {
    if turn.is_multiple_of(2) { 1 } else { 2 + turn / 2 % 40 }
}

fn page() -> Page {
    Page { before: None, limit: 50 }
}

fn list(reader: &Reader, filter: &FlowFilter) -> Result<(), StoreError> {
    reader.flows(filter, page()).map(drop)
}

fn questions(reader: &Reader, times: usize, bare_ms: f64) {
    let any = FlowFilter::default;
    let device =
        |turn| FlowFilter { device: Some(sample::ip(&format!("192.168.1.{}", turn_of(turn)))), ..any() };
    let host = |turn| FlowFilter { host: Some(sample::ip(&format!("203.0.113.{}", turn_of(turn)))), ..any() };
    let domain = |turn| FlowFilter { domain: Some(format!("name-{}.example.org", turn_of(turn))), ..any() };
    let port = |turn: usize| FlowFilter { port: Some([443, 53, 80, 1_031][turn % 4]), ..any() };
    let filter = |turn: usize| match turn % 5 {
        0 => any(),
        1 => device(turn / 5),
        2 => host(turn / 5),
        3 => domain(turn / 5),
        _ => port(turn / 5),
    };
    let now = now_us();
    let top = |by, span: i64| {
        move |reader: &Reader, _: usize| {
            reader.top(&TopFilter { by, router: None, from: now - span, to: now, limit: 10 }).map(drop)
        }
    };
    let top_of = |span| {
        move |reader: &Reader, turn: usize| {
            top([TopBy::Device, TopBy::Host, TopBy::Service][turn % 3], span)(reader, turn)
        }
    };
    let router = reader.router_id("gw").ok().flatten().expect("the router of the sample");
    let (top_hour, top_day, top_month) = (top_of(HOUR), top_of(24 * HOUR), top_of(30 * 24 * HOUR));
    let rows: [(&str, f64, Ask<'_>); 13] = [
        ("latest 50", 20.0, &|reader, _| list(reader, &any())),
        ("latest 50 of a device", 20.0, &|reader, turn| list(reader, &device(turn))),
        ("latest 50 of a host", 20.0, &|reader, turn| list(reader, &host(turn))),
        ("latest 50 of a domain", 20.0, &|reader, turn| list(reader, &domain(turn))),
        ("latest 50 of a port", 20.0, &|reader, turn| list(reader, &port(turn))),
        ("the page after those", 20.0, &|reader, turn| {
            let first = reader.flows(&filter(turn), Page { limit: 1, ..page() })?;
            reader.flows(&filter(turn), Page { before: first.next, ..page() }).map(drop)
        }),
        ("their capped count", 20.0, &|reader, turn| reader.count_flows(&filter(turn), 10_000).map(drop)),
        ("domain substring in 24 h", 50.0, &|reader, turn| {
            let part = ["name-1", "example", "host-1499", "nowhere"][turn % 4].to_owned();
            list(
                reader,
                &FlowFilter { text: Some(FlowText::Name(part)), from: Some(now - 24 * HOUR), ..any() },
            )
        }),
        ("top 10 by bytes over 1 h", 50.0, &top_hour),
        ("top 10 by bytes over 24 h", 50.0, &top_day),
        ("top 10 by bytes over 30 d", 50.0, &top_month),
        ("minutes of a device's day", 50.0, &|reader, turn| {
            let address = sample::ip(&format!("192.168.1.{}", turn_of(turn)));
            let device = reader.device_at(router, address)?.expect("a device of the sample");
            reader.device_minutes(device, now - 24 * HOUR, now).map(drop)
        }),
        ("flows of 24 h by bytes (no goal)", f64::INFINITY, &|reader, _| {
            let sort = netmon_server::store::FlowSort::Bytes;
            list(reader, &FlowFilter { from: Some(now - 24 * HOUR), sort, ..any() })
        }),
    ];
    println!(
        "{:34} {:>8} {:>8} {:>8} {:>8}  ratio of p50 to the look-up",
        "ms", "p50", "p95", "p99", "goal p95"
    );
    for (name, goal, ask) in rows {
        let took = measure(reader, times, ask);
        let (p50, p95, p99) = (ms(&took, 50), ms(&took, 95), ms(&took, 99));
        let verdict = if p95 <= goal { "" } else { "  MISSED" };
        println!("{name:34} {p50:8.2} {p95:8.2} {p99:8.2} {goal:8.0}  {:.0}{verdict}", p50 / bare_ms);
    }
}

/// A flow by its primary key, over a connection of its own, prepared once.
fn bare_lookup(database: &Path, flows: i64, times: usize) -> f64 {
    #[derive(QueryableByName)]
    struct Length {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        #[expect(dead_code, reason = "that it is read is what is measured")]
        length: i64,
    }
    let mut connection =
        SqliteConnection::establish(database.to_str().expect("UTF-8")).expect("a connection");
    let mut took: Vec<Duration> = (0..times)
        .map(|turn| {
            let id = 1_001 + (turn as i64 * 7_919) % flows;
            let began = Instant::now();
            let query = diesel::sql_query("SELECT bytes_orig AS length FROM flows WHERE id = ?");
            let rows: Vec<Length> =
                query.bind::<diesel::sql_types::BigInt, _>(id).load(&mut connection).expect("a row");
            assert_eq!(rows.len(), 1);
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    ms(&took, 50)
}

/// The word after this one.
fn flag(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

fn main() {
    let flows: i64 = flag("--flows").map_or(million::MILLION, |text| text.parse().expect("--flows N"));
    let times: usize = flag("--times").map_or(200, |text| text.parse().expect("--times N"));
    println!("load average before: {}", std::fs::read_to_string("/proc/loadavg").expect("proc").trim());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let database = flag("--file").map_or_else(|| directory.path().join("netmon.db"), PathBuf::from);
    let url = DatabaseUrl::Sqlite(database.clone());
    if !database.exists() {
        let began = Instant::now();
        million::fill(&url, flows, now_us());
        println!("{flows} flows, answers and drops each made in {:.0} s", began.elapsed().as_secs_f64());
    }
    let began = Instant::now();
    let server = Server::on(directory, &["--database-url", database.to_str().expect("UTF-8")]);
    println!(
        "start-up: ready after {:.2} s (goal 2), memory {:.0} MB (goal 150), file {:.2} GB",
        began.elapsed().as_secs_f64(),
        server.memory_mb("VmRSS:"),
        std::fs::metadata(&database).expect("the file").len() as f64 / 1e9,
    );
    let (stop, acked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| load(&server.url, &stop, &acked));
        let began = Instant::now();
        let bare_ms = bare_lookup(&database, flows, times);
        println!("a flow by its primary key: p50 {:.1} us", bare_ms * 1e3);
        let store = Store::open(&url).expect("a database");
        questions(&store.reader(), times, bare_ms);
        println!(
            "meanwhile {:.0} events/s were acknowledged; memory {:.0} MB, at most {:.0} MB",
            acked.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64(),
            server.memory_mb("VmRSS:"),
            server.memory_mb("VmHWM:"),
        );
        stop.store(true, Ordering::Relaxed);
    });
    println!("load average after: {}", std::fs::read_to_string("/proc/loadavg").expect("proc").trim());
}
