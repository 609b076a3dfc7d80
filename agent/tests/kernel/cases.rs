//! What the monitor must get right with a real kernel.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use netmon_agent::conntrack::{Monitor, MonitorConfig, MonitorError, socket::NetlinkSocket};
use netmon_proto::v1::{Direction, Event, Flow, FlowPhase, GapCause, event::Kind, table_sync::Step};

use super::watcher::{Watcher, totals};
use crate::support::{
    inject::{Injector, source},
    must,
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("flows_of_all_kinds_end_with_the_kernels_counters", flows_of_all_kinds),
    ("a_flow_that_was_there_is_found_and_followed", found_and_followed),
    ("no_end_is_lost_when_the_buffer_overruns", burst_into_a_small_buffer),
    ("an_end_told_twice_counts_once", told_twice),
    ("the_last_ends_are_told_although_the_buffer_overran", overrun_at_the_end),
    ("a_stalled_agent_lets_go_and_recovers", stalled),
    ("new_addresses_are_followed", new_addresses),
    ("the_last_bytes_are_reported_at_the_end", last_bytes),
    ("the_table_is_reported_again_on_request", synced_again),
    ("who_may_not_watch_is_told_so", not_allowed),
    ("counters_zeroed_by_another_program_go_on", zeroed),
    ("settings_that_another_program_changes_are_told_of", settings_changed),
];

fn config() -> MonitorConfig {
    MonitorConfig::default()
}

fn flush() {
    Injector::open().expect("an injector").flush_table();
}

/// Sends `bytes` there and twice as many back over TCP.
fn tcp(address: &str, bytes: usize) {
    let listener = TcpListener::bind((address, 0)).expect("a listener");
    let to = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut received = vec![0; bytes];
        stream.read_exact(&mut received).expect("a request");
        stream.write_all(&vec![1; 2 * bytes]).expect("an answer");
    });
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.write_all(&vec![2; bytes]).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert_eq!(answer.len(), 2 * bytes);
    server.join().expect("a server");
}

/// A pair of UDP sockets that talk to each other.
struct Udp {
    client: UdpSocket,
    server: UdpSocket,
}

impl Udp {
    fn new(address: &str) -> Self {
        let bind = || UdpSocket::bind((address, 0)).expect("a socket");
        let pair = Udp { client: bind(), server: bind() };
        pair.client.connect(pair.server.local_addr().expect("an address")).expect("a peer");
        pair
    }

    fn exchange(&self, bytes: usize) {
        self.client.send(&vec![3; bytes]).expect("sent");
        let mut buffer = vec![0; bytes];
        let (length, from) = self.server.recv_from(&mut buffer).expect("received");
        assert_eq!(length, bytes);
        self.server.send_to(&buffer[..bytes / 2], from).expect("answered");
        self.client.recv(&mut buffer).expect("an answer");
    }

    fn port(&self) -> u32 {
        self.client.local_addr().expect("an address").port().into()
    }
}

