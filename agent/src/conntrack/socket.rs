//! Netlink sockets, and the system calls that no crate wraps: the agent's only unsafe code.

use std::{
    io, mem,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
    sync::Arc,
    time::Duration,
};

use netlink_sys::{Socket, SocketAddr};
use tokio::io::{Interest, unix::AsyncFd};

/// Datagrams read by one system call.
const BATCH: usize = 64;
/// Room for each. A conntrack event has 200 to 400 bytes; with labels, a helper's name and a security
/// context it stays below 1 KiB.
const DATAGRAM_BYTES: usize = 2048;

/// A non-blocking netlink socket that hears the kernel alone.
#[derive(Debug)]
pub struct NetlinkSocket(Socket);

impl AsRawFd for NetlinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Registers a socket with the running tokio runtime.
pub(crate) fn watch(socket: Arc<NetlinkSocket>) -> io::Result<AsyncFd<Arc<NetlinkSocket>>> {
    // SAFETY: the descriptor is the socket's from its opening to its closing, and every owner of the Arc
    // keeps it open; it is the same one whenever it is asked for.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(watched?)
}

/// Registers any other descriptor that can be polled.
pub(crate) fn watch_descriptor(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, open as long as its owner lives, and always the same one.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    Ok(watched?)
}

/// What SO_RCVBUF became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveBuffer {
    /// As the kernel counts it, which is twice what was asked for.
    pub bytes: usize,
    /// SO_RCVBUFFORCE was allowed. Otherwise net.core.rmem_max limits the size.
    pub forced: bool,
}

impl NetlinkSocket {
    /// Opens and binds a socket of one of netlink's protocols.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        Ok(NetlinkSocket(socket))
    }

    /// Subscribes to a multicast group.
    ///
    /// # Errors
    /// Those of setsockopt(2) with NETLINK_ADD_MEMBERSHIP.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.0.add_membership(group)
    }

    /// NETLINK_BROADCAST_ERROR: with it a sender learns that we had no room, and conntrack sends a DESTROY
    /// again later.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_reliable(&self, on: bool) -> io::Result<()> {
        self.0.set_broadcast_error(on)
    }

    /// Asks for a receive buffer of `bytes`, past net.core.rmem_max where that is allowed.
    ///
    /// # Errors
    /// Those of setsockopt(2) with SO_RCVBUF.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<ReceiveBuffer> {
        let asked = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
        // SAFETY: the descriptor is open as long as `self`, and the option's value is a c_int that lives
        // over the call, given with its size.
        let result = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                ptr::from_ref(&asked).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        let forced = result == 0;
        if !forced {
            self.0.set_rx_buf_sz(asked)?;
        }
        Ok(ReceiveBuffer { bytes: self.0.get_rx_buf_sz()?, forced })
    }

    /// Sends a request to the kernel.
    ///
    /// # Errors
    /// Those of sendto(2).
    pub fn request(&self, message: &[u8]) -> io::Result<()> {
        self.0.send_to(message, &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// Reads one datagram. `None`: it was not the kernel's.
    ///
    /// # Errors
    /// Those of recvfrom(2); `InvalidData` for a datagram that does not fit.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        let mut room = &mut *buffer;
        let (length, sender) = self.0.recv_from(&mut room, libc::MSG_TRUNC)?;
        if sender.port_number() != 0 {
            return Ok(None);
        }
        buffer.get(..length).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads what is there, one batch at most, in place of what `datagrams` held.
    ///
    /// # Errors
    /// Those of recvmmsg(2): ENOBUFS tells that the kernel had to leave something out.
    pub fn receive_many(&self, datagrams: &mut Datagrams) -> io::Result<()> {
        datagrams.count = 0;
        let mut slices = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        for (slice, room) in slices.iter_mut().zip(datagrams.bytes.chunks_exact_mut(DATAGRAM_BYTES)) {
            *slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        }
        // SAFETY: all of sockaddr_nl's fields are integers, for which zero is a value.
        let mut senders: [libc::sockaddr_nl; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: mmsghdr consists of integers and of pointers, for which null is a value.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for ((header, slice), sender) in headers.iter_mut().zip(&mut slices).zip(&mut senders) {
            header.msg_hdr.msg_name = ptr::from_mut(sender).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: `headers` has BATCH elements; each names one sockaddr_nl and one iovec, with their sizes,
        // and each iovec a piece of `datagrams.bytes` of its own. All of them live over the call, and
        // nobody else reads or writes them meanwhile. The last argument, a time-out, may be null.
        let count = unsafe {
            libc::recvmmsg(
                self.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else { return Err(io::Error::last_os_error()) };
        for (index, (header, sender)) in headers.iter().zip(&senders).take(count).enumerate() {
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            datagrams.lengths[index] = if sender.nl_pid != 0 {
                Length::Foreign
            } else if truncated {
                Length::Truncated
            } else {
                Length::Bytes(header.msg_len as usize)
            };
        }
        datagrams.count = count;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Bytes(usize),
    Truncated,
    Foreign,
}

/// Room for one batch of datagrams.
#[derive(Debug)]
pub struct Datagrams {
    bytes: Box<[u8]>,
    lengths: [Length; BATCH],
    count: usize,
}

impl Default for Datagrams {
    fn default() -> Self {
        Datagrams {
            bytes: vec![0; BATCH * DATAGRAM_BYTES].into_boxed_slice(),
            lengths: [Length::Foreign; BATCH],
            count: 0,
        }
    }
}

impl Datagrams {
    /// How many were read.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True where nothing was read.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The kernel's datagrams. `None`: one that was too long for its place.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.bytes.chunks_exact(DATAGRAM_BYTES).zip(&self.lengths).take(self.count).filter_map(
            |(bytes, length)| match length {
                Length::Bytes(length) => Some(bytes.get(..*length)),
                Length::Truncated => Some(None),
                Length::Foreign => None,
            },
        )
    }
}

/// CPU time of the calling thread so far. Zero where the kernel does not tell.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives over the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    if result != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
