//! Events from packets that the firewall dropped.

use bytes::Bytes;
use netmon_proto::v1::{Event, FirewallDrop, GapCause, event::Kind};

use super::{
    guard::{Guard, LeftOut, Verdict},
    interfaces::Names,
    message::LogMessage,
    packet::{Fragment, Packet, parse_packet},
    state::NflogState,
};
use crate::{
    decode::address_bytes,
    flows::{Moment, gap},
};

#[derive(Debug)]
pub(super) struct Drops {
    guard: Guard,
}

impl Drops {
    /// Reports `source_rate` packets of a source a second, in the long run.
    pub(super) fn new(source_rate: u32) -> Self {
        Self { guard: Guard::new(source_rate, 0) }
    }

    /// Appends what there is to report about one logged packet.
    pub(super) fn take(
        &mut self,
        message: &LogMessage<'_>,
        names: &Names,
        now: Moment,
        state: &mut NflogState,
        out: &mut Vec<Event>,
    ) {
        if !message.is_ip() {
            state.count_ignored(message.family);
            return;
        }
        let Some(packet) = parse_packet(message.payload) else {
            tracing::debug!(bytes = message.payload.len(), "logged packet without an IP header");
            state.parse_errors += 1;
            return;
        };
        let tag = state.count(message.group, message.prefix);
        state.fragments += u64::from(packet.fragment != Fragment::Whole);
        state.truncated += u64::from(packet.truncated);
        match self.guard.judge(packet.src, now.uptime_ms) {
            Verdict::LeaveOut => state.left_out += 1,
            Verdict::Report(left_out) => {
                let mut name = |index| name(names, index, state);
                let interfaces = [name(message.in_index), name(message.out_index)];
                let drop = report(message, &packet, tag, interfaces, left_out);
                out.push(Event { time_us: now.unix_us, kind: Some(Kind::FirewallDrop(drop)) });
            }
        }
    }

    /// Accounts for what no report will tell of. To be called every second or so.
    pub(super) fn settle(&mut self, now: Moment, out: &mut Vec<Event>) {
        let left_out = self.guard.settle(now.uptime_ms);
        tell(left_out, now, out);
    }

    /// The same, of everything, at the end.
    pub(super) fn settle_all(&mut self, now: Moment, out: &mut Vec<Event>) {
        let left_out = self.guard.settle_all();
        tell(left_out, now, out);
    }

    pub(super) fn sources(&self) -> usize {
        self.guard.sources()
    }
}

fn tell(left_out: LeftOut, now: Moment, out: &mut Vec<Event>) {
    if left_out.count > 0 {
        let age_ms = i64::try_from(now.uptime_ms.saturating_sub(left_out.since_ms)).unwrap_or(i64::MAX);
        let from_us = now.unix_us.saturating_sub(age_ms.saturating_mul(1000)).max(0);
        let detail = "dropped packets of sources above nflog_source_rate; counted in packets";
        out.push(gap(GapCause::Flood, left_out.count, from_us, now.unix_us, detail));
    }
}

/// Zero is no interface. One that nobody told of is named by its index.
fn name(names: &Names, index: u32, state: &mut NflogState) -> String {
    match (index, names.get(index)) {
        (0, _) => String::new(),
        (_, Some(name)) => name.to_owned(),
        (_, None) => {
            state.unnamed_interfaces += 1;
            format!("#{index}")
        }
    }
}

fn report(
    message: &LogMessage<'_>,
    packet: &Packet<'_>,
    tag: String,
    [in_interface, out_interface]: [String; 2],
    left_out: u64,
) -> FirewallDrop {
    let address = |bytes| Bytes::copy_from_slice(address_bytes(bytes, packet.v6));
    let [icmp_type, icmp_code] = packet.icmp.map(u32::from);
    FirewallDrop {
        hook: message.hook_name().to_owned(),
        prefix: tag,
        nflog_group: message.group.into(),
        in_interface,
        out_interface,
        src_ip: address(&packet.src),
        dst_ip: address(&packet.dst),
        src_port: packet.src_port.into(),
        dst_port: packet.dst_port.into(),
        protocol: packet.protocol.into(),
        tcp_flags: packet.tcp_flags.into(),
        icmp_type,
        icmp_code,
        src_mac: message.mac.map_or_else(Bytes::new, |mac| Bytes::copy_from_slice(&mac)),
        length: packet.length,
        left_out,
    }
}
