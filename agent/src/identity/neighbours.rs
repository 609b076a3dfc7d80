//! The kernel's neighbour tables, ARP and NDP: which hardware address answers for which IP address.

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc};

use netlink_packet_core::{DecodeError, ParseableParametrized};
use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::{Interest, unix::AsyncFd};

use super::leases::Mac;
use crate::{
    conntrack::{
        dump_neighbours,
        socket::{NetlinkSocket, watch},
    },
    decode::{Envelopes, Frame},
};

const RTNLGRP_NEIGH: u32 = 3;
/// Datagrams looked at per call; what is left keeps the socket readable.
const BOUND: usize = 256;
/// A neighbour's message has about 80 bytes.
const DATAGRAM_BYTES: usize = 8192;
/// The kernel's own limit is 1024 for each family unless it was raised (gc_thresh3).
pub const MOST_NEIGHBOURS: usize = 4096;
/// USER_HZ, the unit of NDA_CACHEINFO.
const TICK_US: i64 = 10_000;

/// A neighbour that answers, or did when it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who answers.
    pub mac: Mac,
    /// When it last did, in microseconds since 1970.
    pub heard_us: i64,
}

/// All neighbours, by the kernel's index of the interface and address. A plain value: what is read from the
/// kernel comes in by [`Neighbours::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    list: BTreeMap<(u32, IpAddr), Neighbour>,
    /// Not taken because there were [`MOST_NEIGHBOURS`].
    pub left_out: u64,
}

impl Neighbours {
    /// Takes in one message of rtnetlink. True where it changed who holds what. Messages of other kinds
    /// change nothing.
    ///
    /// # Errors
    /// When the message is not what its type promises.
    pub fn take(&mut self, message_type: u16, payload: &[u8], now_us: i64) -> Result<bool, DecodeError> {
        Ok(match RouteNetlinkMessage::parse_with_param(payload, message_type)? {
            RouteNetlinkMessage::NewNeighbour(message) => match read(&message, now_us) {
                (Some(key), Some(neighbour)) => self.insert(key, neighbour),
                (Some(key), None) => self.list.remove(&key).is_some(),
                (None, _) => false,
            },
            RouteNetlinkMessage::DelNeighbour(message) => {
                read(&message, now_us).0.is_some_and(|key| self.list.remove(&key).is_some())
            }
            _ => false,
        })
    }

    /// Everyone.
    pub fn iter(&self) -> impl Iterator<Item = (u32, IpAddr, Neighbour)> {
        self.list.iter().map(|((interface, address), neighbour)| (*interface, *address, *neighbour))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn with(list: impl IntoIterator<Item = (u32, IpAddr, Mac, i64)>) -> Self {
        let neighbour =
            |(interface, address, mac, heard_us)| ((interface, address), Neighbour { mac, heard_us });
        Self { list: list.into_iter().map(neighbour).collect(), left_out: 0 }
    }

    /// All of them were heard of then.
    #[cfg(test)]
    pub(crate) fn heard(&mut self, now_us: i64) {
        self.list.values_mut().for_each(|neighbour| neighbour.heard_us = now_us);
    }

    fn insert(&mut self, key: (u32, IpAddr), neighbour: Neighbour) -> bool {
        if self.list.len() >= MOST_NEIGHBOURS && !self.list.contains_key(&key) {
            self.left_out += 1;
            return false;
        }
        let before = self.list.insert(key, neighbour);
        before.is_none_or(|before| before.mac != neighbour.mac)
    }
}

/// Whose the message is, and what it says; no neighbour where it says that nobody answers. Entries of bridges,
/// and those that only make the host answer for others (NTF_PROXY), are nobody's.
fn read(message: &NeighbourMessage, now_us: i64) -> (Option<(u32, IpAddr)>, Option<Neighbour>) {
    let (mut address, mut mac, mut heard_us) = (None, None, now_us);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(&bytes[..]).ok(),
            NeighbourAttribute::CacheInfo(info) => {
                heard_us = now_us.saturating_sub(i64::from(info.confirmed) * TICK_US);
            }
            _ => {}
        }
    }
    let proxy = message.header.flags.contains(NeighbourFlags::Proxy);
    let key = address.filter(|_| !proxy).map(|address| (message.header.ifindex, address));
    let answers = match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent => true,
        // NOARP is for multicast and for links without addresses.
        _ => false,
    };
    let mac = mac.filter(|mac| answers && is_of_one(*mac));
    (key, mac.map(|mac| Neighbour { mac, heard_us }))
}

/// Of one device: not of a group, and not of nobody.
pub fn is_of_one(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    Changes,
    /// Something was left out: everything has to be read again.
    Lost,
}

/// Hears of changes.
#[derive(Debug)]
pub(super) struct NeighbourWatch(AsyncFd<Arc<NetlinkSocket>>);

impl NeighbourWatch {
    pub(super) fn open() -> io::Result<Self> {
        let socket = NetlinkSocket::open(NETLINK_ROUTE)?;
        socket.join(RTNLGRP_NEIGH)?;
        Ok(Self(watch(Arc::new(socket))?))
    }

    pub(super) async fn readable(&self) {
        // An error of epoll would show at the next read, too.
        let _ = self.0.readable().await;
    }

