//! What the kernel says at the end of each flow, read by a road that shares no code with the agent:
//! a socket of its own and the parser of netlink-packet-netfilter.

use std::{collections::BTreeMap, io};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload, Nla, NlasIterator};
use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner,
    conntrack::{ConntrackAttribute, ConntrackMessage},
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

const NFNLGRP_CONNTRACK_DESTROY: u32 = 3;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;

/// Packets and bytes, original direction first.
pub(crate) type Totals = [u64; 4];

/// Listens to DESTROY.
pub(crate) struct Ledger {
    socket: Socket,
    /// Final counters of every end, by conntrack id, in the order in which they came.
    pub(crate) ends: BTreeMap<u32, Vec<Totals>>,
    pub(crate) count: usize,
}

impl Ledger {
    pub(crate) fn open() -> Self {
        let mut socket = Socket::new(NETLINK_NETFILTER).expect("a socket");
        socket.bind_auto().expect("an address");
        socket.set_non_blocking(true).expect("non-blocking");
        socket.set_rx_buf_sz(4 << 20).expect("a buffer");
        socket.add_membership(NFNLGRP_CONNTRACK_DESTROY).expect("a subscription");
        Ledger { socket, ends: BTreeMap::new(), count: 0 }
    }

    /// Takes in what is there.
    pub(crate) fn drain(&mut self) {
        let mut buffer = vec![0; 8192];
        loop {
            let mut room = &mut buffer[..];
            match self.socket.recv(&mut room, 0) {
                Ok(length) => self.take(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the ledger is no good: {error}"),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(bytes).expect("a netfilter message");
        let NetlinkPayload::InnerMessage(message) = message.payload else { panic!("not a message") };
        let NetfilterMessageInner::Conntrack(ConntrackMessage::Delete(attributes)) = message.inner else {
            panic!("not an end")
        };
        let (mut id, mut totals) = (None, [0; 4]);
        for attribute in attributes {
            let ConntrackAttribute::Other(raw) = attribute else { continue };
            let mut value = vec![0; raw.value_len()];
            raw.emit_value(&mut value);
            match raw.kind() & 0x3fff {
                CTA_COUNTERS_ORIG => totals[..2].copy_from_slice(&pair(&value)),
                CTA_COUNTERS_REPLY => totals[2..].copy_from_slice(&pair(&value)),
                CTA_ID => id = Some(u32::from_be_bytes(value.try_into().expect("four bytes"))),
                _ => {}
            }
        }
        self.ends.entry(id.expect("an id")).or_default().push(totals);
        self.count += 1;
    }
}

fn pair(nested: &[u8]) -> [u64; 2] {
    let mut pair = [0; 2];
    for attribute in NlasIterator::new(nested) {
        let attribute = attribute.expect("an attribute");
        if let Some(place) = pair.get_mut(usize::from(attribute.kind()) - 1) {
            *place = u64::from_be_bytes(attribute.value().try_into().expect("eight bytes"));
        }
    }
    pair
}