fn flows_of_all_kinds() {
    must("nft add table ip nat");
    must("nft add chain ip nat output { type nat hook output priority -100 ; }");
    must("nft add rule ip nat output udp dport 7001 dnat to 127.0.0.1:7002");
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    assert_eq!(watcher.monitor.warnings(), ["no subnet counts as LAN: set lan_subnets or lan_interfaces"]);

    for (address, ping) in
        [("127.0.0.1", "ping -4 -c 2 -i 0.2 127.0.0.1"), ("::1", "ping -6 -c 2 -i 0.2 ::1")]
    {
        tcp(address, 100_000);
        Udp::new(address).exchange(700);
        must(ping);
    }
    let translated = UdpSocket::bind("127.0.0.1:7002").expect("a socket");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.send_to(b"hello", "127.0.0.1:7001").expect("sent");
    translated.recv(&mut [0; 9]).expect("translated");

    watcher.until("seven beginnings", |watcher| watcher.flows(FlowPhase::New).count() >= 7);
    flush();
    watcher.until("seven ends", |watcher| watcher.told() >= 7 && watcher.ends() >= watcher.told());
    watcher.agrees_with_ledger();

    let kinds: Vec<(u32, usize)> =
        watcher.flows(FlowPhase::End).map(|flow| (flow.protocol, flow.src_ip.len())).collect();
    for kind in [(6, 4), (6, 16), (17, 4), (17, 16), (1, 4), (58, 16)] {
        assert!(kinds.contains(&kind), "{kind:?} is not among {kinds:?}");
    }
    for flow in watcher.flows(FlowPhase::End) {
        assert_eq!(flow.direction(), Direction::Local);
        assert!(flow.kernel_start_us > 0 && flow.first_seen_us == flow.kernel_start_us, "{flow:?}");
        assert!(flow.last_seen_us >= flow.first_seen_us, "{flow:?}");
        assert_eq!(before(flow), [0; 4]);
        let begun = watcher.flows(FlowPhase::New).any(|new| new.flow_id == flow.flow_id);
        assert!(begun, "{flow:?} has no beginning");
    }
    let tcp = watcher.flows(FlowPhase::End).find(|flow| flow.protocol == 6).expect("a TCP flow");
    assert!(tcp.bytes_orig > 100_000 && tcp.bytes_reply > 200_000 && tcp.tcp_state > 4, "{tcp:?}");
    let ping = watcher.flows(FlowPhase::End).find(|flow| flow.protocol == 1).expect("an ICMP flow");
    assert_eq!((ping.icmp_type, ping.icmp_code, ping.packets_orig, ping.src_port), (8, 0, 2, 0));
    assert!(ping.icmp_id > 0);
    let dnat = watcher.flows(FlowPhase::End).find(|flow| flow.dst_port == 7001).expect("a translated flow");
    assert_eq!((dnat.reply_src_port, &dnat.reply_src_ip[..]), (7002, &[127, 0, 0, 1][..]));
    assert!(watcher.flows(FlowPhase::End).all(|flow| flow.dst_port == 7001 || flow.reply_src_ip.is_empty()));
}

fn before(flow: &Flow) -> [u64; 4] {
    [flow.packets_orig_before, flow.bytes_orig_before, flow.packets_reply_before, flow.bytes_reply_before]
}

fn found_and_followed() {
    // As a router is between two runs of the agent: settings made, nobody listening.
    for setting in ["acct", "timestamp", "events"] {
        fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{setting}"), "1").expect("a setting");
    }
    let udp = Udp::new("127.0.0.1");
    udp.exchange(500);
    let mut watcher = Watcher::open(config());
    watcher.until_synced();

    let found = watcher.flows(FlowPhase::Found).next().expect("a flow").clone();
    assert_eq!((found.src_port, totals(&found)), (udp.port(), [1, 528, 1, 278]));
    assert_eq!(before(&found), totals(&found));
    let steps: Vec<i32> = watcher.events.iter().filter_map(step).collect();
    assert_eq!(steps, [Step::Begin as i32, Step::End as i32]);

    udp.exchange(300);
    watcher.until("progress", |watcher| watcher.flows(FlowPhase::Progress).next().is_some());
    let progress = watcher.flows(FlowPhase::Progress).next().expect("progress");
    assert_eq!((progress.flow_id, totals(progress)), (found.flow_id, [2, 856, 2, 456]));
    assert!(progress.last_seen_us > found.last_seen_us);

    flush();
    watcher.until("the end", |watcher| watcher.ends() > 0 && watcher.told() > 0);
    watcher.agrees_with_ledger();
    let end = watcher.flows(FlowPhase::End).next().expect("an end");
    assert_eq!((end.flow_id, before(end)), (found.flow_id, before(&found)));
}

fn step(event: &Event) -> Option<i32> {
    match &event.kind {
        Some(Kind::TableSync(sync)) => Some(sync.step),
        _ => None,
    }
}

const BURST: u32 = 20_000;

fn burst_into_a_small_buffer() {
    let mut watcher = Watcher::open(MonitorConfig { read_buffer_bytes: 32 * 1024, ..config() });
    // A second listener would overrun as well, and is not what this is about.
    watcher.ledger = None;
    watcher.until_synced();
    let mut injector = Injector::open().expect("an injector");
    for number in 0..BURST {
        injector.create(source(number), 600);
    }
    injector.send();
    watcher.until("all flows", |watcher| watcher.monitor.open_flows() == BURST as usize);
    injector.flush_table();
    watcher
        .until("all ends", |watcher| watcher.ends() >= BURST as usize && watcher.monitor.open_flows() == 0);
    assert!(watcher.monitor.stats().overruns > 0, "the buffer was not too small");
    assert!(watcher.gaps(GapCause::KernelOverrun).count() > 0);
    assert_eq!(watcher.gaps(GapCause::FlowEndUnseen).count(), 0);
    assert_eq!(watcher.ends(), BURST as usize);
    let ids: std::collections::BTreeSet<u64> =
        watcher.flows(FlowPhase::End).map(|flow| flow.flow_id).collect();
    assert_eq!(ids.len(), BURST as usize);
}

