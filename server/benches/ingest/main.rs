//! `cargo bench -p netmon-server --bench ingest`: acked flow events, end to end.
//!
//! The work: the real server binary, rollups and names on; this program plays agents on the same machine. Every flow is
//! reported twice, new in one batch and ended in the next, so that it enters `open_flows`, leaves it, and becomes a row
//! of `flows`. Devices, hosts and ports vary as in a household.
//!
//! Without a word: ten gRPC streams into SQLite with `synchronous=FULL`. The bare prepared INSERT of the same rows, for
//! the ratio, is measured by the bench `store`. With `-- http`: four connections with batches of the original agent,
//! and reading those batches alone, for the ratio. With `-- postgres`: the ten streams into a Postgres of its own
//! (`fsync=on`), and its copying the same rows by itself, for the ratio. With `-- retention`: acks while a month that
//! is over goes, and while the file shrinks to its cap. `short` besides: a look whether it works.
#![expect(clippy::print_stdout, reason = "a benchmark's output is what it is for")]

mod grpc;
mod http;
#[expect(dead_code, reason = "the tests stop the server and look at its directory, too")]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod retention;
mod server;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::BigInt;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _};

use crate::grpc::{BATCH, STREAMS};
use crate::postgres::Cluster;
use crate::server::Server;

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 294000")
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").expect("proc").trim().to_owned()
}

/// Acked events, the time of each ack in order, seconds, and server CPU in microseconds per event.
struct Figures {
    acked: u64,
    took: Vec<Duration>,
    rate: f64,
    cpu_us: f64,
}

fn measure(server: &Server, work: impl FnOnce(&Server) -> (u64, Vec<Duration>)) -> Figures {
    let (cpu, began) = (server.cpu(), Instant::now());
    let (acked, took) = work(server);
    let rate = acked as f64 / began.elapsed().as_secs_f64();
    Figures { acked, took, rate, cpu_us: (server.cpu() - cpu) * 1e6 / acked as f64 }
}

impl Figures {
    fn percentile(&self, percent: usize) -> Duration {
        self.took[self.took.len() * percent / 100]
    }

    fn line(&self) -> String {
        format!(
            "{} acked, {:.0} events/s, {:.2} us server CPU/event, p50 {:?} p99 {:?}",
            self.acked,
            self.rate,
            self.cpu_us,
            self.percentile(50),
            self.percentile(99)
        )
    }
}

fn over_grpc(runtime: &tokio::runtime::Runtime, time: Duration) {
    let server = Server::start();
    let fast = measure(&server, |server| runtime.block_on(grpc::run(server, time, None)));
    println!(
        "SQLite, {STREAMS} streams, batches of {BATCH}, as fast as it goes: {}, RSS {:.0} MB (peak {:.0} MB)",
        fast.line(),
        server.memory_mb("VmRSS:"),
        server.memory_mb("VmHWM:"),
    );
    drop(server);
    let server = Server::start();
    let even = measure(&server, |server| runtime.block_on(grpc::run(server, time, Some(20_000.0))));
    println!("SQLite, {STREAMS} streams at 20000 events/s: {}", even.line());
}

fn over_http(time: Duration) {
    let reading = http::reading_us();
    let server = Server::start();
    let fast = measure(&server, |server| http::run(server, time, None));
    println!(
        "SQLite, HTTP JSON, {} connections, batches of {}, as fast as it goes: {} (goal: 25000 events/s); reading the \
         batches alone {reading:.2} us/event, ratio {:.1}",
        http::CONNECTIONS,
        http::BATCH,
        fast.line(),
        fast.cpu_us / reading,
    );
    drop(server);
    let server = Server::start();
    let even = measure(&server, |server| http::run(server, time, Some(5_000.0)));
    println!("the same at 5000 events/s: {} (goal: p99 100 ms)", even.line());
}

#[derive(QueryableByName)]
struct Rows {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Microseconds per row that Postgres needs to copy what is in `flows` into a table like it.
fn copying_us(connection: &mut PgConnection) -> f64 {
    connection
        .batch_execute("CREATE TABLE copy (LIKE flows INCLUDING ALL) PARTITION BY RANGE (id); CREATE TABLE copy_all PARTITION OF copy DEFAULT")
        .expect("a table");
    let rows: Rows =
        diesel::sql_query("SELECT COUNT(*) AS rows FROM flows").get_result(connection).expect("a count");
    let began = Instant::now();
    connection.batch_execute("INSERT INTO copy SELECT * FROM flows").expect("a copy");
    began.elapsed().as_secs_f64() * 1e6 / rows.rows as f64
}

fn into_postgres(runtime: &tokio::runtime::Runtime, time: Duration) {
    let cluster = match Cluster::start(true) {
        Ok(cluster) => cluster,
        Err(reason) => return println!("no Postgres here: {reason}"),
    };
    for rate in [None, Some(20_000.0)] {
        let url = cluster.url(&cluster.new_database());
        let data = tempfile::tempdir().expect("a temporary directory");
        let server = Server::on(data, &["--database-url", &url]);
        let figures = measure(&server, |server| runtime.block_on(grpc::run(server, time, rate)));
        let speed =
            rate.map_or_else(|| "as fast as it goes".to_owned(), |rate| format!("at {rate:.0} events/s"));
        print!("Postgres (fsync=on), {STREAMS} streams, batches of {BATCH}, {speed}: {}", figures.line());
        if rate.is_none() {
            let mut connection = PgConnection::establish(&url).expect("a connection");
            let (copying, event) = (copying_us(&mut connection), 1e6 / figures.rate);
            print!(
                " (goal: 40000 events/s); Postgres copies a flow by itself in {copying:.1} us, here a flow of two events \
                 takes {:.1} us, ratio {:.1}",
                2.0 * event,
                2.0 * event / copying
            );
        }
        println!();
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let given = |wanted: &str| std::env::args().any(|word| word == wanted);
    let time = Duration::from_secs(if given("short") { 2 } else { 10 });
    println!("load average before: {}", load());
    match (given("http"), given("postgres"), given("retention")) {
        (true, ..) => over_http(time),
        (_, true, _) => into_postgres(&runtime, time),
        (.., true) => retention::run_all(&runtime, given("short")),
        _ => over_grpc(&runtime, time),
    }
    println!("load average after: {}", load());
}
