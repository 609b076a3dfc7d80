//! Agents over gRPC.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use netmon_proto::v1::{
    self, agent_frame::Frame, collector_client::CollectorClient, event::Kind, server_frame,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, transport::Channel};

use crate::now_us;
use crate::server::{Server, TOKEN};

pub(crate) const BATCH: usize = 500;
const IN_FLIGHT_BATCHES: usize = 16;
pub(crate) const STREAMS: u64 = 10;

/// A flow's report. Thirty devices, a few thousand hosts, a dozen services.
pub(crate) fn event(stream: u64, number: u64, phase: v1::FlowPhase) -> v1::Event {
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

pub(crate) async fn run(server: &Server, time: Duration, rate: Option<f64>) -> (u64, Vec<Duration>) {
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
