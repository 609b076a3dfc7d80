//! Events from flows.

use bytes::{Bytes, BytesMut};
use netmon_proto::v1::{
    Event, Flow, FlowPhase, Gap, GapCause, TableSync, event::Kind as EventKind, table_sync::Step,
};

use crate::decode::{Tuple, address_bytes, is_icmp};

use super::entry::Entry;

/// Addresses of many events share one allocation of this size.
const CHUNK_BYTES: usize = 8 * 1024;

/// Makes events. Holds the chunk from which their addresses are cut, so that an event costs no allocation
/// of its own.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    chunk: BytesMut,
}

impl Reporter {
    /// A report about `entry` as of `now_us`.
    pub(super) fn flow(&mut self, entry: &Entry, phase: FlowPhase, end_unseen: bool, now_us: i64) -> Event {
        let key = &entry.key;
        let [direction, device, remote] = entry.place;
        let (counters, before) = (entry.total(), entry.before());
        let mut flow = Flow {
            phase: phase.into(),
            flow_id: entry.flow_id,
            protocol: key.protocol.into(),
            src_ip: self.address(&key.original.src, key.v6),
            dst_ip: self.address(&key.original.dst, key.v6),
            direction: direction.into(),
            device: device.into(),
            remote: remote.into(),
            bytes_orig: counters.bytes_orig,
            bytes_reply: counters.bytes_reply,
            packets_orig: counters.packets_orig,
            packets_reply: counters.packets_reply,
            bytes_orig_before: before.bytes_orig,
            bytes_reply_before: before.bytes_reply,
            packets_orig_before: before.packets_orig,
            packets_reply_before: before.packets_reply,
            first_seen_us: entry.first_us.min(now_us),
            last_seen_us: entry.last_us.clamp(entry.first_us.min(now_us), now_us),
            kernel_start_us: if entry.start_is_kernels { entry.first_us } else { 0 },
            tcp_state: tcp_state(entry.tcp_state),
            status: entry.status,
            mark: entry.mark,
            zone: key.zone.into(),
            conntrack_id: key.id,
            end_unseen,
            no_counters: entry.no_counters,
            ..Flow::default()
        };
        if is_icmp(key.protocol) {
            let [icmp_type, icmp_code] = key.original.dst_port.to_be_bytes();
            flow.icmp_id = key.original.src_port.into();
            flow.icmp_type = icmp_type.into();
            flow.icmp_code = icmp_code.into();
        } else {
            flow.src_port = key.original.src_port.into();
            flow.dst_port = key.original.dst_port.into();
        }
        if is_translated(&key.original, &entry.reply, key.protocol) {
            flow.reply_src_ip = self.address(&entry.reply.src, key.v6);
            flow.reply_dst_ip = self.address(&entry.reply.dst, key.v6);
            if !is_icmp(key.protocol) {
                flow.reply_src_port = entry.reply.src_port.into();
                flow.reply_dst_port = entry.reply.dst_port.into();
            }
        }
        Event { time_us: now_us, kind: Some(EventKind::Flow(flow)) }
    }

    fn address(&mut self, address: &[u8; 16], v6: bool) -> Bytes {
        if self.chunk.capacity() < address.len() {
            self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.chunk.extend_from_slice(address_bytes(address, v6));
        self.chunk.split().freeze()
    }
}

/// A loss, as an event.
pub(crate) fn gap(cause: GapCause, count: u64, from_us: i64, now_us: i64, detail: &str) -> Event {
    let gap = Gap { cause: cause.into(), count, from_us, to_us: now_us, detail: detail.to_owned() };
    Event { time_us: now_us, kind: Some(EventKind::Gap(gap)) }
}

/// Begin or end of a report of the whole table.
pub(super) fn table_sync(step: Step, sync_id: u64, now_us: i64) -> Event {
    let kind = EventKind::TableSync(TableSync { step: step.into(), sync_id });
    Event { time_us: now_us, kind: Some(kind) }
}

/// True where the reply tuple is not simply the original one reversed.
fn is_translated(original: &Tuple, reply: &Tuple, protocol: u8) -> bool {
    original.src != reply.dst
        || original.dst != reply.src
        || !is_icmp(protocol) && (original.src_port != reply.dst_port || original.dst_port != reply.src_port)
}

/// [`Entry::tcp_state`] counts as the protocol does; numbers that it does not know become "not known".
fn tcp_state(state: u8) -> i32 {
    netmon_proto::v1::TcpState::try_from(i32::from(state)).map_or(0, i32::from)
}
