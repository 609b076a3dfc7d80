//! The host's addresses, and the news that they changed.

use std::{io, sync::Arc};

use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

use super::{
    Monitor, MonitorError, RETRY,
    config::failed,
    dump::PIECE_BYTES,
    request,
    socket::{NetlinkSocket, watch},
};
use crate::{
    addresses::{AddressBook, HostAddresses},
    decode::{Envelopes, Frame},
};

const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const IFINFOMSG_BYTES: usize = 16;
const IFADDRMSG_BYTES: usize = 8;
const RTMSG_BYTES: usize = 12;
const NDMSG_BYTES: usize = 12;

const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;

/// Datagrams looked at per call; what is left keeps the socket readable.
const BOUND: usize = 256;

/// Hears of changes.
#[derive(Debug)]
pub(crate) struct AddressWatch {
    socket: AsyncFd<Arc<NetlinkSocket>>,
    needs_routes: bool,
}

impl AddressWatch {
    pub(crate) fn open(needs_routes: bool) -> io::Result<Self> {
        let socket = NetlinkSocket::open(NETLINK_ROUTE)?;
        socket.join(RTNLGRP_IPV4_IFADDR)?;
        socket.join(RTNLGRP_IPV6_IFADDR)?;
        if needs_routes {
            socket.join(RTNLGRP_IPV4_ROUTE)?;
            socket.join(RTNLGRP_IPV6_ROUTE)?;
        }
        Ok(AddressWatch { socket: watch(Arc::new(socket))?, needs_routes })
    }

    pub(crate) async fn readable(&self) {
        // An error of epoll would show at the next read, too.
        let _ = self.socket.readable().await;
    }

    /// Reads the news. True where addresses or default routes may have changed.
    pub(crate) fn has_news(&self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut news = false;
        for _ in 0..BOUND {
            match self.socket.try_io(Interest::READABLE, |socket| {
                socket.receive(buffer).map(|bytes| bytes.is_some_and(is_news))
            }) {
                Ok(one) => news |= one,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Something was left out, whatever it was.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => news = true,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => news = true,
                Err(error) => return Err(error),
            }
        }
        Ok(news)
    }

    /// Asks the kernel for everything.
    pub(crate) fn read_all(&self, buffer: &mut Vec<u8>) -> io::Result<HostAddresses> {
        buffer.resize(PIECE_BYTES, 0);
        let mut host = HostAddresses::default();
        // A message that the library cannot read costs one interface or route, not the rest.
        let mut take = |message_type, payload: &[u8]| drop(host.take(message_type, payload));
        dump(RTM_GETLINK, IFINFOMSG_BYTES, buffer, &mut take)?;
        dump(RTM_GETADDR, IFADDRMSG_BYTES, buffer, &mut take)?;
        // A router of the internet has a million routes: they are read only where they decide something.
        if self.needs_routes {
            dump(RTM_GETROUTE, RTMSG_BYTES, buffer, &mut take)?;
        }
        Ok(host)
    }
}

impl Monitor {
    /// Reads addresses again when they changed; at most once in [`RETRY`], because links that come up
    /// bring many changes in a row.
    pub(super) fn follow_addresses(&mut self) -> Result<(), MonitorError> {
        if self.addresses.has_news(&mut self.buffer).map_err(failed("cannot read news of addresses"))? {
            self.addresses_due.get_or_insert_with(|| Instant::now() + RETRY / 4);
        }
        if self.addresses_due.is_some_and(|due| Instant::now() >= due) {
            self.addresses_due = None;
            match self.addresses.read_all(&mut self.buffer) {
                Ok(host) => {
                    let book = AddressBook::new(&self.lan, &host);
                    self.no_lan = book.knows_no_lan();
                    self.table.set_address_book(book);
                    self.stats.address_refreshes += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the host's addresses; it is tried again in a second");
                    self.addresses_due = Some(Instant::now() + RETRY);
                }
            }
        }
        Ok(())
    }
}

/// Addresses always; routes only where they are default routes (`rtm_dst_len` is zero).
fn is_news(datagram: &[u8]) -> bool {
    Envelopes::new(datagram).any(|frame| match frame {
        Ok(Frame::Message { message_type: RTM_NEWADDR | RTM_DELADDR, .. }) => true,
        Ok(Frame::Message { message_type: RTM_NEWROUTE | RTM_DELROUTE, payload, .. }) => {
            payload.get(1) == Some(&0)
        }
        Ok(_) => false,
        Err(_) => true,
    })
}

/// Hands over every interface's RTM_NEWLINK: type and payload.
pub(crate) fn dump_links(mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    dump(RTM_GETLINK, IFINFOMSG_BYTES, &mut vec![0; PIECE_BYTES], &mut take)
}

/// Hands over every neighbour's RTM_NEWNEIGH, of both families: type and payload.
pub(crate) fn dump_neighbours(mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    dump(RTM_GETNEIGH, NDMSG_BYTES, &mut vec![0; PIECE_BYTES], &mut take)
}

fn dump(
    message_type: u16,
    header_bytes: usize,
    buffer: &mut [u8],
    take: &mut impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let socket = NetlinkSocket::open(NETLINK_ROUTE)?;
    socket.request(&request::dump_routes(message_type, header_bytes))?;
    loop {
        let datagram = match socket.receive(buffer) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for frame in Envelopes::new(datagram) {
            match frame {
                Ok(Frame::Message { message_type, payload, .. }) => take(message_type, payload),
                Ok(Frame::Done { errno: 0, .. }) => return Ok(()),
                Ok(Frame::Done { errno, .. } | Frame::Error(errno)) => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}
