//! The networks of the lab.
//!
//! ```text
//!   lan                        router                        wan
//!   192.168.77.10 .11 .20 --- .1 [lan]  [wan] 198.51.100.1 --- 198.51.100.10 .11
//!   fd77::10 ::11 ::20        ::1           2001:db8:51::1     2001:db8:51::10 ::11
//!                                   [mgmt] 10.99.0.1
//!                                          |
//!                              10.99.0.2 in the namespace that the test itself lives in: the server's place
//! ```
//!
//! IPv4 is masqueraded towards the wan, IPv6 is routed as it is, and port 8080 of the router's wan address
//! leads to 192.168.77.20 for TCP and UDP, from the lan too.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wait;

/// A namespace with hosts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The devices that are watched.
    Lan,
    /// Where the agent runs.
    Router,
    /// The hosts of the internet.
    Wan,
}

/// Two ordinary devices.
pub(crate) const LAN_V4: [IpAddr; 2] = [v4(192, 168, 77, 10), v4(192, 168, 77, 11)];
/// The same two.
pub(crate) const LAN_V6: [IpAddr; 2] = [v6(0xfd77, 0, 0x10), v6(0xfd77, 0, 0x11)];
/// The device that serves: the end of the port forward.
pub(crate) const SERVING_V4: IpAddr = v4(192, 168, 77, 20);
/// The same one.
pub(crate) const SERVING_V6: IpAddr = v6(0xfd77, 0, 0x20);
/// The router, seen from the lan.
pub(crate) const ROUTER_LAN: [IpAddr; 2] = [v4(192, 168, 77, 1), v6(0xfd77, 0, 1)];
/// The router, seen from the wan.
pub(crate) const ROUTER_WAN: [IpAddr; 2] = [v4(198, 51, 100, 1), v6(0x2001, 0x0db8, 1)];
/// The router, seen from the server.
pub(crate) const ROUTER_MGMT: IpAddr = v4(10, 99, 0, 1);
/// Hosts of the internet.
pub(crate) const WAN_V4: [IpAddr; 2] = [v4(198, 51, 100, 10), v4(198, 51, 100, 11)];
/// The same two.
pub(crate) const WAN_V6: [IpAddr; 2] = [v6(0x2001, 0x0db8, 0x10), v6(0x2001, 0x0db8, 0x11)];
/// Where the server listens.
pub(crate) const SERVER: IpAddr = v4(10, 99, 0, 2);
/// The port of the router's wan address that leads into the lan.
pub(crate) const FORWARDED_PORT: u16 = 8080;
/// The port that every service in the lab listens on.
pub(crate) const SERVICE_PORT: u16 = 7000;

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, host: u16) -> IpAddr {
    let site = if a == 0x2001 { 0x51 } else { 0 };
    IpAddr::V6(Ipv6Addr::new(a, b, site, 0, 0, 0, 0, host))
}

/// Interfaces and routes, as `ip -batch` takes them. Without duplicate address detection an IPv6 address can
/// be used at once.
const LINKS: &str = "
    netns add lan
    netns add router
    netns add wan
    link add eth0 netns lan type veth peer name lan netns router
    link add eth0 netns wan type veth peer name wan netns router
    link add mgmt type veth peer name mgmt netns router
    address add 10.99.0.2/24 dev mgmt
    link set lo up
    link set mgmt up";
const LINKS_LAN: &str = "
    address add 192.168.77.10/24 dev eth0
    address add 192.168.77.11/24 dev eth0
    address add 192.168.77.20/24 dev eth0
    address add fd77::10/64 dev eth0 nodad
    address add fd77::11/64 dev eth0 nodad
    address add fd77::20/64 dev eth0 nodad
    link set lo up
    link set eth0 up
    route add default via 192.168.77.1
    route add default via fd77::1";
const LINKS_ROUTER: &str = "
    address add 192.168.77.1/24 dev lan
    address add fd77::1/64 dev lan nodad
    address add 198.51.100.1/24 dev wan
    address add 2001:db8:51::1/64 dev wan nodad
    address add 10.99.0.1/24 dev mgmt
    link set lo up
    link set lan up
    link set wan up
    link set mgmt up";
const LINKS_WAN: &str = "
    address add 198.51.100.10/24 dev eth0
    address add 198.51.100.11/24 dev eth0
    address add 2001:db8:51::10/64 dev eth0 nodad
    address add 2001:db8:51::11/64 dev eth0 nodad
    link set lo up
    link set eth0 up
    route add fd77::/64 via 2001:db8:51::1";

/// The second masquerade makes the port forward work from the lan too: the answers come back through the
/// router. The filter table is there so that IPv6 is tracked.
const RULES: &str = "
    table ip nat {
        chain prerouting {
            type nat hook prerouting priority dstnat
            ip daddr 198.51.100.1 tcp dport 8080 dnat to 192.168.77.20:7000
            ip daddr 198.51.100.1 udp dport 8080 dnat to 192.168.77.20:7000
        }
        chain postrouting {
            type nat hook postrouting priority srcnat
            oifname wan masquerade
            oifname lan ct status dnat ip saddr 192.168.77.0/24 masquerade
        }
    }
    table inet filter {
        chain forward {
            type filter hook forward priority filter
            ct state invalid drop
        }
    }";

