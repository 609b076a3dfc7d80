//! Any bytes, read as one datagram of the kernel: no panic in the decoders, and none in the flow table
//! that takes what they made of it; what the table reports is a flow that the server can take.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_agent::{
    addresses::{AddressBook, HostAddresses, LanConfig},
    decode::{Envelopes, Frame, Kind, decode_conntrack},
    flows::{FlowTable, Moment},
    identity::neighbours::Neighbours,
};

const NOW_US: i64 = 1_800_000_000_000_000;

fuzz_target!(|data: &[u8]| {
    let mut host = HostAddresses::default();
    let mut neighbours = Neighbours::default();
    let mut table = FlowTable::new(1, NOW_US, 16, AddressBook::default());
    let mut out = Vec::new();
    let mut now = Moment { unix_us: NOW_US, uptime_ms: 1 };
    table.begin_dump(now, &mut out);
    for frame in Envelopes::new(data) {
        let Ok(Frame::Message { message_type, flags, payload, .. }) = frame else { continue };
        // rtnetlink's messages of addresses and neighbours share the road, for want of a better place.
        let _ = host.take(message_type, payload);
        let _ = neighbours.take(message_type, payload, NOW_US);
        let Ok(message) = decode_conntrack(message_type, flags, payload) else { continue };
        now.unix_us += 1;
        match message.kind {
            Kind::New => table.on_new(&message, now, &mut out),
            Kind::Destroy => table.on_destroy(&message, now, &mut out),
            Kind::Row | Kind::Update => table.on_row(&message, now, &mut out),
        }
    }
    table.end_dump(true, now, &mut out);
    table.set_address_book(AddressBook::new(&LanConfig::default(), &host));
    for event in out {
        let Some(netmon_proto::v1::event::Kind::Flow(flow)) = event.kind else { continue };
        assert!(flow.flow_id != 0 && flow.phase != 0);
        assert!(matches!(flow.src_ip.len(), 4 | 16) && flow.src_ip.len() == flow.dst_ip.len());
        assert!(flow.src_port <= 65_535 && flow.dst_port <= 65_535 && flow.protocol <= 255);
        assert!(flow.first_seen_us <= flow.last_seen_us && flow.last_seen_us <= event.time_us);
        assert!(flow.bytes_orig_before <= flow.bytes_orig && flow.packets_reply_before <= flow.packets_reply);
    }
});
