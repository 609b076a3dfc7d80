//! One look at the kernel's figures. Those of a host are in /proc; those of interfaces come by rtnetlink,
//! which tells apart an interface and its successor of the same name.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};

use crate::{conntrack::dump_links, host};

/// Bytes of a sector in /proc/diskstats, whatever the disk's own size is.
const SECTOR_BYTES: u64 = 512;
/// More interfaces than this are left out; a router with so many has no use for a list of them.
const MOST_INTERFACES: usize = 256;

/// The figures of one moment. What the kernel does not tell is zero or none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// Wall clock, microseconds since 1970.
    pub(super) wall_us: i64,
    pub(super) load_milli: [u32; 3],
    pub(super) memory: Memory,
    /// Total and free bytes of the spool's file system.
    pub(super) disk: (u64, u64),
    /// Bytes read and written on all disks since boot.
    pub(super) disk_moved: (u64, u64),
    pub(super) uptime_s: u64,
    /// Entries, and the most of them.
    pub(super) conntrack: (u64, u64),
    pub(super) temperature_milli_c: Option<i32>,
    pub(super) interfaces: BTreeMap<String, Interface>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) available: u64,
    pub(super) swap_total: u64,
    pub(super) swap_free: u64,
}

/// Counters since the interface was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) up: bool,
    /// Bytes, packets, errors and drops; of each, received and sent.
    pub(super) counters: [[u64; 2]; 4],
}

impl Sample {
    /// Reads everything.
    ///
    /// # Errors
    /// When rtnetlink does not answer.
    pub(super) fn read(spool_dir: &Path) -> io::Result<Self> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Ok(Self {
            at: Instant::now(),
            wall_us: host::now_us(),
            load_milli: load(&text("/proc/loadavg")),
            memory: memory(&text("/proc/meminfo")),
            disk: file_system(spool_dir),
            disk_moved: disks(&text("/proc/diskstats")),
            uptime_s: uptime(&text("/proc/uptime")).as_secs(),
            conntrack: host::conntrack_fill().unwrap_or_default(),
            temperature_milli_c: temperature(Path::new("/sys/class/thermal")),
            interfaces: interfaces()?,
        })
    }
}

/// The three averages of /proc/loadavg, times 1000.
fn load(text: &str) -> [u32; 3] {
    let mut fields = text.split_whitespace().map(|field| field.parse::<f64>().unwrap_or(0.0));
    [(); 3].map(|()| (fields.next().unwrap_or(0.0).clamp(0.0, 4e6) * 1000.0).round() as u32)
}

/// /proc/meminfo is in KiB.
fn memory(text: &str) -> Memory {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Memory {
        total: field("MemTotal").unwrap_or(0),
        available: field("MemAvailable").or_else(|| field("MemFree")).unwrap_or(0),
        swap_total: field("SwapTotal").unwrap_or(0),
        swap_free: field("SwapFree").unwrap_or(0),
    }
}

/// Sums over whole disks: a line of /proc/diskstats whose name begins with that of an earlier one is a
/// partition of it, and what goes through a loop or device-mapper device is counted below it already.
fn disks(text: &str) -> (u64, u64) {
    let (mut read, mut written) = (0_u64, 0_u64);
    let mut whole: Vec<&str> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, name, _, _, sectors_read, _, _, _, sectors_written, ..] = fields[..] else { continue };
        let stacked = ["loop", "ram", "dm-", "zram", "md"].iter().any(|kind| name.starts_with(kind));
        if stacked || whole.iter().any(|disk| name.starts_with(disk)) {
            continue;
        }
        whole.push(name);
        let bytes = |sectors: &str| sectors.parse::<u64>().unwrap_or(0).saturating_mul(SECTOR_BYTES);
        read = read.saturating_add(bytes(sectors_read));
        written = written.saturating_add(bytes(sectors_written));
    }
    (read, written)
}

fn uptime(text: &str) -> Duration {
    let seconds = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
    Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default()
}