/// So short that flows end while a test looks on. A connection that is still open is left alone.
const TIME_OUTS: [(&str, u32); 10] = [
    ("udp_timeout", 1),
    ("udp_timeout_stream", 1),
    ("icmp_timeout", 1),
    ("icmpv6_timeout", 1),
    ("tcp_timeout_time_wait", 1),
    ("tcp_timeout_close", 1),
    ("tcp_timeout_last_ack", 1),
    ("tcp_timeout_fin_wait", 2),
    ("tcp_timeout_close_wait", 2),
    ("tcp_timeout_unacknowledged", 30),
];

/// Lays out the networks. To be called once, before there is any thread that lives elsewhere.
pub(crate) fn lay_out() -> anyhow::Result<()> {
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]), "")?;
    run(Command::new("ip").args(["-batch", "-"]), LINKS)?;
    sysctl(Place::Router, "net.ipv4.ip_forward", 1)?;
    sysctl(Place::Router, "net.ipv6.conf.all.forwarding", 1)?;
    // A redirect would lead the lan's devices past the port forward.
    sysctl(Place::Router, "net.ipv4.conf.all.send_redirects", 0)?;
    sysctl(Place::Router, "net.ipv4.conf.lan.send_redirects", 0)?;
    let places = [
        (Place::Router, LINKS_ROUTER, ["all", "lan", "wan"].as_slice()),
        (Place::Lan, LINKS_LAN, &["all", "eth0"]),
        (Place::Wan, LINKS_WAN, &["all", "eth0"]),
    ];
    for (place, links, interfaces) in places {
        // A router cannot ask for a neighbour before its link-local address has passed the check for duplicates,
        // which takes two seconds. It is off only where both settings say so.
        for interface in interfaces {
            sysctl(place, &format!("net.ipv6.conf.{interface}.accept_dad"), 0)?;
        }
        run(place.command("ip").args(["-batch", "-"]), links)?;
        // Unprivileged ICMP sockets, for root's group alone.
        sysctl(place, "net.ipv4.ping_group_range", "0 0")?;
    }
    rules(Place::Router, RULES)?;
    for (name, seconds) in TIME_OUTS {
        sysctl(Place::Router, &format!("net.netfilter.nf_conntrack_{name}"), seconds)?;
    }
    for place in [Place::Router, Place::Lan, Place::Wan] {
        wait::until("every link carries packets", Duration::from_secs(10), || links_are_up(place))?;
    }
    Ok(())
}

/// The kernel activates links with a delay of up to a second; until then it drops what they are given.
fn links_are_up(place: Place) -> anyhow::Result<Option<()>> {
    let output = place.command("ip").args(["-brief", "link", "show", "type", "veth"]).output()?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let up = listing.lines().all(|line| line.split_whitespace().nth(1) == Some("UP"));
    Ok((up && !listing.is_empty()).then_some(()))
}

/// Loads nftables rules.
pub(crate) fn rules(place: Place, text: &str) -> anyhow::Result<()> {
    run(place.command("nft").args(["-f", "-"]), text)
}

/// Takes the link between router and server up or down.
pub(crate) fn set_link_to_server(up: bool) -> anyhow::Result<()> {
    let state = if up { "up" } else { "down" };
    run(Place::Router.command("ip").args(["link", "set", "mgmt", state]), "")
}

/// Writes a kernel setting of a namespace.
pub(crate) fn sysctl(place: Place, key: &str, value: impl ToString) -> anyhow::Result<()> {
    let (path, value) = (sysctl_path(key), value.to_string());
    place.within(|| fs::write(&path, value)).with_context(|| format!("cannot write {path}"))
}

/// Reads a kernel setting of a namespace.
pub(crate) fn read_sysctl(place: Place, key: &str) -> anyhow::Result<String> {
    let path = sysctl_path(key);
    let text = place.within(|| fs::read_to_string(&path)).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().to_owned())
}

fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

impl Place {
    fn path(self) -> &'static str {
        match self {
            Self::Lan => "/run/netns/lan",
            Self::Router => "/run/netns/router",
            Self::Wan => "/run/netns/wan",
        }
    }

    /// Runs something on a thread in this place. Sockets that it opens stay there.
    pub(crate) fn within<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().expect("work in a namespace does not panic")
        })
    }

    /// Moves this thread to the place. A thread that could not would test the wrong network, so it ends.
    pub(crate) fn enter(self) {
        let namespace = File::open(self.path()).expect("the namespace was made by lay_out");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the namespace is this user's own");
    }

    /// A program that will run in this place, as this very process id.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }
}

/// Runs a program to its end, with this text as its standard input.
fn run(command: &mut Command, input: &str) -> anyhow::Result<()> {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {what}"))?;
    child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
