//! Who is who, from a real kernel's neighbour tables, real lease files and a real DHCP server.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::support::{
    dump::Dump,
    must,
    network::{LAN_MAC, Network},
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("devices_are_told_of_with_addresses_and_names", addresses_and_names),
    ("a_hundred_devices_at_once_are_one_hand_over", hundred_at_once),
    ("a_dhcp_server_gives_the_name", dhcp_server),
    ("everything_is_told_again_now_and_then", told_again),
];

const AGENT: &str = env!("CARGO_BIN_EXE_netmon-agent");

struct Lab {
    network: Network,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { network: Network::lay_out(), dir: tempfile::tempdir().expect("a directory") }
    }

    fn leases(&self) -> PathBuf {
        self.dir.path().join("leases")
    }

    fn agent(&self) -> Dump {
        let leases = self.leases();
        Dump::start(
            AGENT,
            &format!("wan_interfaces: [wan0]\nlease_files: [{}]\nidentity_interval: 1h", leases.display()),
        )
    }

    /// As odhcpd and editors do it: another file takes the place.
    fn replace_leases(&self, text: &str) {
        let other = self.dir.path().join("other");
        fs::write(&other, text).expect("written");
        fs::rename(&other, self.leases()).expect("renamed");
    }
}

fn identities(events: &[Value]) -> impl DoubleEndedIterator<Item = &Value> {
    events.iter().filter(|event| event["type"] == "host_identity")
}

/// The last word about the LAN's device.
fn device(events: &[Value]) -> Option<&Value> {
    identities(events).rev().find(|event| event["mac"] == LAN_MAC)
}

fn holds(event: Option<&Value>, address: &str) -> bool {
    let addresses = event.and_then(|event| event["addresses"].as_array());
    addresses.is_some_and(|addresses| addresses.iter().any(|held| held == address))
}

fn addresses_and_names() {
    let lab = Lab::new();
    for address in ["10.77.0.10", "fd77::10", "198.51.100.10"] {
        must(&format!("ping -c 1 {address}"));
    }
    let mut dump = lab.agent();
    dump.until("the device with both addresses", |events| {
        holds(device(events), "10.77.0.10") && holds(device(events), "fd77::10")
    });
    let first = device(&dump.events).expect("a device").clone();
    assert_eq!((first["interface"].as_str(), &first["host_name"]), (Some("lan0"), &Value::Null));
    let (seen, now) =
        (first["last_seen_us"].as_i64().expect("a time"), first["time_us"].as_i64().expect("a time"));
    assert!((0..60_000_000).contains(&(now - seen)), "{first}");

    lab.replace_leases(&format!(
        "2000000000 {LAN_MAC} 10.77.0.10 laptop *\n0 02:00:00:00:00:77 10.77.0.77 <b>tv</b> *\n"
    ));
    dump.until("the name", |events| device(events).is_some_and(|event| event["host_name"] == "laptop"));
    let named = device(&dump.events).expect("a device");
    assert_eq!(named["lease_until_us"], 2_000_000_000_000_000_i64);
    assert!(holds(Some(named), "fd77::10"), "{named}");
    dump.until("the lease of a device that is silent", |events| {
        let mut found = identities(events).filter(|event| event["mac"] == "02:00:00:00:00:77");
        found.any(|event| event["host_name"] == Value::Null && holds(Some(event), "10.77.0.77"))
    });

    lab.network.lan.must("ip address del fd77::10/64 dev eth0");
    must("ip neigh del fd77::10 dev lan0");
    dump.until("the address to be gone", |events| !holds(device(events), "fd77::10"));
    assert!(holds(device(&dump.events), "10.77.0.10"));

    lab.network.lan.must("ip link set eth0 down");
    must("ip neigh flush dev lan0");
    lab.replace_leases("");
    dump.until("the device to be gone", |events| {
        device(events).is_some_and(|event| event["addresses"] == Value::Null)
    });

    let router = |interface: &str| {
        let mut own = identities(&dump.events).filter(|event| event["is_router"] == true);
        own.find(|event| event["interface"] == interface).cloned()
    };
    assert!(holds(router("lan0").as_ref(), "10.77.0.1") && holds(router("lan0").as_ref(), "fd77::1"));
    assert!(holds(router("wan0").as_ref(), "198.51.100.1"));
    let strangers = identities(&dump.events).filter(|event| event["is_router"] == Value::Null);
    let macs: BTreeSet<&str> = strangers.filter_map(|event| event["mac"].as_str()).collect();
    assert_eq!(macs, BTreeSet::from([LAN_MAC, "02:00:00:00:00:77"]), "who is outside is no device");
}

