//! Flows from their first report to their end.

use netmon_server::domain::{Changes, Counters, End, FlowId, FlowRecord, Tuple};
use netmon_server::store::{DatabaseUrl, Store};

use crate::events::lines;
use crate::sample::{NOON, ended, ip, kept, open, ping6, tcp};
use crate::schema::execute;
use crate::{all_flows, opened};

pub(crate) fn every_field_comes_back(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    // Told without an id, by a listing that had the kernel's number: both are needed when the tuple is used again.
    let mut by_tuple = tcp(router, 5);
    (by_tuple.flow_id, by_tuple.key.conntrack_id) = (u32::MAX.into(), 7);
    let flows = [tcp(router, 1), ping6(router, 2), by_tuple.clone()];
    writer.commit(&ended(&flows)).unwrap();
    let still = [open(&tcp(router, 6)), open(&ping6(router, 7))];
    writer.commit(&Changes { open: still.to_vec(), ..Changes::default() }).unwrap();
    assert_eq!(kept(&by_tuple), by_tuple);
    let mut expected: Vec<FlowRecord> = flows.iter().map(kept).chain(still).collect();
    expected.reverse();
    let read: Vec<FlowRecord> = all_flows(&store).into_iter().map(|row| row.flow).collect();
    assert_eq!(read, expected);
}

/// What follows from other columns is not written, and what an earlier version wrote reads the same.
pub(crate) fn what_follows_from_other_columns_takes_no_room(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut masked = tcp(router, 1);
    masked.kernel_start = Some(masked.first_seen);
    let tuple = masked.key.tuple;
    let address = ip("198.51.100.1");
    masked.reply =
        Some(Tuple { src: tuple.dst, dst: address, src_port: tuple.dst_port, dst_port: tuple.src_port });
    let mut plain = masked.clone();
    plain.id = FlowId(2);
    plain.reply = Some(Tuple { dst: tuple.src, ..masked.reply.unwrap() });
    (plain.key.zone, plain.mark, plain.before) = (0, 0, Counters::default());
    let mut forwarded = tcp(router, 3);
    forwarded.reply = Some(Tuple { src: ip("192.168.1.9"), ..masked.reply.unwrap() });
    forwarded.remote = None;
    let mut unheard = ping6(router, 4);
    unheard.kernel_start = Some(unheard.first_seen);
    let flows = [masked, plain, forwarded, unheard];
    writer.commit(&ended(&flows)).unwrap();
    let flows = flows.map(|flow| kept(&flow));
    let read = || -> Vec<FlowRecord> {
        let mut flows: Vec<FlowRecord> = all_flows(&store).into_iter().map(|row| row.flow).collect();
        flows.reverse();
        flows
    };
    assert_eq!(read(), flows);
    let columns = ["reply_src_ip", "reply_src_port", "reply_dst_ip", "reply_dst_port", "kernel_start_us"];
    let start = NOON - 7;
    assert_eq!(
        lines(url, &columns, "FROM flows ORDER BY id"),
        ["- - c6336401 - -", "- - c0a80114 - -", &format!("c0a80109 - c6336401 - {start}"), "- - - - -"]
    );
    let columns =
        ["flow_id", "conntrack_id", "dst_ip", "ends", "domain_confidence", "domain_reason", "end_kind"];
    assert_eq!(
        lines(url, &columns, "FROM flows ORDER BY id"),
        [
            "- - - - - - -",
            "- - - - - - -",
            "- - cb007105 1 - - -",
            "4 - 20010db8000000000000000000000021 1 - - 2"
        ]
    );
    let columns = ["dst_port", "zone", "mark", "bytes_orig_before", "packets_reply_before"];
    assert_eq!(lines(url, &columns, "FROM flows WHERE id = 2"), ["- - - - -"]);
    execute(
        url,
        "UPDATE flows SET dst_port = service_port WHERE dst_port IS NULL;
         UPDATE flows SET zone = 0, mark = 0, bytes_orig_before = 0, packets_reply_before = 0 WHERE zone IS NULL;
         UPDATE flows SET reply_src_ip = dst_ip WHERE reply_dst_ip IS NOT NULL AND reply_src_ip IS NULL;
         UPDATE flows SET reply_src_port = dst_port, reply_dst_port = src_port WHERE reply_dst_ip IS NOT NULL;
         UPDATE flows SET kernel_start_us = first_seen_us WHERE kernel_start_us IS NULL;
         UPDATE flows SET dst_ip = (SELECT address FROM remote_hosts WHERE id = host_id) WHERE dst_ip IS NULL;
         UPDATE flows SET ends = 9 WHERE ends IS NULL;
         UPDATE flows SET domain_confidence = 95, domain_reason = 1 WHERE domain_id IS NOT NULL;
         UPDATE flows SET end_kind = 1 WHERE end_kind IS NULL;",
    );
    assert_eq!(read(), flows);
}

