//! Records what a real kernel says about packets that firewall rules logged, for `testdata/` and as seeds of
//! the fuzz targets.
//!
//! `cargo run -p netmon-agent --example nflog_capture -- agent` writes `testdata/nflog.bin` and `dns.bin`
//! (datagrams, each after its length as a little-endian u32), `fuzz/seeds/nflog_packet/*` (one datagram each)
//! and `fuzz/seeds/dns_message/*` (one message of a real dnsmasq each). It works in network namespaces of its
//! own.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netmon_agent::{
    conntrack::socket::NetlinkSocket,
    decode::{Envelopes, Frame},
    nflog::{decode_log, parse_packet},
};
use support::{
    dnsmasq::{Dnsmasq, dig},
    network::{Host, Network},
    packets::{Payload, SYN, packet, send},
};

const DIRECTORY: &str = "NETMON_CAPTURE_DIRECTORY";

fn main() -> ExitCode {
    if let Some(directory) = env::var_os(DIRECTORY) {
        capture(&PathBuf::from(directory));
        return ExitCode::SUCCESS;
    }
    let directory = env::args().nth(1).expect("the directory of the agent's crate");
    match support::run_in_namespace(DIRECTORY, &directory).expect("unshare") {
        Some(status) if status.success() => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
        None => {
            eprintln!("network namespaces are not permitted here");
            ExitCode::FAILURE
        }
    }
}

const RULES: &str = r#"
    table inet firewall {
        chain early {
            type filter hook prerouting priority -450
            udp dport 9 log prefix "early" group 10 drop
            ip frag-off & 0x1fff != 0 log prefix "fragment" group 10 drop
            exthdr frag exists log prefix "fragment" group 10 drop
        }
        chain input {
            type filter hook input priority 10
            tcp dport 22 log prefix " drop-in: " group 10 drop
            icmp type echo-request log prefix "ping" group 10 drop
            icmpv6 type echo-request log prefix "ping" group 10 drop
        }
        chain forward {
            type filter hook forward priority 10
            meta l4proto { tcp, esp } log prefix "drop-fwd" group 11 drop
        }
        chain output {
            type filter hook output priority 10
            udp dport 9 log prefix "out" group 11 drop
            udp sport 53 log prefix "dns" group 20
            tcp sport 53 log prefix "dns" group 20
        }
    }
    table arp watch {
        chain in { type filter hook input priority 0; log prefix "arp" group 11; }
    }
    table netdev watch {
        chain in { type filter hook ingress device lan0 priority 0; tcp dport 23 log prefix "dev" group 11 drop; }
    }"#;

fn capture(crate_directory: &Path) {
    support::set_up_namespace();
    let network = Network::lay_out();
    let rules = env::temp_dir().join(format!("nflog-capture-{}.nft", std::process::id()));
    fs::write(&rules, RULES).expect("rules");
    support::must(&format!("nft -f {}", rules.display()));
    fs::remove_file(&rules).expect("removed");
    let socket = NetlinkSocket::open(NETLINK_NETFILTER).expect("a socket");
    for group in [10, 11] {
        command(&socket, group, 1);
    }
    network.lan.must("ip neighbour flush dev eth0");
    send(&network.lan, &packets());
    std::net::UdpSocket::bind("198.51.100.1:6")
        .and_then(|socket| socket.send_to(b"out", "198.51.100.10:9"))
        .expect_err("the rule says no");
    for group in [10, 11] {
        command(&socket, group, 2);
    }
    let datagrams = read(&socket);
    keep(&datagrams, &crate_directory.join("testdata/nflog.bin"));
    seeds(&crate_directory.join("fuzz/seeds/nflog_packet"), &datagrams);

    command(&socket, 20, 1);
    ask(&network.lan);
    command(&socket, 20, 2);
    let datagrams = read(&socket);
    keep(&datagrams, &crate_directory.join("testdata/dns.bin"));
    seeds(&crate_directory.join("fuzz/seeds/dns_message"), &messages(&datagrams));
}

/// Writes a recording.
fn keep(datagrams: &[Vec<u8>], path: &Path) {
    let mut recording = Vec::new();
    for datagram in datagrams {
        recording.extend_from_slice(&(datagram.len() as u32).to_le_bytes());
        recording.extend_from_slice(datagram);
    }
    fs::write(path, recording).expect("a recording");
}

fn seeds(directory: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(directory).expect("a directory");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("{number:02}")), seed).expect("a seed");
    }
}

