//! A socket that groups are bound to.

use std::{collections::VecDeque, fs, io, sync::Arc};

use netlink_sys::protocols::NETLINK_NETFILTER;
use tokio::io::{Interest, unix::AsyncFd};
use tracing::{debug, info, warn};

use super::request::{self, Mode};
use crate::{
    conntrack::socket::{NetlinkSocket, watch},
    decode::{Envelopes, Frame},
};

/// Some seconds of a flood, for the time that the agent is busy with other things.
const RECEIVE_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// A datagram is as long as was asked for, or, if that is longer, as its one packet with what is told of it.
const DATAGRAM_BYTES: usize = 68 * 1024;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Why a group cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    #[error(
        "this kernel does not offer NFLOG: load the module nfnetlink_log (OpenWrt: install kmod-nfnetlink-log) ({0})"
    )]
    Module(io::Error),
    #[error("not allowed to listen to NFLOG: run as root or with CAP_NET_ADMIN in this network namespace")]
    Permission,
    #[error(
        "NFLOG group {0} belongs to another program: stop that, or take another group here and in the firewall's rules"
    )]
    Taken(u16),
    #[error(
        "whether NFLOG group {0} was bound is not known for want of room in the socket's buffer; it will be asked again"
    )]
    Unanswered(u16),
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

/// What a read brought.
pub(super) enum Heard<'a> {
    Datagram(&'a [u8]),
    /// Nothing more for now.
    Silence,
    /// The kernel had to leave something out.
    Overrun,
    /// A datagram that is of no use.
    Garbled,
}

/// See the module.
#[derive(Debug)]
pub(super) struct GroupSocket {
    socket: AsyncFd<Arc<NetlinkSocket>>,
    mode: Mode,
    groups: Vec<u16>,
    /// Those that could not be bound yet, and why.
    missing: Vec<(u16, GroupError)>,
    /// What came between the answers to requests: packets of the groups that were bound first.
    early: VecDeque<Vec<u8>>,
    /// The buffer was full while an answer was waited for.
    overrun: bool,
    buffer: Vec<u8>,
}

