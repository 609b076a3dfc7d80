//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubles from the least to the most, each time with up to half of it taken off at random, so that a
/// hundred agents do not come back to a restarted server in the same instant.
#[derive(Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least }
    }

    /// The server works: begin again with the least.
    pub(super) fn reset(&mut self) {
        self.next = self.least;
    }

    /// The next delay; `chance` is from 0 to 1.
    pub(super) fn delay(&mut self, chance: f64) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.most);
        delay.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_most_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut millis = |chance: f64| backoff.delay(chance).as_millis();
        assert_eq!([millis(0.0), millis(0.0), millis(1.0), millis(0.5)], [500, 1000, 1000, 3000]);
        assert_eq!([millis(0.0), millis(0.0), millis(0.0), millis(0.0)], [8000, 16000, 30000, 30000]);
        assert_eq!(millis(1.0), 15000);
        backoff.reset();
        assert_eq!(backoff.delay(0.0), Duration::from_millis(500));
    }
}
