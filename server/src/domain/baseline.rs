//! What is usual for a device: the figures that an unusual one is compared with.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{MINUTE_US, Micros};

const HOUR_US: Micros = 60 * MINUTE_US;

/// The time that a baseline is over.
pub const BASELINE_US: Micros = 24 * HOUR_US;

/// How long a device must not have turned to a host for it to be new again.
const NEW_AFTER_US: Micros = 24 * HOUR_US;

/// Flows that began earlier are not needed for a baseline of 24 hours.
pub const BASELINE_READS_US: Micros = BASELINE_US + NEW_AFTER_US;

/// Destinations and ports are counted in steps of so many minutes.
const STEP_US: Micros = 10 * MINUTE_US;

/// What is usual for one device, by 95th percentiles. Of the minutes in which it moved something, and of the tens of
/// minutes in which it began a flow: a device that sleeps most of the day would else be compared with nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Minutes in which it moved something.
    pub minutes: i32,
    /// Bytes in the original direction, per minute: what it sent where it began the flow, and what was sent to it where
    /// another one did.
    pub bytes_orig: i64,
    /// Flows that began, per minute.
    pub flows: i64,
    /// Tens of minutes in which it began a flow.
    pub ten_minutes: i32,
    /// Remote hosts that it had not turned to for 24 hours, per ten minutes.
    pub new_hosts: i64,
    /// Different ports of responders, per ten minutes.
    pub ports: i64,
}

/// Gathers what devices did. Minutes and flows may come in any order.
#[derive(Debug)]
pub struct Baselines {
    until: Micros,
    devices: BTreeMap<i64, Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    minutes: BTreeMap<i64, (i64, i64)>,
    /// By remote host, when flows to it began.
    hosts: HashMap<i64, Vec<Micros>>,
    ports: BTreeMap<i64, BTreeSet<u16>>,
}

impl Baselines {
    /// Of the 24 hours up to this time.
    #[must_use]
    pub fn until(until: Micros) -> Self {
        Self { until, devices: BTreeMap::new() }
    }

    /// What a device moved in a minute (since 1970), and the flows that began in it.
    pub fn minute(&mut self, device: i64, minute: i64, bytes_orig: i64, flows: i64) {
        let at = minute.saturating_mul(MINUTE_US);
        if self.counts(at) {
            let sum = self.devices.entry(device).or_default().minutes.entry(minute).or_default();
            *sum = (sum.0.saturating_add(bytes_orig), sum.1.saturating_add(flows));
        }
    }

    /// A flow that a device began, to a remote host if it was one, and to a port.
    pub fn flow(&mut self, device: i64, host: Option<i64>, port: u16, began: Micros) {
        if began < self.until - BASELINE_READS_US || began >= self.until {
            return;
        }
        let counts = self.counts(began);
        let gathered = self.devices.entry(device).or_default();
        if let Some(host) = host {
            gathered.hosts.entry(host).or_default().push(began);
        }
        if counts {
            gathered.ports.entry(began.div_euclid(STEP_US)).or_default().insert(port);
        }
    }

    fn counts(&self, at: Micros) -> bool {
        (self.until - BASELINE_US..self.until).contains(&at)
    }

    /// What is usual, by device. One that did nothing in the 24 hours has no baseline.
    #[must_use]
    pub fn finish(self) -> Vec<(i64, Baseline)> {
        let from = self.until - BASELINE_US;
        let finished = self.devices.into_iter().map(|(device, gathered)| (device, gathered.finish(from)));
        finished.filter(|(_, baseline)| baseline.minutes > 0 || baseline.ten_minutes > 0).collect()
    }
}

impl Gathered {
    fn finish(self, from: Micros) -> Baseline {
        let mut new_hosts: BTreeMap<i64, i64> = self.ports.keys().map(|step| (*step, 0)).collect();
        for mut began in self.hosts.into_values() {
            began.sort_unstable();
            let mut last: Option<Micros> = None;
            for at in began {
                if at >= from && last.is_none_or(|last| at - last > NEW_AFTER_US) {
                    *new_hosts.entry(at.div_euclid(STEP_US)).or_default() += 1;
                }
                last = Some(at);
            }
        }
        let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
        Baseline {
            minutes: count(self.minutes.len()),
            bytes_orig: p95(self.minutes.values().map(|(bytes, _)| *bytes).collect()),
            flows: p95(self.minutes.values().map(|(_, flows)| *flows).collect()),
            ten_minutes: count(self.ports.len()),
            new_hosts: p95(new_hosts.into_values().collect()),
            ports: p95(self
                .ports
                .values()
                .map(|ports| i64::try_from(ports.len()).unwrap_or(i64::MAX))
                .collect()),
        }
    }
}

/// The smallest of the values that 95 of 100 do not exceed (nearest rank); zero of none.
fn p95(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    let rank = (values.len() * 95).div_ceil(100);
    rank.checked_sub(1).and_then(|place| values.get(place)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: Micros = 1_748_779_200_000_000;

    #[test]
    fn the_percentile_is_a_value_that_was_there() {
        assert_eq!(p95(Vec::new()), 0);
        assert_eq!(p95(vec![7]), 7);
        assert_eq!(p95((1..=100).rev().collect()), 95);
        assert_eq!(p95((1..=20).collect()), 19);
        assert_eq!(p95((1..=10).collect()), 10);
    }

    #[test]
    fn minutes_are_those_in_which_something_moved() {
        let mut baselines = Baselines::until(UNTIL);
        let last = UNTIL / MINUTE_US - 1;
        for ago in 0..100 {
            baselines.minute(1, last - ago, 1_000 + ago, 1);
        }
        // Of another router's half of the same device: added up.
        baselines.minute(1, last, 0, 5);
        // Too early, and not yet over.
        baselines.minute(1, last - 24 * 60, 1 << 40, 99);
        baselines.minute(1, last + 1, 1 << 40, 99);
        baselines.minute(2, last - 24 * 60, 5, 5);
        let expected = Baseline { minutes: 100, bytes_orig: 1_094, flows: 1, ..Baseline::default() };
        assert_eq!(baselines.finish(), [(1, expected)]);
    }

    #[test]
    fn a_host_is_new_after_a_day_without_it() {
        let mut baselines = Baselines::until(UNTIL);
        // Known from the day before: not new. Then three new ones in one step, one of them twice.
        baselines.flow(1, Some(9), 443, UNTIL - 30 * HOUR_US);
        baselines.flow(1, Some(9), 443, UNTIL - 10 * HOUR_US);
        for (host, port) in [(1, 1), (2, 2), (2, 3), (3, 3)] {
            baselines.flow(1, Some(host), port, UNTIL - 2 * HOUR_US);
        }
        // To a neighbour: no remote host, but a port.
        baselines.flow(1, None, 22, UNTIL - HOUR_US);
        baselines.flow(1, Some(50), 7, UNTIL - 49 * HOUR_US);
        let expected = Baseline { ten_minutes: 3, new_hosts: 3, ports: 3, ..Baseline::default() };
        assert_eq!(baselines.finish(), [(1, expected)]);
        let mut again = Baselines::until(UNTIL);
        again.flow(1, Some(9), 443, UNTIL - 40 * HOUR_US);
        again.flow(1, Some(9), 443, UNTIL - 10 * HOUR_US);
        assert_eq!(again.finish()[0].1.new_hosts, 1);
    }
}
