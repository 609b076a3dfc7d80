//! What happened between two samples. Counters that went down began anew (a driver reset them, or they
//! wrapped at 32 bits): then what they show now is what moved since, as far as anyone can tell.

use netmon_proto::v1::{InterfaceHealth, RouterHealth};

use super::sample::{Interface, Sample};

/// The report of `now`. Without a sample before it there are no differences, and the interval is zero: what
/// was counted since boot did not happen just now.
pub(super) fn between(before: Option<&Sample>, now: &Sample) -> RouterHealth {
    let interval = before.map_or(0, |before| now.at.saturating_duration_since(before.at).as_millis());
    let (read, written) = before.map_or((0, 0), |before| {
        (moved(before.disk_moved.0, now.disk_moved.0), moved(before.disk_moved.1, now.disk_moved.1))
    });
    let interfaces = now.interfaces.iter().map(|(name, interface)| {
        let earlier = before.map(|before| before.interfaces.get(name));
        health(name, earlier, interface)
    });
    RouterHealth {
        interval_ms: u32::try_from(interval).unwrap_or(u32::MAX),
        load1_milli: now.load_milli[0],
        load5_milli: now.load_milli[1],
        load15_milli: now.load_milli[2],
        memory_total_bytes: now.memory.total,
        memory_available_bytes: now.memory.available,
        swap_total_bytes: now.memory.swap_total,
        swap_free_bytes: now.memory.swap_free,
        disk_total_bytes: now.disk.0,
        disk_free_bytes: now.disk.1,
        disk_read_bytes: read,
        disk_written_bytes: written,
        uptime_s: now.uptime_s,
        conntrack_count: now.conntrack.0,
        conntrack_max: now.conntrack.1,
        temperature_milli_c: now.temperature_milli_c,
        interfaces: interfaces.collect(),
        warnings: Vec::new(),
    }
}

/// `earlier`: none where there is no sample before; none within where the interface was not in it.
fn health(name: &str, earlier: Option<Option<&Interface>>, now: &Interface) -> InterfaceHealth {
    let counters = match earlier {
        None => [[0; 2]; 4],
        // It was made since, so all of it moved since; another one of its name is another one.
        Some(earlier) => {
            let base =
                earlier.filter(|earlier| earlier.index == now.index).map_or([[0; 2]; 4], |e| e.counters);
            std::array::from_fn(|kind| {
                std::array::from_fn(|way| moved(base[kind][way], now.counters[kind][way]))
            })
        }
    };
    let [bytes, packets, errors, dropped] = counters;
    InterfaceHealth {
        name: name.to_owned(),
        rx_bytes: bytes[0],
        tx_bytes: bytes[1],
        rx_packets: packets[0],
        tx_packets: packets[1],
        rx_errors: errors[0],
        tx_errors: errors[1],
        rx_dropped: dropped[0],
        tx_dropped: dropped[1],
        up: now.up,
    }
}

/// A 32-bit counter that came from its upper half wrapped; any other one that went down was reset.
fn moved(before: u64, now: u64) -> u64 {
    const WRAP: u64 = 1 << 32;
    if now >= before {
        now - before
    } else if (WRAP / 2..WRAP).contains(&before) && now < WRAP / 2 {
        now + (WRAP - before)
    } else {
        now
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::health::sample::Memory;

    fn sample(at: Instant, interfaces: &[(&str, u32, u64)]) -> Sample {
        let interface = |index, bytes| Interface { index, up: true, counters: [[bytes; 2]; 4] };
        Sample {
            at,
            wall_us: 0,
            load_milli: [1, 2, 3],
            memory: Memory::default(),
            disk: (10, 5),
            disk_moved: (1000, 2000),
            uptime_s: 9,
            conntrack: (1, 2),
            temperature_milli_c: None,
            interfaces: interfaces
                .iter()
                .map(|(name, index, bytes)| ((*name).to_owned(), interface(*index, *bytes)))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    fn bytes(health: &RouterHealth) -> Vec<(&str, u64)> {
        health.interfaces.iter().map(|interface| (interface.name.as_str(), interface.rx_bytes)).collect()
    }

    #[test]
    fn the_first_sample_has_no_differences() {
        let health = between(None, &sample(Instant::now(), &[("eth0", 2, 5_000_000)]));
        assert_eq!((health.interval_ms, health.disk_read_bytes, health.disk_written_bytes), (0, 0, 0));
        assert_eq!(bytes(&health), [("eth0", 0)]);
        assert_eq!((health.load15_milli, health.disk_free_bytes, health.conntrack_max), (3, 5, 2));
    }

    #[test]
    fn what_moved_is_told_whatever_became_of_the_interface() {
        let start = Instant::now();
        let before = sample(start, &[("same", 2, 700), ("anew", 3, 5000), ("gone", 4, 9)]);
        let mut now =
            sample(start + Duration::from_secs(30), &[("same", 2, 1000), ("anew", 7, 60), ("new", 8, 40)]);
        now.disk_moved = (1500, 2000);
        let health = between(Some(&before), &now);
        assert_eq!((health.interval_ms, health.disk_read_bytes, health.disk_written_bytes), (30_000, 500, 0));
        assert_eq!(bytes(&health), [("anew", 60), ("new", 40), ("same", 300)]);
    }

    #[test]
    fn counters_that_go_down_do_not_make_huge_differences() {
        assert_eq!(moved(u64::from(u32::MAX) - 9, 90), 100, "wrapped at 32 bits");
        assert_eq!(moved(5_000, 90), 90, "reset");
        assert_eq!(moved(1 << 40, 90), 90, "reset, and never a 32-bit counter");
        assert_eq!(moved(7, 7), 0);
    }
}
