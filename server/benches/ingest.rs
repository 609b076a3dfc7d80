//! `cargo bench -p netmon-server --bench ingest`: acked flow events over gRPC, end to end.
//!
//! The work: the real server binary, SQLite with `synchronous=FULL`, rollups on; this program plays agents
//! on the same machine. Every flow is reported twice, NEW in one batch and END in the next, so that it enters
//! `open_flows`, leaves it, and becomes a row of `flows`. Devices, hosts and ports vary as in a household.
//! The bare prepared INSERT of the same rows, for the ratio, is measured by the bench `store`.
//!
//! `cargo bench -p netmon-server --bench ingest -- retention`: acks while retention takes away a month that is over.
#![expect(clippy::print_stdout, reason = "a benchmark's output is what it is for")]

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use netmon_proto::v1::{
    self, agent_frame::Frame, collector_client::CollectorClient, event::Kind, server_frame,
};
use netmon_server::domain::{
    Changes, Counters, Direction, End, FlowId, FlowKey, FlowRecord, HostMinuteDelta, MINUTE_US, MinuteDelta,
    Tuple,
};
use netmon_server::store::{DatabaseUrl, Store};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, transport::Channel};

const TOKEN: &str = "bench";
const BATCH: usize = 500;
const IN_FLIGHT_BATCHES: usize = 16;
const STREAMS: u64 = 10;

struct Server {
    child: Child,
    url: String,
    data: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::on(tempfile::tempdir().expect("a temporary directory"))
    }

    fn on(data: tempfile::TempDir) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netmon-server"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .env("NETMON_API_TOKEN", TOKEN)
            .env("NETMON_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let url = line.trim().rsplit(' ').next().expect("an address").to_owned();
        Self { child, url, data }
    }

    /// User and system time, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let after_name = stat.rsplit(')').next().expect("a name in parentheses");
        let ticks: Vec<f64> = after_name.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // Fields 14 and 15 of proc_pid_stat(5); the state, a letter, does not parse.
        (ticks[10] + ticks[11]) / 100.0
    }

    fn memory_mb(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field is there");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("kB") / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 294000")
}

/// A flow's report. Thirty devices, a few thousand hosts, a dozen services.
fn event(stream: u64, number: u64, phase: v1::FlowPhase) -> v1::Event {
    let now = now_us();
    let ended = phase == v1::FlowPhase::End;
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let ports = [443, 443, 443, 53, 80, 123, 8080, 22, 5228, 993, 3478, 8443];
    v1::Event {
        time_us: now,
        kind: Some(Kind::Flow(v1::Flow {
            phase: phase.into(),
            flow_id: (stream + 1) << 32 | number,
            protocol: 6,
            src_ip: vec![192, 168, 1, (mixed % 30) as u8].into(),
            dst_ip: vec![203, 0, (mixed >> 5) as u8 % 12, (mixed >> 9) as u8].into(),
            src_port: 1024 + (number % 60_000) as u32,
            dst_port: ports[(mixed % 12) as usize],
            reply_src_ip: vec![203, 0, (mixed >> 5) as u8 % 12, (mixed >> 9) as u8].into(),
            reply_dst_ip: vec![198, 51, 100, 7].into(),
            reply_src_port: ports[(mixed % 12) as usize],
            reply_dst_port: 1024 + (number % 60_000) as u32,
            direction: v1::Direction::Out.into(),
            bytes_orig: if ended { 1500 + mixed % 9000 } else { 0 },
            bytes_reply: if ended { 9000 + mixed % 90_000 } else { 0 },
            packets_orig: if ended { 12 } else { 0 },
            packets_reply: if ended { 30 } else { 0 },
            first_seen_us: now - 1_000_000,
            last_seen_us: now,
            tcp_state: v1::TcpState::Established.into(),
            status: 14,
            conntrack_id: number as u32,
            device: v1::End::Initiator.into(),
            remote: v1::End::Responder.into(),
            ..v1::Flow::default()
        })),
    }
}

