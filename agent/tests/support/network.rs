//! A router's two sides: network namespaces for a device of the LAN and for a host of the internet, around
//! the namespace that the test lives in, which is the router.
//!
//! ```text
//!   lan: 10.77.0.10, fd77::10 -- [lan0] 10.77.0.1, fd77::1
//!                                [wan0] 198.51.100.1, 2001:db8:51::1 -- wan: 198.51.100.10, 2001:db8:51::10
//! ```

use std::{
    fs::{self, File},
    os::fd::{AsFd, AsRawFd},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::must;

/// The hardware address of the LAN's device.
pub(crate) const LAN_MAC: &str = "02:00:00:00:00:10";

/// A namespace beside the router. It goes when this is dropped.
pub(crate) struct Host(File);

impl Host {
    fn new() -> Self {
        let thread = thread::spawn(|| {
            // SAFETY: takes a number, and moves this thread alone.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            File::open("/proc/thread-self/ns/net").expect("a namespace")
        });
        Self(thread.join().expect("no panic"))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs something on a thread in this place. Sockets that it opens stay there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the namespace is this user's own");
                work()
            });
            inside.join().expect("work in a namespace does not panic")
        })
    }

    /// A program that will run in this place.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// Runs a command that has to work, given as one line.
    pub(crate) fn must(&self, line: &str) {
        must(&format!("nsenter --net={} -- {line}", self.path()));
    }
}

/// See the module.
pub(crate) struct Network {
    pub(crate) lan: Host,
    pub(crate) wan: Host,
}

impl Network {
    /// Lays it out around the namespace of this process.
    pub(crate) fn lay_out() -> Self {
        let network = Self { lan: Host::new(), wan: Host::new() };
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(format!("/proc/sys/net/{setting}"), "1").expect("a setting");
        }
        network.connect_lan();
        connect(&network.wan, "wan0", "02:00:00:00:01:10", ["198.51.100", "2001:db8:51:"]);
        network
    }

    /// Makes the link to the LAN, which may have been removed.
    pub(crate) fn connect_lan(&self) {
        connect(&self.lan, "lan0", LAN_MAC, ["10.77.0", "fd77:"]);
    }
}

/// Links a host to the router's interface `name`, with addresses that end in 1 here and in 10 there.
fn connect(host: &Host, name: &str, mac: &str, [v4, v6]: [&str; 2]) {
    must(&format!("ip link add {name} type veth peer name eth0 address {mac} netns {}", host.path()));
    // Without a check for duplicates addresses can be used at once, the link-local ones included.
    no_duplicates_check(name);
    host.within(|| no_duplicates_check("eth0"));
    must(&format!("ip address add {v4}.1/24 dev {name}"));
    must(&format!("ip address add {v6}:1/64 dev {name} nodad"));
    host.must(&format!("ip address add {v4}.10/24 dev eth0"));
    host.must(&format!("ip address add {v6}:10/64 dev eth0 nodad"));
    host.must("ip link set lo up");
    must(&format!("ip link set {name} up"));
    host.must("ip link set eth0 up");
    host.must(&format!("ip route replace default via {v4}.1"));
    host.must(&format!("ip route replace default via {v6}:1"));
    await_carrier(|| Command::new("ip"), name);
    await_carrier(|| host.command("ip"), "eth0");
}

/// The kernel activates links with a delay of up to a second; until then it drops what they are given.
fn await_carrier(ip: impl Fn() -> Command, interface: &str) {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let output = ip().args(["-brief", "link", "show", "dev", interface]).output().expect("ip");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        if listing.split_whitespace().nth(1) == Some("UP") {
            return;
        }
        assert!(Instant::now() < limit, "{interface} does not come up: {listing}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn no_duplicates_check(interface: &str) {
    for place in ["all", interface] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{place}/accept_dad"), "0").expect("a setting");
    }
}
