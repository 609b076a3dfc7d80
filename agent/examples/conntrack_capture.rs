//! Records what a real kernel says about a handful of flows, for `testdata/`.
//!
//! `cargo run -p netmon-agent --example conntrack_capture -- agent/testdata` writes `events.bin` (the
//! datagrams of the NEW and DESTROY groups) and `dump.bin` (one dump while the flows were open), each
//! datagram after its length as a little-endian u32. It works in a network namespace of its own.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env, fs, io,
    net::{TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::ExitCode,
};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netmon_agent::conntrack::socket::NetlinkSocket;

const DIRECTORY: &str = "NETMON_CAPTURE_DIRECTORY";

fn main() -> ExitCode {
    if let Some(directory) = env::var_os(DIRECTORY) {
        capture(&PathBuf::from(directory));
        return ExitCode::SUCCESS;
    }
    let directory = env::args().nth(1).expect("the directory to write to");
    match support::run_in_namespace(DIRECTORY, &directory).expect("unshare") {
        Some(status) if status.success() => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
        None => {
            eprintln!("network namespaces are not permitted here");
            ExitCode::FAILURE
        }
    }
}

fn capture(directory: &std::path::Path) {
    support::set_up_namespace();
    for setting in ["acct", "timestamp", "events"] {
        fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{setting}"), "1").expect("a setting");
    }
    for rule in [
        "nft add table ip nat",
        "nft add chain ip nat output { type nat hook output priority -100 ; }",
        "nft add rule ip nat output udp dport 7001 dnat to 127.0.0.1:7002",
        "nft add table inet raw",
        "nft add chain inet raw output { type filter hook output priority -300 ; }",
        "nft add rule inet raw output udp dport 7003 ct zone set 5",
        "nft add rule inet watch output udp dport 7003 ct mark set 0x2a",
    ] {
        support::must(rule);
    }
    let events = NetlinkSocket::open(NETLINK_NETFILTER).expect("a socket");
    events.join(1).expect("NEW");
    events.join(3).expect("DESTROY");

    let mut open = Vec::new();
    for address in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((address, 7000)).expect("a listener");
        let client = TcpStream::connect((address, 7000)).expect("a connection");
        open.push((listener.accept().expect("a client"), client));
        let udp = UdpSocket::bind((address, 7010)).expect("a socket");
        udp.send_to(b"to myself", (address, 7010)).expect("sent");
    }
    for port in [7001, 7003] {
        let udp = UdpSocket::bind("127.0.0.1:7011").expect("a socket");
        udp.send_to(b"marked or translated", ("127.0.0.1", port)).expect("sent");
    }
    support::must("ping -4 -c 1 127.0.0.1");
    support::must("ping -6 -c 1 ::1");

    let dump = NetlinkSocket::open(NETLINK_NETFILTER).expect("a socket");
    // IPCTNL_MSG_CT_GET with NLM_F_REQUEST | NLM_F_DUMP, and an nfgenmsg of zeroes.
    let mut request = [0; 20];
    request[..4].copy_from_slice(&20_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&0x101_u16.to_ne_bytes());
    request[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
    dump.request(&request).expect("a request");
    fs::write(directory.join("dump.bin"), read(&dump)).expect("dump.bin");

    drop(open);
    support::inject::Injector::open().expect("an injector").flush_table();
    fs::write(directory.join("events.bin"), read(&events)).expect("events.bin");
}

/// Everything that waits on the socket.
fn read(socket: &NetlinkSocket) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match socket.receive(&mut buffer) {
            Ok(Some(datagram)) => {
                bytes.extend_from_slice(&(datagram.len() as u32).to_le_bytes());
                bytes.extend_from_slice(datagram);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}
