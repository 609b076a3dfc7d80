//! The kernel numbers the packets of a group, so that what it could not hand over can be counted.

use netmon_proto::v1::{Event, GapCause};

use super::state::NflogState;
use crate::flows::{Moment, gap};

/// A step back of a group's numbers is no loss of four thousand million packets.
const LARGEST_HOLE: u32 = u32::MAX / 2;

#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// The next number of each group; the kernel begins with zero at every binding.
    next: Vec<(u16, u32)>,
    /// Not yet reported.
    lost: u64,
    /// Not yet explained by a hole in the numbers.
    overruns: u64,
    /// When all was well.
    since_us: i64,
}

impl Sequences {
    /// Notes a packet's number.
    pub(super) fn heard(&mut self, group: u16, sequence: u32) {
        let next = match self.next.iter_mut().find(|(known, _)| *known == group) {
            Some((_, next)) => next,
            None => {
                self.next.push((group, 0));
                let Some((_, next)) = self.next.last_mut() else { return };
                next
            }
        };
        let hole = sequence.wrapping_sub(*next);
        if hole <= LARGEST_HOLE {
            self.lost += u64::from(hole);
        }
        *next = sequence.wrapping_add(1);
    }

    /// Notes that the socket's buffer was full.
    pub(super) fn overrun(&mut self) {
        self.overruns += 1;
    }

    /// Tells of the holes that were found.
    pub(super) fn report(&mut self, now: Moment, state: &mut NflogState, events: &mut Vec<Event>) {
        if self.lost > 0 {
            let (lost, from_us) = (std::mem::take(&mut self.lost), self.since_us.min(now.unix_us));
            self.overruns = 0;
            state.lost += lost;
            let detail = "logged packets that found no room in the socket's buffer; counted in packets";
            events.push(gap(GapCause::KernelOverrun, lost, from_us, now.unix_us, detail));
        }
        if self.overruns == 0 {
            self.since_us = now.unix_us;
        }
    }

    /// Tells of overruns after which no packet came any more, whose number would have shown what is missing.
    pub(super) fn report_unexplained(&mut self, now: Moment, events: &mut Vec<Event>) {
        let overruns = std::mem::take(&mut self.overruns);
        if overruns > 0 {
            let detail = "logged packets found no room in the socket's buffer before the agent stopped";
            let from_us = self.since_us.min(now.unix_us);
            events.push(gap(GapCause::KernelOverrun, overruns, from_us, now.unix_us, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use netmon_proto::v1::event::Kind;

    use super::*;

    fn check(numbers: &[(u16, u32)], expected: u64) {
        let (mut sequences, mut state, mut events) =
            (Sequences::default(), NflogState::default(), Vec::new());
        for (group, number) in numbers {
            sequences.heard(*group, *number);
        }
        sequences.report(Moment { unix_us: 7, uptime_ms: 0 }, &mut state, &mut events);
        let counts = events.iter().map(|event| match &event.kind {
            Some(Kind::Gap(gap)) => gap.count,
            other => panic!("{other:?}"),
        });
        assert_eq!((counts.sum::<u64>(), state.lost), (expected, expected), "{numbers:?}");
    }

    #[test]
    fn holes_are_counted_by_group() {
        check(&[(1, 0), (2, 0), (1, 1), (2, 1)], 0);
        check(&[(1, 3), (2, 0), (1, 4), (2, 2)], 4);
        check(&[(1, 0), (1, u32::MAX), (1, 0), (1, 1)], 0);
        check(&[(1, 5), (1, 2), (1, 3)], 5);
    }

    #[test]
    fn an_overrun_is_told_once() {
        let (mut sequences, mut state, mut events) =
            (Sequences::default(), NflogState::default(), Vec::new());
        let now = |unix_us| Moment { unix_us, uptime_ms: 0 };
        sequences.report(now(5), &mut state, &mut events);
        sequences.overrun();
        sequences.report(now(6), &mut state, &mut events);
        assert!(events.is_empty(), "the next packet will tell how many are missing");
        sequences.heard(1, 9);
        sequences.report(now(7), &mut state, &mut events);
        sequences.report_unexplained(now(8), &mut events);
        let gap = |event: &Event| match &event.kind {
            Some(Kind::Gap(gap)) => (gap.count, gap.from_us, gap.to_us),
            other => panic!("{other:?}"),
        };
        assert_eq!(events.iter().map(gap).collect::<Vec<_>>(), [(9, 5, 7)]);
        sequences.overrun();
        sequences.report_unexplained(now(9), &mut events);
        assert_eq!(events.last().map(gap), Some((1, 7, 9)));
    }
}