fn overrun_at_the_end() {
    let mut watcher = Watcher::open(MonitorConfig { read_buffer_bytes: 32 * 1024, ..config() });
    watcher.ledger = None;
    watcher.until_synced();
    let mut injector = Injector::open().expect("an injector");
    const ENDS: u32 = 3000;
    for number in 0..ENDS {
        injector.create(source(number), 600);
        injector.delete(source(number));
    }
    injector.send();
    // The kernel tells them again bit by bit; whoever stops now cannot wait for that.
    watcher.finish();
    assert!(watcher.monitor.stats().overruns > 0, "the buffer was not too small");
    let ids: std::collections::BTreeSet<u64> =
        watcher.flows(FlowPhase::End).map(|flow| flow.flow_id).collect();
    assert_eq!((watcher.ends(), ids.len()), (ENDS as usize, ENDS as usize));
}

fn told_twice() {
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    // Another listener that wants every end and reads none: the kernel tells them again, to all.
    let other = NetlinkSocket::open(netlink_sys::protocols::NETLINK_NETFILTER).expect("a socket");
    other.set_receive_buffer(4096).expect("a buffer");
    other.set_reliable(true).expect("reliable");
    other.join(3).expect("a subscription");
    let mut injector = Injector::open().expect("an injector");
    for number in 0..500 {
        injector.create(source(number), 600);
    }
    injector.flush_table();
    watcher.until("repeated ends", |watcher| watcher.monitor.stats().flows.repeated > 0);
    drop(other);
    watcher.until("all ends", |watcher| watcher.ends() >= 500);
    assert_eq!(watcher.ends(), 500);
    let ids: std::collections::BTreeSet<u64> =
        watcher.flows(FlowPhase::End).map(|flow| flow.flow_id).collect();
    assert_eq!(ids.len(), 500);
}

fn stalled() {
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    assert!(!unreliable(&watcher));
    let limit = std::time::Instant::now() + Duration::from_secs(15);
    while !unreliable(&watcher) {
        assert!(std::time::Instant::now() < limit, "the watchdog let a stalled agent be");
        thread::park_timeout(Duration::from_millis(100));
    }
    watcher.until("recovery", |watcher| !unreliable(watcher));
}

fn unreliable(watcher: &Watcher) -> bool {
    watcher.monitor.warnings().iter().any(|warning| warning.starts_with("reliable delivery is off"))
}

fn new_addresses() {
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    let mut injector = Injector::open().expect("an injector");
    let direction = |watcher: &Watcher, port: u16| {
        let mut flows = watcher.flows(FlowPhase::New);
        flows.find(|flow| flow.src_port == u32::from(port)).map(Flow::direction)
    };
    let (stranger, device) = (source(1), source(2));
    injector.create(stranger, 600);
    injector.send();
    watcher.until("a flow", |watcher| direction(watcher, stranger.1).is_some());
    assert_eq!(direction(&watcher, stranger.1), Some(Direction::Forward));

    must("ip link add lan0 type veth peer name lan1");
    must("ip link set lan0 up");
    must("ip addr add 10.1.255.1/16 dev lan0");
    watcher.until("news of it", |watcher| watcher.monitor.stats().address_refreshes > 0);
    assert_eq!(watcher.monitor.warnings(), Vec::<String>::new());
    injector.create(device, 600);
    injector.send();
    watcher.until("a flow", |watcher| direction(watcher, device.1).is_some());
    assert_eq!(direction(&watcher, device.1), Some(Direction::Out));

    // A default route makes it the way out, and its neighbours strangers again.
    let refreshes = watcher.monitor.stats().address_refreshes;
    must("ip route add default via 10.1.255.2 dev lan0");
    watcher.until("news of it", |watcher| watcher.monitor.stats().address_refreshes > refreshes);
    injector.create(source(3), 600);
    injector.send();
    watcher.until("a flow", |watcher| direction(watcher, source(3).1).is_some());
    assert_eq!(direction(&watcher, source(3).1), Some(Direction::Forward));
}