fn hundred_at_once() {
    let lab = Lab::new();
    fs::write(lab.leases(), "").expect("written");
    let mut dump = lab.agent();
    dump.until("the first picture", |events| identities(events).next().is_some());
    let mut batch = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    let lines: String = (0..100)
        .map(|number| {
            format!(
                "neigh add 10.77.0.{} lladdr 02:00:00:00:02:{number:02x} dev lan0 nud reachable\n",
                100 + number
            )
        })
        .collect();
    batch.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("sent");
    assert!(batch.wait().expect("its end").success());
    let is_new = |event: &&Value| event["mac"].as_str().is_some_and(|mac| mac.starts_with("02:00:00:00:02:"));
    dump.until("all of them", |events| identities(events).filter(is_new).count() >= 100);
    // What is told in one hand-over has one time.
    let times: BTreeSet<i64> =
        identities(&dump.events).filter(is_new).filter_map(|event| event["time_us"].as_i64()).collect();
    assert_eq!(times.len(), 1, "{times:?}");
}

/// A program that is killed when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dnsmasq(leases: &Path) -> Running {
    let leases = format!("--dhcp-leasefile={}", leases.display());
    let arguments = [
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=lan0",
        "--bind-interfaces",
        "--no-ping",
        "--dhcp-range=10.77.0.100,10.77.0.110,1h",
        &leases,
    ];
    Running(Command::new("dnsmasq").args(arguments).stderr(Stdio::null()).spawn().expect("dnsmasq"))
}

fn dhcp_server() {
    let lab = Lab::new();
    // The file is made by the server, while the agent looks on.
    let mut dump = lab.agent();
    dump.until("the first picture", |events| identities(events).next().is_some());
    let _server = dnsmasq(&lab.leases());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as i64;
    let client = lab
        .network
        .lan
        .command("busybox")
        .args(["udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "20", "-T", "1"])
        .args(["-s", "/bin/true", "-x", "hostname:kitchen-radio"])
        .output()
        .expect("udhcpc");
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    dump.until("its name", |events| {
        device(events).is_some_and(|event| event["host_name"] == "kitchen-radio")
    });
    let event = device(&dump.events).expect("a device");
    let until = event["lease_until_us"].as_i64().expect("a time") / 1_000_000;
    assert!((now + 3590..now + 3700).contains(&until), "{event}");
    let in_range = |address: &Value| address.as_str().is_some_and(|text| text.starts_with("10.77.0.1"));
    assert!(event["addresses"].as_array().expect("a list").iter().any(in_range), "{event}");
}

fn told_again() {
    let lab = Lab::new();
    must("ping -c 1 10.77.0.10");
    let mut dump = Dump::start(AGENT, "wan_interfaces: [wan0]\nidentity_interval: 10s");
    let told = |events: &[Value]| identities(events).filter(|event| event["mac"] == LAN_MAC).count();
    dump.until("the device", |events| told(events) > 0);
    // The kernel's own news of it may come in between; the router's addresses do not change.
    let own = |events: &[Value]| {
        identities(events).filter(|event| event["is_router"] == true && event["interface"] == "wan0").count()
    };
    dump.until("a second picture", |events| own(events) == 2 && told(events) >= 2);
    drop(lab);
}