/// Has the router's dnsmasq answer questions of all kinds.
fn ask(client: &Host) {
    let _dnsmasq = Dnsmasq::start(
        None,
        "local=/lan.test/
        local-ttl=77
        host-record=host.lan.test,10.77.0.99,fd77::99
        cname=a.lan.test,b.lan.test
        cname=b.lan.test,host.lan.test
        mx-host=lan.test,mail.lan.test,10
        txt-record=text.lan.test,v=spf1 -all,more
        srv-host=_sip._udp.lan.test,host.lan.test,5060
        dns-rr=web.lan.test,65,0001000001000302683200040004c0000201
        dns-rr=odd.lan.test,65280,c0ffee",
    );
    for (name, record_type, options) in [
        ("host.lan.test", "A", &[][..]),
        ("A.Lan.Test", "AAAA", &["+noedns"]),
        ("nothing.lan.test", "A", &[]),
        ("host.lan.test", "MX", &[]),
        ("lan.test", "MX", &[]),
        ("text.lan.test", "TXT", &[]),
        ("_sip._udp.lan.test", "SRV", &[]),
        ("web.lan.test", "TYPE65", &[]),
        ("odd.lan.test", "TYPE65280", &[]),
        ("\\009\\..lan.test", "A", &[]),
        ("elsewhere.example", "A", &[]),
        ("a.lan.test", "A", &["+tcp"]),
    ] {
        dig(client, "10.77.0.1", name, record_type, options);
    }
}

/// The DNS messages in datagrams, those over TCP without their lengths.
fn messages(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for frame in datagrams.iter().flat_map(|datagram| Envelopes::new(datagram)) {
        let Ok(Frame::Message { message_type, payload, .. }) = frame else { continue };
        let message = decode_log(message_type, payload).expect("a message of the kernel");
        let packet = parse_packet(message.payload).expect("a packet");
        let header_bytes =
            if packet.protocol == 17 { 8 } else { usize::from(packet.transport[12] >> 4) * 4 + 2 };
        messages.extend(packet.transport.get(header_bytes..).map(<[u8]>::to_vec));
    }
    messages
}

fn packets() -> Vec<Vec<u8>> {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (lan, router) = ([ip("10.77.0.10"), ip("fd77::10")], [ip("10.77.0.1"), ip("fd77::1")]);
    let wan = [ip("198.51.100.10"), ip("2001:db8:51::10")];
    let mut packets = Vec::new();
    for (family, ping) in [(0, 8), (1, 128)] {
        let tcp = |to, flags| Payload::Tcp { from: 40_000, to, flags };
        let udp = Payload::Udp { from: 5, to: 9, bytes: vec![0; 16] };
        packets.extend([
            packet(lan[family], router[family], &tcp(22, SYN), None),
            packet(lan[family], router[family], &tcp(23, SYN), None),
            packet(lan[family], wan[family], &tcp(443, 0x29), None),
            packet(lan[family], router[family], &Payload::Icmp { kind: ping, code: 0 }, None),
            packet(lan[family], wan[family], &udp, Some((0, true))),
            packet(lan[family], wan[family], &Payload::Raw(17, vec![7; 8]), Some((3, false))),
            packet(lan[family], wan[family], &Payload::Raw(50, vec![9; 12]), None),
            packet(lan[family], wan[family], &Payload::Raw(6, vec![0, 1, 0, 2, 0, 0, 0, 0, 0, 0]), None),
        ]);
    }
    // Hop-by-hop options, destination options, and then a SYN.
    let mut chain = vec![60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];
    chain.extend(Payload::Tcp { from: 3, to: 4, flags: SYN }.bytes());
    packets.push(packet(lan[1], wan[1], &Payload::Raw(0, chain), None));
    packets
}

/// Binds (1) or lets go (2) a group: NFULNL_MSG_CONFIG with NFULA_CFG_CMD, NFULA_CFG_MODE (160 bytes of each
/// packet, all of DNS), NFULA_CFG_QTHRESH (four packets a datagram) and NFULA_CFG_FLAGS (numbers).
fn command(socket: &NetlinkSocket, group: u16, command: u8) {
    let mut request = vec![0; 4];
    request.extend_from_slice(&0x401_u16.to_ne_bytes());
    request.extend_from_slice(&1_u16.to_ne_bytes());
    request.extend_from_slice(&[0; 10]);
    request.extend_from_slice(&group.to_be_bytes());
    let mut put = |kind: u16, value: &[u8]| {
        request.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(value);
        request.resize(request.len().next_multiple_of(4), 0);
    };
    put(1, &[command]);
    if command == 1 {
        put(2, if group == 20 { &[0, 0, 0xff, 0xff, 2, 0] } else { &[0, 0, 0, 160, 2, 0] });
        put(5, &4_u32.to_be_bytes());
        put(6, &1_u16.to_be_bytes());
    }
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    socket.request(&request).expect("a request");
}

/// Everything that waits on the socket.
fn read(socket: &NetlinkSocket) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match socket.receive(&mut buffer) {
            Ok(Some(datagram)) => datagrams.push(datagram.to_vec()),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return datagrams,
            Err(error) => panic!("{error}"),
        }
    }
}