fn last_bytes() {
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    let (long, late) = (Udp::new("127.0.0.1"), Udp::new("::1"));
    long.exchange(100);
    watcher.until("a flow", |watcher| watcher.monitor.open_flows() == 1);
    late.exchange(200);
    long.exchange(100);
    watcher.finish();
    let last = |port: u32| {
        let mut flows = watcher.flows(FlowPhase::Progress);
        flows.find(|flow| flow.src_port == port).map(totals)
    };
    assert_eq!(last(long.port()), Some([2, 256, 2, 156]));
    assert_eq!(last(late.port()), Some([1, 248, 1, 148]));
}

fn synced_again() {
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    let mut injector = Injector::open().expect("an injector");
    for number in 0..3000 {
        injector.create(source(number), 600);
    }
    injector.send();
    watcher.until("all flows", |watcher| watcher.monitor.open_flows() == 3000);
    let seen = watcher.events.len();
    watcher.monitor.request_sync();
    watcher.until("a sync", |watcher| watcher.events[seen..].iter().filter_map(step).count() == 2);
    let reported: std::collections::BTreeSet<u64> = watcher.events[seen..]
        .iter()
        .skip_while(|event| step(event) != Some(Step::Begin as i32))
        .take_while(|event| step(event) != Some(Step::End as i32))
        .filter_map(|event| match &event.kind {
            Some(Kind::Flow(flow)) if flow.phase() == FlowPhase::New => Some(flow.flow_id),
            _ => None,
        })
        .collect();
    assert_eq!(reported.len(), 3000);
}

fn not_allowed() {
    // SAFETY: takes a number, and moves this process, which has one thread, into a user namespace that
    // does not own the network namespace.
    let result = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let error = Monitor::open(config(), 7).expect_err("to be refused");
    assert!(matches!(error, MonitorError::Permission), "{error}");
    assert!(error.to_string().contains("CAP_NET_ADMIN"));
}

fn zeroed() {
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    let udp = Udp::new("127.0.0.1");
    udp.exchange(100);
    let reported =
        |watcher: &Watcher, bytes| watcher.flows(FlowPhase::Progress).any(|flow| flow.bytes_orig == bytes);
    watcher.until("progress", |watcher| reported(watcher, 128));
    zero_counters();
    udp.exchange(50);
    watcher.until("progress", |watcher| reported(watcher, 128 + 78));
    let warnings = watcher.monitor.warnings().join(" ");
    assert!(warnings.contains("sets conntrack counters to zero"), "{warnings}");
    assert_eq!(watcher.monitor.stats().flows.zeroed, 1);
    flush();
    watcher.until("the end", |watcher| watcher.ends() == 1);
    let end = watcher.flows(FlowPhase::End).next().expect("an end");
    assert_eq!(totals(end), [2, 128 + 78, 2, 78 + 53]);
}

/// IPCTNL_MSG_CT_GET_CTRZERO as a dump.
fn zero_counters() {
    let socket = NetlinkSocket::open(netlink_sys::protocols::NETLINK_NETFILTER).expect("a socket");
    let mut request = 20_u32.to_ne_bytes().to_vec();
    request.extend_from_slice(&0x103_u16.to_ne_bytes());
    request.extend_from_slice(&0x301_u16.to_ne_bytes());
    request.resize(20, 0);
    socket.request(&request).expect("a request");
    let mut buffer = vec![0; 32 * 1024];
    while socket.receive(&mut buffer).is_ok() {}
}

fn settings_changed() {
    let set = |setting: &str, value: &str| {
        fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{setting}"), value).expect("a setting");
    };
    let mut watcher = Watcher::open(config());
    watcher.until_synced();
    let told = |watcher: &Watcher, name: &str| {
        watcher
            .monitor
            .warnings()
            .iter()
            .any(|warning| warning.starts_with(&format!("net.netfilter.nf_conntrack_{name} is 0")))
    };
    assert!(!told(&watcher, "acct") && !told(&watcher, "events"));
    set("acct", "0");
    set("events", "0");
    assert!(told(&watcher, "acct") && told(&watcher, "events"));
    set("acct", "1");
    assert!(!told(&watcher, "acct") && told(&watcher, "events"), "as long as it lasts");
}
