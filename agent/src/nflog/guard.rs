//! The flood guard: how many packets of one source are reported, and what is left out.
//!
//! Every source has an allowance that refills at the configured rate. Who floods is still seen, at that rate,
//! and each of its reports says how many packets were left out before it. All sources together have an
//! allowance as well, because an attacker can invent as many sources as he likes.
//!
//! Pure: the time is an argument.

use std::collections::HashMap;

/// Sources that are told apart at a time; the rest share one allowance.
const MOST_SOURCES: usize = 2048;
/// The allowance that a quiet source has saved up, in seconds of the rate.
const BURST_SECONDS: u64 = 10;
/// What all sources together may have, in rates of one.
const ALL_SOURCES: u64 = 100;
/// A source whose last packets were left out, and that is silent for so long, is accounted for by a gap.
const SILENCE_MS: u64 = 5_000;
/// One packet, in the unit of allowances.
const PACKET: u64 = 1000;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Reported, with the number of those of its source that were left out before it.
    Report(u64),
    /// Counted, and no more.
    LeaveOut,
}

/// Packets that were left out and will not be told by a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) count: u64,
    /// Since when, in milliseconds of the caller's clock.
    pub(super) since_ms: u64,
}

impl LeftOut {
    fn add(&mut self, count: u64, since_ms: u64) {
        if count > 0 {
            self.since_ms = if self.count == 0 { since_ms } else { self.since_ms.min(since_ms) };
            self.count += count;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u64,
    as_of_ms: u64,
}

impl Allowance {
    fn full(most: u64, now_ms: u64) -> Self {
        Self { left: most, as_of_ms: now_ms }
    }

    fn refill(&mut self, rate: u64, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.as_of_ms);
        self.left = self.left.saturating_add(elapsed.saturating_mul(rate)).min(most(rate));
        self.as_of_ms = self.as_of_ms.max(now_ms);
    }
}

/// A packet a second is a unit a millisecond.
fn most(rate: u64) -> u64 {
    rate * BURST_SECONDS * PACKET
}

#[derive(Debug)]
struct Source {
    allowance: Allowance,
    left_out: LeftOut,
    last_ms: u64,
}

#[derive(Debug)]
pub(super) struct Guard {
    rate: u64,
    sources: HashMap<[u8; 16], Source>,
    /// Of the sources that found no place.
    others: Allowance,
    all: Allowance,
    /// Left out of sources that have no place any more.
    forgotten: LeftOut,
    settled_ms: u64,
}

impl Guard {
    /// For `rate` packets of one source a second in the long run.
    pub(super) fn new(rate: u32, now_ms: u64) -> Self {
        let rate = u64::from(rate);
        Self {
            rate,
            sources: HashMap::new(),
            others: Allowance::full(most(rate), now_ms),
            all: Allowance::full(most(rate * ALL_SOURCES), now_ms),
            forgotten: LeftOut::default(),
            settled_ms: now_ms,
        }
    }

    /// Decides about one packet.
    pub(super) fn judge(&mut self, source: [u8; 16], now_ms: u64) -> Verdict {
        if self.sources.len() >= MOST_SOURCES && !self.sources.contains_key(&source) {
            // Not for every packet of a flood.
            if now_ms.saturating_sub(self.settled_ms) >= 1000 {
                self.forget_the_quiet(now_ms);
            }
            if self.sources.len() >= MOST_SOURCES {
                return self.judge_other(now_ms);
            }
        }
        self.all.refill(self.rate * ALL_SOURCES, now_ms);
        let fresh = || Source {
            allowance: Allowance::full(most(self.rate), now_ms),
            left_out: LeftOut::default(),
            last_ms: now_ms,
        };
        let known = self.sources.entry(source).or_insert_with(fresh);
        known.last_ms = now_ms;
        known.allowance.refill(self.rate, now_ms);
        if known.allowance.left < PACKET || self.all.left < PACKET {
            known.left_out.add(1, now_ms);
            return Verdict::LeaveOut;
        }
        known.allowance.left -= PACKET;
        self.all.left -= PACKET;
        Verdict::Report(std::mem::take(&mut known.left_out).count)
    }

    fn judge_other(&mut self, now_ms: u64) -> Verdict {
        self.all.refill(self.rate * ALL_SOURCES, now_ms);
        self.others.refill(self.rate, now_ms);
        if self.others.left < PACKET || self.all.left < PACKET {
            self.forgotten.add(1, now_ms);
            return Verdict::LeaveOut;
        }
        self.others.left -= PACKET;
        self.all.left -= PACKET;
        Verdict::Report(0)
    }