/// Of the directory, or of the nearest one above it that is there.
fn file_system(dir: &Path) -> (u64, u64) {
    let found = dir.ancestors().find_map(|dir| rustix::fs::statvfs(dir).ok());
    found.map_or((0, 0), |found| {
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        (bytes(found.f_blocks), bytes(found.f_bavail))
    })
}

/// The hottest of the kernel's thermal zones.
fn temperature(zones: &Path) -> Option<i32> {
    let zones = fs::read_dir(zones).ok()?.flatten();
    let readings = zones.filter_map(|zone| {
        let text = fs::read_to_string(zone.path().join("temp")).ok()?;
        // Sensors that are not connected read as absolute zero or as nonsense.
        text.trim().parse::<i32>().ok().filter(|reading| (-40_000..=150_000).contains(reading))
    });
    readings.max()
}

fn interfaces() -> io::Result<BTreeMap<String, Interface>> {
    let mut interfaces = BTreeMap::new();
    dump_links(|message_type, payload| {
        if let Ok(RouteNetlinkMessage::NewLink(link)) =
            RouteNetlinkMessage::parse_with_param(payload, message_type)
            && interfaces.len() < MOST_INTERFACES
        {
            interfaces.extend(interface(link));
        }
    })?;
    Ok(interfaces)
}

fn interface(link: LinkMessage) -> Option<(String, Interface)> {
    let up = link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    let mut interface = Interface { index: link.header.index, up, ..Interface::default() };
    let mut name = None;
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Stats64(stats) => {
                interface.counters = [
                    [stats.rx_bytes, stats.tx_bytes],
                    [stats.rx_packets, stats.tx_packets],
                    [stats.rx_errors, stats.tx_errors],
                    [stats.rx_dropped, stats.tx_dropped],
                ];
            }
            _ => {}
        }
    }
    name.map(|name| (name, interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        assert_eq!(load("0.52 1.00 12.345 2/345 6789\n"), [520, 1000, 12345]);
        let text =
            "MemTotal:  124000 kB\nMemFree: 1 kB\nMemAvailable:  60000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        let expected = Memory { total: 126_976_000, available: 61_440_000, ..Memory::default() };
        assert_eq!(memory(text), expected);
        assert_eq!(uptime("350735.47 234388.90\n").as_secs(), 350_735);
        let text = "   7  0 loop0 1 0 99 0 1 0 99 0 0 0 0\n 254 0 vda 10 0 80 5 20 0 160 9 0 1 2\n\
            254 1 vda1 10 0 80 5 20 0 160 9 0 1 2\n 179 0 mmcblk0 1 0 2 0 1 0 4 0 0 0 0\n\
            179 1 mmcblk0p1 1 0 2 0 1 0 4 0 0 0 0\n 253 0 dm-0 9 0 9 9 9 0 9 9 9 9 9\n";
        assert_eq!(disks(text), (82 * 512, 164 * 512));
    }

    #[test]
    fn what_is_missing_or_nonsense_is_nothing() {
        assert_eq!(load("nan inf -3"), [0, 4_000_000_000, 0]);
        assert_eq!((load(""), memory("x"), uptime("-1")), ([0; 3], Memory::default(), Duration::ZERO));
        assert_eq!(disks("1 2 3\n\u{0}\n"), (0, 0));
        assert_eq!(temperature(Path::new("/does/not/exist")), None);
    }

    #[test]
    fn the_hottest_connected_sensor_counts() {
        let zones = tempfile::tempdir().expect("a directory");
        for (zone, reading) in [("a", "41000\n"), ("b", "-273150\n"), ("c", "52500\n"), ("d", "no\n")] {
            fs::create_dir(zones.path().join(zone)).expect("made");
            fs::write(zones.path().join(zone).join("temp"), reading).expect("written");
        }
        assert_eq!(temperature(zones.path()), Some(52_500));
    }

    #[test]
    fn this_host_has_figures() {
        let sample = Sample::read(Path::new("/does/not/exist")).expect("a sample");
        assert!(sample.memory.total > 0 && sample.uptime_s > 0 && sample.disk.0 > 0, "{sample:?}");
        assert!(sample.interfaces.contains_key("lo"), "{sample:?}");
    }
}