impl GroupSocket {
    /// Binds all `groups` but those that another program holds. `None` where there are none.
    pub(super) fn open(groups: &[u16], mode: Mode) -> Result<Option<Self>, GroupError> {
        if groups.is_empty() {
            return Ok(None);
        }
        let failed = |what| move |error| GroupError::Io(what, error);
        let socket = NetlinkSocket::open(NETLINK_NETFILTER).map_err(|error| match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => GroupError::Module(error),
            _ => GroupError::Io("cannot open a netlink socket", error),
        })?;
        socket.set_receive_buffer(RECEIVE_BUFFER_BYTES).map_err(failed("cannot set SO_RCVBUF"))?;
        let mut this = Self {
            socket: watch(Arc::new(socket)).map_err(failed("cannot register a socket"))?,
            mode,
            groups: Vec::new(),
            missing: Vec::new(),
            early: VecDeque::new(),
            overrun: false,
            buffer: vec![0; DATAGRAM_BYTES],
        };
        if is_older_than(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(), (3, 17)) {
            for family in [AF_INET, AF_INET6] {
                // Another program may have done it already, or hold it.
                if let Err(error) = this.ask(&request::bind_family(family)) {
                    debug!(family, %error, "cannot bind the log subsystem to a family");
                }
            }
        }
        for group in groups {
            match this.bind(*group) {
                Err(GroupError::Taken(_)) if !this.is_allowed(*group) => return Err(GroupError::Permission),
                Err(why @ (GroupError::Taken(_) | GroupError::Unanswered(_))) => {
                    warn!("{why}; trying again");
                    this.missing.push((*group, why));
                }
                bound => bound?,
            }
        }
        Ok(Some(this))
    }

    /// Asks again for the groups that could not be bound.
    pub(super) fn retry(&mut self) {
        for (group, _) in std::mem::take(&mut self.missing) {
            match self.bind(group) {
                Ok(()) => info!(group, "this NFLOG group is heard now"),
                // Whatever it is, it is no reason to give up the groups that are heard.
                Err(why) => self.missing.push((group, why)),
            }
        }
    }

    /// Why some of the groups are not heard, one sentence each.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.missing.iter().map(|(_, why)| why.to_string())
    }

    fn bind(&mut self, group: u16) -> Result<(), GroupError> {
        match self.ask(&request::bind(group, self.mode)) {
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => return Err(refused(group, error)),
            // The latter: this socket holds it already, by an earlier request whose answer found no room.
            Ok(()) | Err(_) => self.groups.push(group),
        }
        Ok(())
    }

    /// Sends a request and reads the kernel's answer, which is there when sending returns, unless it found no room.
    fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        let socket = self.socket.get_ref();
        socket.request(request)?;
        loop {
            let datagram = match socket.receive(&mut self.buffer) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.overrun = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match Envelopes::new(datagram).next() {
                Some(Ok(Frame::Error(0))) => return Ok(()),
                Some(Ok(Frame::Error(errno))) => return Err(io::Error::from_raw_os_error(errno)),
                _ => self.early.push_back(datagram.to_vec()),
            }
        }
    }

    /// Whether requests are not refused for want of a right. The kernel refuses another's group in the same words,
    /// so it is asked to let go some that most likely nobody has: only where this socket has none that it could lose.
    fn is_allowed(&mut self, group: u16) -> bool {
        let is_refused = |error: io::Error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
        let others = [0x5555, 0x2aaa, 0x7fff].map(|other| group ^ other);
        !self.groups.is_empty()
            || !others.into_iter().all(|other| self.ask(&request::unbind(other)).is_err_and(is_refused))
    }

    pub(super) async fn readable(&self) {
        // An error of epoll would show at the next read, too.
        if self.early.is_empty() && !self.overrun {
            let _ = self.socket.readable().await;
        }
    }

    /// Reads one datagram.
    pub(super) fn read(&mut self) -> io::Result<Heard<'_>> {
        if std::mem::take(&mut self.overrun) {
            return Ok(Heard::Overrun);
        }
        if let Some(datagram) = self.early.pop_front() {
            self.buffer[..datagram.len()].copy_from_slice(&datagram);
            return Ok(Heard::Datagram(&self.buffer[..datagram.len()]));
        }
        match self.socket.get_ref().receive(&mut self.buffer) {
            Ok(Some(datagram)) => Ok(Heard::Datagram(datagram)),
            Ok(None) => Ok(Heard::Garbled),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Clears tokio's notion of readiness as well; what came in between makes it ready again.
                let _ = self
                    .socket
                    .try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                Ok(Heard::Silence)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Heard::Garbled),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard::Overrun),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Heard::Datagram(&[])),
            Err(error) => Err(error),
        }
    }

    /// Lets the groups go, so that the kernel hands over what waits in them; it can be read then.
    pub(super) fn let_go(&self) {
        for group in &self.groups {
            if let Err(error) = self.socket.get_ref().request(&request::unbind(*group)) {
                debug!(group, %error, "cannot let an NFLOG group go");
            }
        }
    }
}

fn refused(group: u16, error: io::Error) -> GroupError {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT | libc::EPROTONOSUPPORT) => {
            GroupError::Module(error)
        }
        Some(libc::EPERM | libc::EACCES) => GroupError::Taken(group),
        // There was nothing left to read, or no room even to ask.
        Some(libc::EAGAIN | libc::ENOBUFS) => GroupError::Unanswered(group),
        _ => GroupError::Io("cannot bind an NFLOG group", error),
    }
}

/// False where the text is no version of Linux.
fn is_older_than(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|release| release < version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_linux() {
        for (release, older) in [
            ("2.6.32-5-amd64\n", true),
            ("3.16.85\n", true),
            ("3.17\n", false),
            ("3.18.20", false),
            ("6.18.44-fc", false),
            ("", false),
            ("six", false),
        ] {
            assert_eq!(is_older_than(release, (3, 17)), older, "{release}");
        }
    }

    #[test]
    fn a_refusal_says_in_one_line_what_to_do() {
        let check = |errno, part: &str| {
            let text = refused(10, io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(part) && !text.contains('\n'), "{text}");
        };
        check(libc::EINVAL, "kmod-nfnetlink-log");
        check(libc::EOPNOTSUPP, "nfnetlink_log");
        check(libc::EPERM, "NFLOG group 10 belongs to another program");
        check(libc::EAGAIN, "NFLOG group 10 was bound is not known");
        check(libc::ENOMEM, "cannot bind an NFLOG group");
    }
}
