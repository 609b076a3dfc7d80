//! The main loop that posts JSON batches, against the test server.

use std::time::Duration;

use netmon_proto::v1::{DnsResponse, Flow, FlowPhase, HostIdentity, RouterHealth, TableSync, event::Kind};
use serde_json::Value;

use super::*;
use crate::pipeline::tests::{
    Stage,
    batches::{BatchServer, TOKEN},
    play,
};

fn flow(phase: FlowPhase) -> Kind {
    Kind::Flow(Flow {
        phase: phase.into(),
        src_ip: vec![192, 168, 1, 7].into(),
        dst_ip: vec![192, 0, 2, 1].into(),
        ..Flow::default()
    })
}

fn events() -> Vec<Event> {
    let asked = |name: &str| {
        Kind::DnsResponse(DnsResponse {
            client_ip: vec![192, 168, 1, 7].into(),
            name: name.to_owned(),
            r#type: 1,
            ..DnsResponse::default()
        })
    };
    let kinds = [
        flow(FlowPhase::New),
        asked("a.example"),
        asked("a.example"),
        flow(FlowPhase::Progress),
        Kind::TableSync(TableSync::default()),
        Kind::RouterHealth(RouterHealth::default()),
        Kind::HostIdentity(HostIdentity::default()),
        flow(FlowPhase::End),
    ];
    let now_us = crate::host::now_us();
    kinds.into_iter().map(|kind| Event { time_us: now_us, kind: Some(kind) }).collect()
}

/// The whole way of the events of the moment before the agent is stopped.
#[tokio::test]
async fn names_are_digested_up_to_the_end_and_counted_once() {
    let (dir, server) = (tempfile::tempdir().expect("a directory"), BatchServer::default());
    let running = server.start();
    let mut config = Config::new("test", running.url(), TOKEN);
    config.spool_dir = dir.path().join("spool");
    config.metrics_bind = None;
    config.transport = TransportKind::Http;
    config.batch_max_wait = Duration::from_secs(3600);
    let stage = Stage::default();
    play(&config, &stage, async {
        stage.say(Ok(events()));
        while server.kept().heartbeats == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let kept = server.kept();
    assert_eq!(kept.faults, [""; 0]);
    let of = |kind: &str| -> Vec<&Value> {
        kept.events.iter().filter(|event| event["type"] == kind).map(|event| &event["data"]).collect()
    };
    assert_eq!((of("dns_response").len(), of("flow").len()), (2, 1), "{:?}", kept.events);
    // Two of each, if a minute ended in between.
    let (buckets, hosts) = (of("dns_bucket"), of("host_identity"));
    let counts = buckets.iter().map(|bucket| bucket["count"].as_u64().expect("a number"));
    assert_eq!((counts.sum::<u64>(), kept.events.len()), (2, 3 + buckets.len() + hosts.len()));
    let hashes = Value::from(vec![buckets[0]["qname_hash"].clone()]);
    assert_eq!((&hosts[0]["recent_qname_hashes"], &hosts[0]["ip"]), (&hashes, &"192.168.1.7".into()));
    let flow = of("flow")[0];
    assert_eq!((&flow["dns_context"]["recent_qname_hashes"], &flow["event"]), (&hashes, &"DESTROY".into()));
}

#[test]
fn nothing_is_different_on_a_stream() {
    assert!(OldFormat::new(&Config::new("a", "http://b", "c"), 0).is_none());
}