/// Half a batch of new flows, and the ends of those of the batch before.
fn batch(stream: u64, sequence: u64) -> v1::Batch {
    let half = BATCH as u64 / 2;
    let flows = |of: u64, phase| (0..half).map(move |i| event(stream, of * half + i, phase));
    let mut events: Vec<_> = Vec::with_capacity(BATCH);
    if sequence > 1 {
        events.extend(flows(sequence - 1, v1::FlowPhase::End));
    }
    events.extend(flows(sequence, v1::FlowPhase::New));
    v1::Batch { sequence, events, ..v1::Batch::default() }
}

/// Sends batches for `time`, at `rate` events per second if given; returns events acked and ack times.
async fn agent(channel: Channel, stream: u64, time: Duration, rate: Option<f64>) -> (u64, Vec<Duration>) {
    let (frames, receiver) = mpsc::channel(IN_FLIGHT_BATCHES);
    let mut request = Request::new(ReceiverStream::new(receiver));
    let bearer = format!("Bearer {TOKEN}").parse().expect("a header value");
    request.metadata_mut().insert("authorization", bearer);
    let hello = v1::Hello {
        router_id: format!("bench-{stream}"),
        epoch: stream + 1,
        oldest_sequence: 1,
        ..v1::Hello::default()
    };
    frames.send(v1::AgentFrame { frame: Some(Frame::Hello(hello)) }).await.expect("room");
    let mut answers = CollectorClient::new(channel).stream(request).await.expect("a stream").into_inner();
    answers.message().await.expect("an answer").expect("Welcome");

    if let Some(rate) = rate {
        // Routers do not send in step: the streams share out the time between two batches of one.
        let period = Duration::from_secs_f64(BATCH as f64 / rate);
        tokio::time::sleep(period.mul_f64(stream as f64 / STREAMS as f64)).await;
    }
    let began = Instant::now();
    let mut sent = VecDeque::new();
    let (mut sequence, mut events, mut acked, mut took) = (0_u64, 0_u64, 0_u64, Vec::new());
    loop {
        let sending = began.elapsed() < time;
        if !sending && sent.is_empty() {
            return (acked, took);
        }
        let due = rate.is_none_or(|rate| events as f64 <= began.elapsed().as_secs_f64() * rate);
        if sending && due && sent.len() < IN_FLIGHT_BATCHES {
            sequence += 1;
            let batch = batch(stream, sequence);
            let size = batch.events.len() as u64;
            events += size;
            sent.push_back((sequence, size, Instant::now()));
            frames.send(v1::AgentFrame { frame: Some(Frame::Batch(batch)) }).await.expect("room");
            if sent.len() < IN_FLIGHT_BATCHES && rate.is_none() {
                continue;
            }
        }
        let answer = match tokio::time::timeout(Duration::from_millis(1), answers.message()).await {
            Ok(answer) => answer.expect("an answer").expect("an ack"),
            Err(_) => continue,
        };
        let Some(server_frame::Frame::Ack(ack)) = answer.frame else { panic!("expected an ack") };
        assert_eq!(ack.rejected, 0);
        while let Some((_, size, at)) = sent.pop_front_if(|(sequence, ..)| *sequence <= ack.sequence) {
            acked += size;
            took.push(at.elapsed());
        }
    }
}

async fn run(server: &Server, time: Duration, rate: Option<f64>) -> (u64, Vec<Duration>) {
    let mut agents = Vec::new();
    for stream in 0..STREAMS {
        let channel =
            Channel::from_shared(server.url.clone()).expect("a URL").connect().await.expect("connects");
        agents.push(tokio::spawn(agent(channel, stream, time, rate.map(|rate| rate / STREAMS as f64))));
    }
    let mut all = (0, Vec::new());
    for agent in agents {
        let (acked, took) = agent.await.expect("an agent ends well");
        all.0 += acked;
        all.1.extend(took);
    }
    all.1.sort_unstable();
    all
}

/// Flows that ended two months ago, and the commits that they come in.
const OLD_FLOWS: i64 = 400_000;
const OLD_COMMIT: i64 = 4_000;

