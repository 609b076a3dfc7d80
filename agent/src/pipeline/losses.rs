//! Collects what was lost until it is reported, each loss once, as a `Gap` event of the next batch.

use netmon_proto::v1::{Event, Gap, GapCause, event::Kind};

/// What was lost and not yet reported, and how much in all.
#[derive(Debug, Default)]
pub(super) struct Losses {
    pending: Vec<Gap>,
    totals: Vec<(GapCause, u64)>,
}

impl Losses {
    /// Notes a loss that was found at `now_us`. Losses of one kind are joined.
    pub(super) fn add(&mut self, cause: GapCause, count: u64, detail: &str, now_us: i64) {
        self.add_span(cause, count, detail, now_us, now_us);
    }

    /// Notes a loss that affects a span of time.
    pub(super) fn add_span(&mut self, cause: GapCause, count: u64, detail: &str, from_us: i64, to_us: i64) {
        self.add_gap(Gap { cause: cause.into(), count, from_us, to_us, detail: detail.to_owned() });
    }

    /// Notes a loss as a part tells it.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        if gap.count == 0 {
            return;
        }
        let cause = gap.cause();
        match self.totals.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, total)) => *total += gap.count,
            None => self.totals.push((cause, gap.count)),
        }
        self.put(gap);
    }

    fn put(&mut self, gap: Gap) {
        let same =
            self.pending.iter_mut().find(|known| known.cause == gap.cause && known.detail == gap.detail);
        match same {
            Some(known) => {
                known.count += gap.count;
                known.from_us = known.from_us.min(gap.from_us);
                known.to_us = known.to_us.max(gap.to_us);
            }
            None => self.pending.push(gap),
        }
    }

    /// Puts a gap back that could not be appended.
    pub(super) fn restore(&mut self, event: Event) -> bool {
        match event.kind {
            Some(Kind::Gap(gap)) => {
                self.put(gap);
                true
            }
            _ => false,
        }
    }

    /// Appends what is pending to `events`.
    pub(super) fn report(&mut self, events: &mut Vec<Event>, now_us: i64) {
        let gaps = self.pending.drain(..);
        events.extend(gaps.map(|gap| Event { time_us: now_us, kind: Some(Kind::Gap(gap)) }));
    }

    /// How much of each cause since the start.
    pub(super) fn totals(&self) -> &[(GapCause, u64)] {
        &self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_one_kind_are_joined_and_reported_once() {
        let mut losses = Losses::default();
        losses.add(GapCause::SpoolWrite, 3, "full", 10);
        losses.add(GapCause::SpoolWrite, 4, "full", 20);
        losses.add(GapCause::SpoolFull, 0, "nothing", 20);
        let mut events = Vec::new();
        losses.report(&mut events, 30);
        let gap = Gap {
            cause: GapCause::SpoolWrite.into(),
            count: 7,
            from_us: 10,
            to_us: 20,
            detail: "full".to_owned(),
        };
        assert_eq!(events, [Event { time_us: 30, kind: Some(Kind::Gap(gap)) }]);

        assert!(losses.restore(events.remove(0)), "a gap goes back");
        assert!(!losses.restore(Event::default()), "another event does not");
        losses.report(&mut events, 40);
        losses.report(&mut events, 50);
        assert_eq!(events.len(), 1);
        assert_eq!(losses.totals(), [(GapCause::SpoolWrite, 7)]);
    }
}
