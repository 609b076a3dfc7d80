//! One conversation between two hosts of the lab, over TCP, UDP or ICMP, and the services that answer.
//!
//! It goes in rounds: so many bytes up, then so many down.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_reuseaddr};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, ipproto, socket_with};

use crate::ctnetlink::{Detail, FlowKey};
use crate::namespaces::{Place, SERVICE_PORT};

/// Within the lab every answer comes at once. Without one the conversation fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a datagram is sent, with a fifth of the patience for each.
const ATTEMPTS: u32 = 5;
/// Both counts, at the start of each round.
const ROUND_HEADER: usize = 8;
/// A datagram can be larger than the links carry: then it goes in fragments.
pub(crate) const DATAGRAM_MAX: u32 = 4000;

/// What it is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    Udp,
    /// Echo requests, ICMP or ICMPv6.
    Icmp,
}

/// How a TCP connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Both sides finish.
    Fin,
    /// This side aborts.
    Reset,
}

/// A conversation that is under way.
pub(crate) struct Conversation {
    talk: Talk,
    key: FlowKey,
    sequence: u16,
}

enum Talk {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Icmp(UdpSocket),
}

impl Conversation {
    /// Begins one from an address of this thread's namespace. Port zero: any free one.
    pub(crate) fn open(carrier: Carrier, from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let v4 = from.is_ipv4();
        let (kind, protocol, number): (_, Option<Protocol>, _) = match carrier {
            Carrier::Tcp => (SocketType::STREAM, None, 6),
            Carrier::Udp => (SocketType::DGRAM, None, 17),
            Carrier::Icmp if v4 => (SocketType::DGRAM, Some(ipproto::ICMP), 1),
            Carrier::Icmp => (SocketType::DGRAM, Some(ipproto::ICMPV6), 58),
        };
        let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
        // A program that is started meanwhile must not inherit it.
        let socket: OwnedFd = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &from)?;
        connect(&socket, &to)?;
        let (talk, own) = if carrier == Carrier::Tcp {
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            let own = stream.local_addr()?;
            (Talk::Tcp(stream), own)
        } else {
            let socket = UdpSocket::from(socket);
            socket.set_read_timeout(Some(PATIENCE / ATTEMPTS))?;
            let own = socket.local_addr()?;
            (if carrier == Carrier::Udp { Talk::Udp(socket) } else { Talk::Icmp(socket) }, own)
        };
        let detail = match number {
            // The kernel makes an ICMP socket's port the identifier of its requests.
            1 => Detail::Icmp(8, 0, own.port()),
            58 => Detail::Icmp(128, 0, own.port()),
            _ => Detail::Ports(own.port(), to.port()),
        };
        let key = FlowKey { protocol: number, src: own.ip(), dst: to.ip(), detail };
        Ok(Self { talk, key, sequence: 0 })
    }

    /// The original tuple of its flow.
    pub(crate) fn key(&self) -> FlowKey {
        self.key
    }

    /// Sends and receives. What does not fit the carrier is cut to what does.
    pub(crate) fn round(&mut self, up: u32, down: u32) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = [0; ROUND_HEADER];
        header[..4].copy_from_slice(&up.to_be_bytes());
        header[4..].copy_from_slice(&down.to_be_bytes());
        match &mut self.talk {
            Talk::Tcp(stream) => {
                stream.write_all(&header)?;
                stream.write_all(&vec![b'u'; up as usize])?;
                stream.read_exact(&mut vec![0; down as usize])
            }
            Talk::Udp(socket) => {
                let mut request = header.to_vec();
                request.resize(ROUND_HEADER + up.min(DATAGRAM_MAX) as usize, b'u');
                ask(socket, &request)
            }
            Talk::Icmp(socket) => {
                let kind = if self.key.protocol == 1 { 8 } else { 128 };
                // Checksum and identifier are the kernel's to fill in.
                let mut request = vec![kind, 0, 0, 0, 0, 0];
                request.extend(self.sequence.to_be_bytes());
                request.resize(ROUND_HEADER + up.min(DATAGRAM_MAX) as usize, b'u');
                ask(socket, &request)
            }
        }
    }

    /// Ends it. UDP and ICMP know no end: theirs is the kernel's time-out.
    pub(crate) fn close(self, how: Close) -> io::Result<()> {
        let Talk::Tcp(mut stream) = self.talk else { return Ok(()) };
        match how {
            Close::Fin => {
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            // Closing with a linger time of zero sends a reset.
            Close::Reset => Ok(set_socket_linger(stream.as_fd(), Some(Duration::ZERO))?),
        }
    }
}

/// Sends a datagram until an answer comes. One is lost where a busy machine takes longer over the answer than
/// the router remembers the question.
fn ask(socket: &UdpSocket, request: &[u8]) -> io::Result<()> {
    let mut answer = vec![0; ROUND_HEADER + DATAGRAM_MAX as usize];
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        socket.send(request)?;
        outcome = socket.recv(&mut answer).map(drop);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Answers TCP and UDP on the services' port of an address, until the process ends.
pub(crate) fn serve(place: Place, address: IpAddr) -> io::Result<()> {
    let at = SocketAddr::new(address, SERVICE_PORT);
    serve_tcp(place, at)?;
    let socket = place.within(|| UdpSocket::bind(at))?;
    thread::spawn(move || answer_datagrams(&socket));
    Ok(())
}

/// Answers TCP on this address, until the process ends. Port zero: any free one. Returns the address.
pub(crate) fn serve_tcp(place: Place, at: SocketAddr) -> io::Result<SocketAddr> {
    let listener = place.within(|| TcpListener::bind(at))?;
    let at = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that aborts is part of the traffic.
            thread::spawn(move || answer_stream(stream).ok());
        }
    });
    Ok(at)
}

fn answer_stream(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut header = [0; ROUND_HEADER];
    loop {
        stream.read_exact(&mut header)?;
        let (up, down) = counts(header);
        stream.read_exact(&mut vec![0; up as usize])?;
        stream.write_all(&vec![b'd'; down as usize])?;
    }
}

fn answer_datagrams(socket: &UdpSocket) -> io::Result<()> {
    let mut request = vec![0; ROUND_HEADER + DATAGRAM_MAX as usize];
    loop {
        let (length, client) = match socket.recv_from(&mut request) {
            Ok(received) => received,
            // A client that has gone answers with ICMP: that is its error, not this socket's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let Some(header) = request[..length].first_chunk() else { continue };
        let (_, down) = counts(*header);
        socket.send_to(&vec![b'd'; down.min(DATAGRAM_MAX) as usize], client)?;
    }
}

fn counts(header: [u8; ROUND_HEADER]) -> (u32, u32) {
    let both = u64::from_be_bytes(header);
    ((both >> 32) as u32, both as u32)
}