    /// What no report will tell of: to be called every second or so.
    pub(super) fn settle(&mut self, now_ms: u64) -> LeftOut {
        self.forget_the_quiet(now_ms);
        std::mem::take(&mut self.forgotten)
    }

    /// The same, of all sources, at the end.
    pub(super) fn settle_all(&mut self) -> LeftOut {
        for (_, source) in self.sources.drain() {
            self.forgotten.add(source.left_out.count, source.left_out.since_ms);
        }
        std::mem::take(&mut self.forgotten)
    }

    /// How many sources are told apart now.
    pub(super) fn sources(&self) -> usize {
        self.sources.len()
    }

    fn forget_the_quiet(&mut self, now_ms: u64) {
        self.settled_ms = now_ms;
        let (rate, forgotten) = (self.rate, &mut self.forgotten);
        self.sources.retain(|_, source| {
            if now_ms.saturating_sub(source.last_ms) >= SILENCE_MS {
                let left_out = std::mem::take(&mut source.left_out);
                forgotten.add(left_out.count, left_out.since_ms);
            }
            source.allowance.refill(rate, now_ms);
            // One that is as good as new need not be remembered.
            source.allowance.left < most(rate) || source.left_out.count > 0
        });
        if self.sources.is_empty() {
            self.sources.shrink_to(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> [u8; 16] {
        let mut source = [0; 16];
        source[..4].copy_from_slice(&number.to_be_bytes());
        source
    }

    /// Counts reports, what they tell of, and what was left out.
    #[derive(Debug, Default, PartialEq)]
    struct Sums {
        reports: u64,
        told: u64,
        left_out: u64,
    }

    impl Sums {
        fn add(&mut self, verdict: Verdict) {
            match verdict {
                Verdict::Report(told) => {
                    self.reports += 1;
                    self.told += told;
                }
                Verdict::LeaveOut => self.left_out += 1,
            }
        }
    }

    #[test]
    fn a_flood_is_reported_at_the_rate_and_every_packet_accounted_for() {
        let mut guard = Guard::new(20, 0);
        let mut sums = Sums::default();
        // 1000 a second for a minute.
        for packet in 0..60_000 {
            sums.add(guard.judge(source(1), packet));
            let LeftOut { count, .. } = guard.settle(packet);
            assert_eq!(count, 0, "a report will tell");
        }
        let expected = 20 * 60 + 20 * BURST_SECONDS;
        assert!(sums.reports.abs_diff(expected) <= 1, "{sums:?}");
        assert_eq!(sums.reports + sums.left_out, 60_000);
        let untold = guard.settle(60_000 + SILENCE_MS);
        assert_eq!(sums.told + untold.count, sums.left_out);
        assert!(untold.since_ms > 59_000, "{untold:?}");
        assert_eq!(guard.settle_all(), LeftOut::default());
        guard.settle(80_000);
        assert_eq!(guard.sources(), 0, "a quiet source is forgotten");
    }

    #[test]
    fn a_source_does_not_cost_another_its_reports() {
        let mut guard = Guard::new(1, 0);
        for packet in 0..10_000 {
            guard.judge(source(1), packet / 10);
        }
        assert_eq!(guard.judge(source(2), 1000), Verdict::Report(0));
    }

    #[test]
    fn invented_sources_are_bounded_in_memory_and_in_number() {
        let mut guard = Guard::new(20, 0);
        let mut sums = Sums::default();
        let mut untold = 0;
        for packet in 0..600_000_u32 {
            let now_ms = u64::from(packet) / 10;
            sums.add(guard.judge(source(packet), now_ms));
            if packet % 10_000 == 0 {
                untold += guard.settle(now_ms).count;
            }
            assert!(guard.sources() <= MOST_SOURCES);
        }
        let expected = (60 + BURST_SECONDS) * 20 * ALL_SOURCES;
        assert!(sums.reports <= expected, "{sums:?}, at most {expected}");
        assert_eq!(sums.reports + sums.left_out, 600_000);
        untold += guard.settle_all().count;
        assert_eq!(sums.told + untold, sums.left_out);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut guard = Guard::new(1, 1_000_000);
        for _ in 0..BURST_SECONDS {
            assert_eq!(guard.judge(source(1), 1_000_000), Verdict::Report(0));
        }
        assert_eq!(guard.judge(source(1), 0), Verdict::LeaveOut);
        assert_eq!(guard.judge(source(1), 1_000_999), Verdict::LeaveOut);
        assert_eq!(guard.judge(source(1), 1_001_000), Verdict::Report(2));
    }
}
