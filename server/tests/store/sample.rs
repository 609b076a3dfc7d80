//! Flows and changes to write.

use std::net::IpAddr;

use netmon_server::domain::{
    Changes, Counters, CursorMove, DeviceTouch, Direction, End, FlowId, FlowKey, FlowName, FlowRecord,
    GapRow, HostMinuteDelta, HostTouch, Icmp, Micros, MinuteDelta, NameReason, RawEvent, RouterId,
    RouterUpdate, Tuple, is_by_tuple,
};

/// 2025-06-01T12:00:00Z, at the start of a minute.
pub(crate) const NOON: Micros = 1_748_779_200_000_000;

pub(crate) const NOON_MINUTE: i64 = NOON / 60_000_000;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A finished TCP connection behind NAT, over IPv4, whose figures all differ.
pub(crate) fn tcp(router: RouterId, id: i64) -> FlowRecord {
    FlowRecord {
        id: FlowId(id),
        router,
        // Above 2^63: it must come back as it is while the flow is open.
        flow_id: u64::MAX - id.cast_unsigned(),
        key: FlowKey {
            zone: 65_535,
            conntrack_id: u32::MAX - 1,
            protocol: 6,
            tuple: Tuple { src: ip("192.168.1.20"), dst: ip("203.0.113.5"), src_port: 50_123, dst_port: 443 },
        },
        reply: Some(Tuple {
            src: ip("203.0.113.5"),
            dst: ip("198.51.100.1"),
            src_port: 8_443,
            dst_port: 61_000,
        }),
        icmp: None,
        direction: Direction::Out,
        device: Some(ip("192.168.1.20")),
        remote: Some(ip("203.0.113.5")),
        counters: Counters { bytes_orig: 1_000, bytes_reply: 20_000, packets_orig: 10, packets_reply: 30 },
        before: Counters { bytes_orig: 100, bytes_reply: 200, packets_orig: 1, packets_reply: 2 },
        first_seen: NOON,
        last_seen: NOON + 5_000_001,
        kernel_start: Some(NOON - 7),
        tcp_state: 8,
        status: 0x8000_01fe,
        mark: 0xffff_fff0,
        no_counters: false,
        end: Some(End::Seen),
        name: Some(FlowName {
            domain: Some("www.example.org".into()),
            confidence: 95,
            reason: NameReason::OnlyCandidate,
        }),
    }
}

/// A finished ping over IPv6 between two LAN devices, which has nothing that may be missing.
pub(crate) fn ping6(router: RouterId, id: i64) -> FlowRecord {
    FlowRecord {
        id: FlowId(id),
        router,
        flow_id: id.cast_unsigned(),
        key: FlowKey {
            zone: 0,
            conntrack_id: 0,
            protocol: 58,
            tuple: Tuple { src: ip("2001:db8::20"), dst: ip("2001:db8::21"), src_port: 0, dst_port: 0 },
        },
        reply: None,
        icmp: Some(Icmp { kind: 128, code: 255, id: 65_535 }),
        direction: Direction::Lan,
        device: Some(ip("2001:db8::20")),
        remote: None,
        counters: Counters::default(),
        before: Counters::default(),
        first_seen: NOON + 1,
        last_seen: NOON + 1,
        kernel_start: None,
        tcp_state: 0,
        status: 0,
        mark: 0,
        no_counters: true,
        end: Some(End::Unseen),
        name: None,
    }
}

/// An ended flow as the database gives it: without the kernel's number and the agent's, unless it is known by its tuple.
pub(crate) fn kept(flow: &FlowRecord) -> FlowRecord {
    let mut flow = flow.clone();
    if !is_by_tuple(flow.flow_id) {
        (flow.flow_id, flow.key.conntrack_id) = (FlowRecord::NO_FLOW_ID, 0);
    }
    flow
}

/// The same flow before it ended.
pub(crate) fn open(flow: &FlowRecord) -> FlowRecord {
    FlowRecord { end: None, ..flow.clone() }
}

/// What its traffic adds to a minute.
pub(crate) fn delta(flow: &FlowRecord, minute: i64, flows: i64, counters: Counters) -> MinuteDelta {
    MinuteDelta {
        router: flow.router,
        minute,
        device: flow.device,
        protocol: flow.key.protocol,
        port: flow.service_port(),
        flows,
        counters,
    }
}

/// The same by its remote host.
pub(crate) fn host_delta(flow: &FlowRecord, minute: i64, flows: i64, counters: Counters) -> HostMinuteDelta {
    HostMinuteDelta { router: flow.router, minute, remote: flow.remote, flows, counters }
}

/// A commit that ends flows nobody had heard of: each with its device, host and minute.
pub(crate) fn ended(flows: &[FlowRecord]) -> Changes {
    let mut changes = Changes { finished: flows.to_vec(), ..Changes::default() };
    for flow in flows {
        let (first_seen, last_seen) = (flow.first_seen, flow.last_seen);
        if let Some(address) = flow.device
            && !changes.devices.iter().any(|touch| (touch.router, touch.address) == (flow.router, address))
        {
            changes.devices.push(DeviceTouch { router: flow.router, address, first_seen, last_seen });
        }
        if let Some(address) = flow.remote
            && !changes.hosts.iter().any(|touch| touch.address == address)
        {
            changes.hosts.push(HostTouch { address, first_seen, last_seen });
        }
        changes.minutes.push(delta(flow, NOON_MINUTE, 1, flow.watched()));
        changes.host_minutes.push(host_delta(flow, NOON_MINUTE, 1, flow.watched()));
    }
    changes
}

pub(crate) fn cursor(router: RouterId, epoch: u64, from: Option<u64>, to: u64) -> CursorMove {
    CursorMove { router, epoch, from, to }
}

pub(crate) fn heard(router: RouterId, at: Micros) -> RouterUpdate {
    RouterUpdate {
        router,
        last_heard: at,
        lag_us: None,
        clock_skew_us: None,
        agent_version: None,
        hostname: None,
        kernel: None,
        os: None,
        architecture: None,
        open_flows: None,
        spool_bytes: None,
        memory_bytes: None,
        warnings: None,
    }
}

pub(crate) fn gap(router: RouterId, cause: i16, count: i64, to: Micros) -> GapRow {
    GapRow { router, cause, count, from: NOON, to, detail: format!("{count} of {cause}") }
}

pub(crate) fn raw(router: RouterId, kind: i16) -> RawEvent {
    RawEvent { router, kind, time: NOON, payload: vec![0, 255, 1] }
}