/// A database whose flows were all kept long enough.
fn old_database(directory: &std::path::Path) {
    let store = Store::open(&DatabaseUrl::Sqlite(directory.join("netmon.db"))).expect("a database");
    let mut writer = store.writer().expect("a writer");
    let router = writer.attach_router("bench-old", now_us()).expect("a router").id;
    let first = writer.reserve_flow_ids(OLD_FLOWS).expect("ids");
    let begin = now_us() - 60 * 24 * 3_600_000_000;
    for commit in 0..OLD_FLOWS / OLD_COMMIT {
        let mut changes = Changes::default();
        for number in commit * OLD_COMMIT..(commit + 1) * OLD_COMMIT {
            let event = event(0, number.cast_unsigned(), v1::FlowPhase::End);
            let Some(Kind::Flow(flow)) = event.kind else { unreachable!("an event of a flow") };
            // Two weeks of them.
            let at = begin + number * (14 * 24 * 3_600_000_000 / OLD_FLOWS);
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

/// Acks at 2,000 events/s while the first sweep of a server takes away all that is old.
fn retention(runtime: &tokio::runtime::Runtime) {
    println!("load average before: {}", std::fs::read_to_string("/proc/loadavg").expect("proc").trim());
    let data = tempfile::tempdir().expect("a temporary directory");
    old_database(data.path());
    let store = |data: &std::path::Path| {
        Store::open(&DatabaseUrl::Sqlite(data.join("netmon.db"))).expect("a database")
    };
    let before = store(data.path()).reader().size_bytes().expect("a size");
    let server = Server::on(data);
    let began = Instant::now();
    let time = Duration::from_secs(90);
    let watch = {
        let path = server.data.path().to_owned();
        std::thread::spawn(move || {
            let store = Store::open(&DatabaseUrl::Sqlite(path.join("netmon.db"))).expect("a database");
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let oldest = store.reader().oldest_flow().expect("a query");
                if oldest.is_none_or(|at| at > now_us() - 24 * 3_600_000_000) {
                    return began.elapsed();
                }
            }
        })
    };
    let (acked, took) = runtime.block_on(run(&server, time, Some(2_000.0)));
    let swept = watch.join().expect("the watch ends");
    let after = store(server.data.path()).reader().size_bytes().expect("a size");
    println!(
        "{OLD_FLOWS} flows of two weeks removed in {:.0} s beside 2000 events/s: {acked} acked, ack p50 {:?} p99 {:?} most {:?}, \
         file and log {:.0} MB before, {:.0} MB after",
        swept.as_secs_f64(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
        before as f64 / 1e6,
        after as f64 / 1e6,
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let time = Duration::from_secs(10);
    if std::env::args().any(|word| word == "retention") {
        return retention(&runtime);
    }
    println!("load average before: {}", std::fs::read_to_string("/proc/loadavg").expect("proc").trim());

    let server = Server::start();
    let cpu = server.cpu();
    let began = Instant::now();
    let (acked, took) = runtime.block_on(run(&server, time, None));
    let rate = acked as f64 / began.elapsed().as_secs_f64();
    let server_us = (server.cpu() - cpu) * 1e6 / acked as f64;
    println!(
        "{STREAMS} streams, batches of {BATCH}, as fast as it goes: {rate:.0} events/s acked, {server_us:.2} us server \
         CPU/event, p50 {:?} p99 {:?}, RSS {:.0} MB (peak {:.0} MB)",
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        server.memory_mb("VmRSS:"),
        server.memory_mb("VmHWM:"),
    );
    drop(server);

    let server = Server::start();
    let cpu = server.cpu();
    let (acked, took) = runtime.block_on(run(&server, time, Some(20_000.0)));
    println!(
        "{STREAMS} streams at 20000 events/s: {acked} acked, {:.2} us server CPU/event, ack p50 {:?} p99 {:?}",
        (server.cpu() - cpu) * 1e6 / acked as f64,
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
}
