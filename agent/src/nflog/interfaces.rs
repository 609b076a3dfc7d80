//! The names of interfaces, as they come and go.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
};

use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    conntrack::{
        dump_links,
        socket::{NetlinkSocket, watch},
    },
    decode::{Envelopes, Frame, walk},
};

const RTNLGRP_LINK: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const IFLA_IFNAME: u16 = 3;
/// `struct ifinfomsg`.
const IFINFOMSG_BYTES: usize = 16;
/// News of an interface has one to three KiB; those of cards with virtual functions are longer.
const BUFFER_BYTES: usize = 16 * 1024;
/// Packets that were logged before their interface was removed may be read after the news of that.
const MOST_GONE: usize = 64;

/// Index to name. Pure but for [`Interfaces`], which feeds it.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: HashMap<u32, String>,
    /// Removed, the longest first.
    gone: VecDeque<u32>,
}

impl Names {
    /// The name of an interface that is there, or was until a moment ago.
    pub(super) fn get(&self, index: u32) -> Option<&str> {
        self.names.get(&index).map(String::as_str)
    }

    fn take(&mut self, message_type: u16, payload: &[u8]) {
        let Some((header, attributes)) = payload.split_first_chunk::<IFINFOMSG_BYTES>() else { return };
        let [family, _, _, _, i0, i1, i2, i3, ..] = *header;
        // A bridge tells of its ports in the same words: a port that leaves it is still an interface.
        if family != 0 {
            return;
        }
        let index = u32::from_ne_bytes([i0, i1, i2, i3]);
        match message_type {
            RTM_NEWLINK => {
                let mut name = None;
                // A broken message names nothing.
                let walked = walk(attributes, |kind, value| {
                    if kind == IFLA_IFNAME {
                        let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                        name = Some(String::from_utf8_lossy(text).into_owned());
                    }
                    Ok(())
                });
                if let (Ok(()), Some(name)) = (walked, name) {
                    self.gone.retain(|gone| *gone != index);
                    self.names.insert(index, name);
                }
            }
            RTM_DELLINK if self.names.contains_key(&index) && !self.gone.contains(&index) => {
                self.gone.push_back(index);
                if self.gone.len() > MOST_GONE
                    && let Some(oldest) = self.gone.pop_front()
                {
                    self.names.remove(&oldest);
                }
            }
            _ => {}
        }
    }
}

/// Hears of interfaces.
#[derive(Debug)]
pub(super) struct Interfaces {
    news: AsyncFd<Arc<NetlinkSocket>>,
    buffer: Vec<u8>,
    pub(super) names: Names,
}

impl Interfaces {
    pub(super) fn open() -> io::Result<Self> {
        let socket = NetlinkSocket::open(NETLINK_ROUTE)?;
        // Before the list is asked for, so that no interface falls between the two.
        socket.join(RTNLGRP_LINK)?;
        let mut this =
            Self { news: watch(Arc::new(socket))?, buffer: vec![0; BUFFER_BYTES], names: Names::default() };
        this.read_all()?;
        Ok(this)
    }

    pub(super) async fn readable(&self) {
        // An error of epoll would show at the next read, too.
        let _ = self.news.readable().await;
    }

    /// Reads the news that have come. To be called between reading packets and naming their interfaces: what
    /// a packet names was told of before the packet was logged.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let mut missed = false;
        loop {
            match self.news.get_ref().receive(&mut self.buffer) {
                Ok(Some(datagram)) => {
                    for frame in Envelopes::new(datagram) {
                        if let Ok(Frame::Message { message_type, payload, .. }) = frame {
                            self.names.take(message_type, payload);
                        }
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Clears tokio's notion of readiness as well.
                    let _ = self
                        .news
                        .try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOBUFS)
                        || error.kind() == io::ErrorKind::InvalidData =>
                {
                    missed = true;
                }
                Err(error) => return Err(error),
            }
        }
        if missed { self.read_all() } else { Ok(()) }
    }

    fn read_all(&mut self) -> io::Result<()> {
        dump_links(|message_type, payload| self.names.take(message_type, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(family: u8, index: u32, name: &str) -> Vec<u8> {
        let mut bytes = vec![family, 0, 0, 0];
        bytes.extend_from_slice(&index.to_ne_bytes());
        bytes.resize(IFINFOMSG_BYTES, 0);
        bytes.extend_from_slice(&(5 + name.len() as u16).to_ne_bytes());
        bytes.extend_from_slice(&IFLA_IFNAME.to_ne_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn names_follow_the_news() {
        let mut names = Names::default();
        names.take(RTM_NEWLINK, &link(0, 3, "eth0"));
        names.take(RTM_NEWLINK, &link(0, 4, "eth1"));
        names.take(RTM_NEWLINK, &link(0, 3, "wan"));
        names.take(RTM_DELLINK, &link(7, 4, "eth1"));
        names.take(RTM_NEWLINK, &link(7, 4, "port"));
        assert_eq!((names.get(3), names.get(4), names.get(5)), (Some("wan"), Some("eth1"), None));
        assert!(names.gone.is_empty(), "leaving a bridge is not an end");
        names.take(RTM_NEWLINK, &[0; 3]);
    }

    #[test]
    fn the_name_of_a_removed_interface_is_kept_for_a_while() {
        let mut names = Names::default();
        for index in 1..=200 {
            names.take(RTM_NEWLINK, &link(0, index, "ppp0"));
            names.take(RTM_DELLINK, &link(0, index, "ppp0"));
            names.take(RTM_DELLINK, &link(0, index, "ppp0"));
            assert_eq!(names.get(index), Some("ppp0"));
        }
        assert_eq!(names.names.len(), MOST_GONE);
        names.take(RTM_NEWLINK, &link(0, 200, "ppp1"));
        for index in 201..=300 {
            names.take(RTM_NEWLINK, &link(0, index, "ppp0"));
            names.take(RTM_DELLINK, &link(0, index, "ppp0"));
        }
        assert_eq!(names.get(200), Some("ppp1"), "it is there again");
    }
}
