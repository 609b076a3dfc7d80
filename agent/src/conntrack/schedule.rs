//! When to dump next.

use std::time::Duration;

/// While the table is small.
const SHORTEST: Duration = Duration::from_secs(2);
/// From this many rows on, the configured interval is used in full.
const LARGE: u32 = 16_384;
/// A dump shall cost at most one part in this many of a CPU.
const SHARE: u32 = 100;

/// The pause after a dump of `rows` rows that cost `cpu`: two seconds for a small table, the configured
/// interval for a large one, and more where that would still cost more than one per cent of a CPU.
pub(super) fn interval(rows: u64, cpu: Duration, configured: Duration) -> Duration {
    let rows = u32::try_from(rows).unwrap_or(LARGE).min(LARGE);
    let shortest = SHORTEST.min(configured);
    let by_size = shortest + (configured - shortest) * rows / LARGE;
    by_size.max(cpu.saturating_mul(SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: u64, cpu_ms: u64, configured_s: u64, expected_ms: u128) {
        let pause = interval(rows, Duration::from_millis(cpu_ms), Duration::from_secs(configured_s));
        assert_eq!(pause.as_millis(), expected_ms, "{rows} rows, {cpu_ms} ms, {configured_s} s");
    }

    #[test]
    fn grows_with_the_table_and_with_its_cost() {
        check(0, 0, 10, 2_000);
        check(8_192, 5, 10, 6_000);
        check(16_384, 20, 10, 10_000);
        check(200_000, 20, 10, 10_000);
        check(200_000, 250, 10, 25_000);
        check(u64::MAX, 0, 60, 60_000);
        check(100, 0, 1, 1_000);
        check(100, 30, 1, 3_000);
    }
}
