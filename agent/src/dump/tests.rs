//! What a person reads of each kind of event.

use netmon_proto::v1::{
    DnsAnswer, DnsResponse, End, FirewallDrop, Flow, FlowPhase, Gap, GapCause, Heartbeat, TableSync,
    TcpState, event::Kind, table_sync,
};

use super::*;

#[test]
fn what_was_dropped_and_answered_is_readable_too() {
    let drop = FirewallDrop {
        hook: "INPUT".to_owned(),
        prefix: "drop-in".to_owned(),
        nflog_group: 10,
        in_interface: "wan".to_owned(),
        protocol: 6,
        src_ip: vec![192, 0, 2, 1].into(),
        dst_ip: vec![192, 0, 2, 2].into(),
        src_port: 40_000,
        dst_port: 22,
        tcp_flags: 0x12,
        src_mac: vec![2, 0, 0, 0, 0, 0x1f].into(),
        length: 60,
        left_out: 3,
        ..FirewallDrop::default()
    };
    let ping = FirewallDrop { protocol: 1, ..FirewallDrop::default() };
    let response = DnsResponse {
        client_ip: vec![192, 168, 1, 20].into(),
        name: "www.example.com".to_owned(),
        r#type: 1,
        answers: vec![
            DnsAnswer {
                name: "www.example.com".to_owned(),
                r#type: 5,
                text: "a.example".to_owned(),
                ttl_s: Some(0),
                ..DnsAnswer::default()
            },
            DnsAnswer {
                name: "a.example".to_owned(),
                r#type: 1,
                address: vec![192, 0, 2, 9].into(),
                ..DnsAnswer::default()
            },
        ],
        cached: true,
        ..DnsResponse::default()
    };
    let kinds = [Kind::FirewallDrop(drop), Kind::FirewallDrop(ping), Kind::DnsResponse(response)];
    let events = kinds.map(|kind| Event { time_us: 7, kind: Some(kind) });
    let mut out = Vec::new();
    write_lines(&mut out, &events).expect("written");
    insta::assert_snapshot!(String::from_utf8_lossy(&out), @r##"
    {"dst_ip":"192.0.2.2","dst_port":22,"hook":"INPUT","in_interface":"wan","left_out":3,"length":60,"nflog_group":10,"prefix":"drop-in","protocol":6,"src_ip":"192.0.2.1","src_mac":"02:00:00:00:00:1f","src_port":40000,"tcp_flags":"SYN ACK","time_us":7,"type":"firewall_drop"}
    {"protocol":1,"time_us":7,"type":"firewall_drop"}
    {"answers":[{"data":"a.example","name":"www.example.com","ttl_s":0,"type":"CNAME"},{"data":"192.0.2.9","name":"a.example","type":"A"}],"cached":true,"client_ip":"192.168.1.20","name":"www.example.com","rcode":"NOERROR","record_type":"A","time_us":7,"type":"dns_response"}
    "##);
}

#[test]
fn events_are_lines_that_a_person_can_read() {
    let flow = Flow {
        phase: FlowPhase::End.into(),
        flow_id: 0x0000_0001_0000_0002,
        protocol: 6,
        src_ip: vec![192, 168, 1, 20].into(),
        dst_ip: vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into(),
        dst_port: 443,
        bytes_orig: u64::MAX,
        tcp_state: TcpState::Close.into(),
        end_unseen: true,
        device: End::Initiator.into(),
        ..Flow::default()
    };
    let gap = Gap { cause: GapCause::AgentDown.into(), count: 1, ..Gap::default() };
    let sync = TableSync { step: table_sync::Step::Begin.into(), sync_id: 5 };
    let kinds =
        [Kind::Flow(flow), Kind::Gap(gap), Kind::TableSync(sync), Kind::Heartbeat(Heartbeat::default())];
    let events = kinds.map(|kind| Event { time_us: 7, kind: Some(kind) });
    let mut out = Vec::new();
    write_lines(&mut out, &events).expect("written");
    insta::assert_snapshot!(String::from_utf8_lossy(&out), @r##"
    {"bytes_orig":18446744073709551615,"device":"initiator","dst_ip":"2001:db8::1","dst_port":443,"end_unseen":true,"flow_id":"0000000100000002","phase":"end","protocol":6,"src_ip":"192.168.1.20","tcp_state":"close","time_us":7,"type":"flow"}
    {"cause":"agent_down","count":1,"time_us":7,"type":"gap"}
    {"step":"begin","sync_id":"0000000000000005","time_us":7,"type":"table_sync"}
    {"time_us":7,"type":"heartbeat"}
    "##);
}