    /// Takes in what is there.
    pub(super) fn follow(&self, neighbours: &mut Neighbours, now_us: i64) -> io::Result<News> {
        let mut buffer = [0; DATAGRAM_BYTES];
        let mut news = News::Nothing;
        for _ in 0..BOUND {
            let read = self.0.try_io(Interest::READABLE, |socket| {
                socket.receive(&mut buffer).map(|bytes| bytes.map(<[u8]>::len))
            });
            match read {
                Ok(None) => {}
                Ok(Some(len)) => {
                    if take_all(neighbours, buffer.get(..len).unwrap_or_default(), now_us)
                        && news == News::Nothing
                    {
                        news = News::Changes;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => news = News::Lost,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => news = News::Lost,
                Err(error) => return Err(error),
            }
        }
        Ok(news)
    }
}

/// Those of one datagram. A message that the library cannot read costs one neighbour, not the rest.
fn take_all(neighbours: &mut Neighbours, datagram: &[u8], now_us: i64) -> bool {
    let mut changed = false;
    for frame in Envelopes::new(datagram) {
        if let Ok(Frame::Message { message_type, payload, .. }) = frame {
            changed |= neighbours.take(message_type, payload, now_us).unwrap_or(false);
        }
    }
    changed
}

/// Asks the kernel for all of them. `left_out` goes on counting.
pub(super) fn read_all(before: &Neighbours, now_us: i64) -> io::Result<Neighbours> {
    let mut neighbours = Neighbours { left_out: before.left_out, ..Neighbours::default() };
    dump_neighbours(|message_type, payload| drop(neighbours.take(message_type, payload, now_us)))?;
    Ok(neighbours)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: u16 = 28;
    const DEL: u16 = 29;
    const NOW_US: i64 = 1_790_000_000_000_000;

    /// struct ndmsg and the attributes NDA_DST and NDA_LLADDR, as the kernel sends them.
    fn message(state: u16, flags: u8, address: &str, mac: &[u8]) -> Vec<u8> {
        let address: IpAddr = address.parse().expect("an address");
        let mut bytes = vec![if address.is_ipv4() { 2 } else { 10 }, 0, 0, 0];
        bytes.extend_from_slice(&7_u32.to_ne_bytes());
        bytes.extend_from_slice(&state.to_ne_bytes());
        bytes.extend_from_slice(&[flags, 1]);
        let mut attribute = |kind: u16, value: &[u8]| {
            bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        match address {
            IpAddr::V4(v4) => attribute(1, &v4.octets()),
            IpAddr::V6(v6) => attribute(1, &v6.octets()),
        }
        attribute(2, mac);
        let confirmed = 300_u32;
        attribute(3, &[confirmed.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat());
        bytes
    }

    const MAC: &[u8] = &[2, 0, 0, 0, 0, 1];

    #[test]
    fn neighbours_come_change_and_go() {
        let mut neighbours = Neighbours::default();
        let mut take = |kind, state, address, mac| {
            let changed = neighbours.take(kind, &message(state, 0, address, mac), NOW_US).expect("a message");
            (changed, neighbours.len())
        };
        assert_eq!(take(NEW, 0x02, "192.168.1.20", MAC), (true, 1), "reachable");
        assert_eq!(take(NEW, 0x04, "192.168.1.20", MAC), (false, 1), "stale is no news");
        assert_eq!(take(NEW, 0x02, "fd00::20", MAC), (true, 2));
        assert_eq!(take(NEW, 0x02, "192.168.1.20", &[2, 0, 0, 0, 0, 2]), (true, 2), "another device");
        assert_eq!(take(NEW, 0x20, "192.168.1.20", &[]), (true, 1), "failed");
        assert_eq!(take(NEW, 0x01, "192.168.1.21", &[]), (false, 1), "incomplete");
        assert_eq!(take(DEL, 0x04, "fd00::20", MAC), (true, 0));
        assert_eq!(take(DEL, 0x04, "fd00::20", MAC), (false, 0));
    }

    #[test]
    fn who_is_no_device_is_left_out() {
        let mut neighbours = Neighbours::default();
        for (state, flags, address, mac) in [
            (0x40, 0, "224.0.0.1", &[1, 0, 0x5e, 0, 0, 1][..]),
            (0x02, 0, "192.168.1.20", &[0xff; 6]),
            (0x02, 0, "192.168.1.20", &[0; 6]),
            (0x02, 0, "192.168.1.20", &[2; 8]),
            (0x80, 8, "192.168.1.20", MAC),
        ] {
            let message = message(state, flags, address, mac);
            assert!(!neighbours.take(NEW, &message, NOW_US).expect("a message"), "{address} {mac:?}");
        }
        assert!(neighbours.is_empty());
        assert!(neighbours.take(NEW, &[10, 0, 0], NOW_US).is_err());
    }

    #[test]
    fn the_time_of_the_last_answer_is_the_kernels() {
        let mut neighbours = Neighbours::default();
        neighbours.take(NEW, &message(0x04, 0, "fd00::20", MAC), NOW_US).expect("a message");
        let heard: Vec<i64> = neighbours.iter().map(|(_, _, neighbour)| neighbour.heard_us).collect();
        assert_eq!(heard, [NOW_US - 3_000_000]);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut neighbours = Neighbours::default();
        for number in 0..MOST_NEIGHBOURS as u32 + 5 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
            neighbours.take(NEW, &message(2, 0, &address, MAC), NOW_US).expect("a message");
        }
        assert_eq!((neighbours.len(), neighbours.left_out), (MOST_NEIGHBOURS, 5));
    }
}