pub(crate) fn an_open_flow_progresses_and_ends(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut flow = open(&tcp(router, 1));
    writer.commit(&Changes { open: vec![flow.clone()], ..Changes::default() }).unwrap();
    flow.counters = flow.counters.plus(Counters { bytes_orig: 5, ..Counters::default() });
    flow.last_seen += 1;
    flow.tcp_state = 4;
    flow.status = 2;
    writer.commit(&Changes { open: vec![flow.clone()], ..Changes::default() }).unwrap();
    let rows = all_flows(&store);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].flow, flow);

    flow.end = Some(End::Seen);
    writer.commit(&Changes { finished: vec![flow.clone()], closed: vec![1], ..Changes::default() }).unwrap();
    let rows = all_flows(&store);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].flow, kept(&flow));
    assert!(writer.attach_router("gw", NOON).unwrap().open.is_empty());
}

/// The engine says "closed" of a flow that was never written as open.
pub(crate) fn a_flow_opens_and_ends_in_one_commit(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&Changes { closed: vec![1, 2], ..ended(&[tcp(router, 1)]) }).unwrap();
    let rows = all_flows(&store);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].flow, kept(&tcp(router, 1)));
}

pub(crate) fn a_restart_finds_the_open_flows(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let other = writer.attach_router("other", NOON).unwrap().id;
    let mine = [open(&tcp(router, 1)), open(&ping6(router, 2))];
    let mut theirs = open(&tcp(other, 3));
    theirs.device = Some(ip("192.168.1.99"));
    theirs.key.tuple.src = ip("192.168.1.99");
    let all = mine.iter().chain([&theirs]).cloned().collect();
    writer.commit(&Changes { open: all, ..Changes::default() }).unwrap();
    drop((writer, store));

    let store = Store::open(url).unwrap();
    let mut writer = store.writer().unwrap();
    let attached = writer.attach_router("gw", NOON + 1).unwrap();
    assert_eq!(attached.id, router);
    assert_eq!(attached.open, mine);
    assert_eq!(writer.attach_router("other", NOON + 1).unwrap().open, [theirs]);
}

/// A restarted agent finds a flow again and numbers it anew; the row stays, and the old number is free.
pub(crate) fn a_flow_takes_a_new_id_of_the_agent(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let (mut first, mut second) = (open(&tcp(router, 1)), open(&ping6(router, 2)));
    writer.commit(&Changes { open: vec![first.clone(), second.clone()], ..Changes::default() }).unwrap();
    second.flow_id = first.flow_id;
    first.flow_id = 77;
    first.direction = netmon_server::domain::Direction::In;
    first.device = None;
    writer.commit(&Changes { open: vec![first.clone(), second.clone()], ..Changes::default() }).unwrap();
    let read: Vec<FlowRecord> = all_flows(&store).into_iter().map(|row| row.flow).collect();
    assert_eq!(read, [second, first]);
}

/// More rows than one statement takes, in every list.
pub(crate) fn a_large_commit_is_whole(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let count = 1_234;
    let made = |id: i64| {
        let mut flow = tcp(router, id);
        flow.device = Some(ip(&format!("10.1.{}.{}", id / 256, id % 256)));
        flow.remote = Some(ip(&format!("2001:db8:1::{id:x}")));
        flow.key.tuple.src = flow.device.unwrap();
        flow.key.tuple.dst = flow.remote.unwrap();
        flow.key.tuple.dst_port = u16::try_from(id).unwrap();
        flow.reply = None;
        flow
    };
    let finished: Vec<FlowRecord> = (1..=count).map(made).collect();
    let alive: Vec<FlowRecord> = (count + 1..=2 * count).map(|id| open(&made(id))).collect();
    let mut changes = ended(&finished);
    changes.open = alive.clone();
    writer.commit(&changes).unwrap();
    let closed = alive.iter().map(|flow| flow.id.0).collect();
    let over: Vec<FlowRecord> =
        alive.iter().map(|flow| FlowRecord { end: Some(End::Unseen), ..flow.clone() }).collect();
    writer.commit(&Changes { closed, ..ended(&over) }).unwrap();

    let mut read: Vec<FlowRecord> = all_flows(&store).into_iter().map(|row| row.flow).collect();
    read.reverse();
    let expected: Vec<FlowRecord> = finished.iter().chain(&over).map(kept).collect();
    assert!(read == expected);
    let totals = store.reader().totals().unwrap();
    assert_eq!(totals.flows.flows, 2 * count);
    assert_eq!(totals.flows, totals.device_minutes);
    assert_eq!(totals.flows, totals.service_minutes);
}
