//! Any bytes, read as one datagram of log groups: no panic, and what is reported is a drop that the server
//! can take. The same bytes as a packet: what the headers say is within it.
//!
//! Seeds: `fuzz/seeds/nflog_packet`, recorded by `examples/nflog_capture.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_agent::nflog::{Fragment, parse_packet, report_datagram};
use netmon_proto::v1::event::Kind;

fuzz_target!(|data: &[u8]| {
    for event in report_datagram(data, false) {
        let Some(Kind::FirewallDrop(drop)) = event.kind else { panic!("{event:?}") };
        assert!(matches!(drop.src_ip.len(), 4 | 16) && drop.src_ip.len() == drop.dst_ip.len());
        assert!(drop.src_port <= 65_535 && drop.dst_port <= 65_535 && drop.protocol <= 255);
        assert!(matches!(drop.src_mac.len(), 0 | 6) && drop.prefix.len() <= 127);
        assert!(drop.protocol == 6 || drop.tcp_flags == 0);
    }
    if let Some(packet) = parse_packet(data) {
        assert!(packet.transport.len() <= data.len());
        let ports = packet.src_port != 0 || packet.dst_port != 0;
        assert!(packet.fragment != Fragment::Later || packet.transport.is_empty() && !ports);
    }
});
