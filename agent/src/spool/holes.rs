//! What was dropped before the server had it, until the server is told with the next batch of that epoch.
//!
//! Kept in the file `lost` as well, one line a hole, so that an agent killed in between still knows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use netmon_proto::v1::GapCause;

const FILE: &str = "lost";

/// Beyond this many holes neighbours are joined.
const MOST: usize = 256;

/// Consecutive sequences of one epoch that no longer exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) epoch: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    /// How many events they held.
    pub(super) events: u64,
    pub(super) cause: GapCause,
}

impl Hole {
    /// The part of the events that belongs to the sequences `first..=last`: exact where the hole lies
    /// inside, in proportion where it does not.
    pub(super) fn events_within(&self, first: u64, last: u64) -> u64 {
        let (from, to) = (self.first.max(first), self.last.min(last));
        if from > to {
            return 0;
        }
        let share =
            u128::from(to - from + 1) * u128::from(self.events) / u128::from(self.last - self.first + 1);
        u64::try_from(share).unwrap_or(self.events)
    }
}

/// All of them, in order of epoch and sequence as they arose.
#[derive(Debug)]
pub(super) struct Holes {
    list: Vec<Hole>,
    path: PathBuf,
}

impl Holes {
    /// Reads what an earlier run left; lines that make no sense are left out.
    pub(super) fn load(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { list: text.lines().take(MOST).filter_map(parse).collect(), path }
    }

    /// Forgets the epochs of which nothing is left to send.
    pub(super) fn retain_epochs(&mut self, known: impl Fn(u64) -> bool) {
        self.list.retain(|hole| known(hole.epoch));
    }

    pub(super) fn add(&mut self, hole: Hole) {
        if hole.first > hole.last {
            return;
        }
        self.list.push(hole);
        if self.list.len() > MOST {
            let joins =
                |a: &Hole, b: &Hole| a.epoch == b.epoch && a.cause == b.cause && a.last + 1 == b.first;
            self.list.dedup_by(|next, kept| {
                let join = joins(kept, next);
                if join {
                    kept.last = next.last;
                    kept.events += next.events;
                }
                join
            });
        }
    }

    /// The server has everything of `epoch` up to `committed`, told or sent.
    pub(super) fn trim(&mut self, epoch: u64, committed: u64) {
        self.list.retain_mut(|hole| {
            if hole.epoch == epoch && hole.first <= committed {
                hole.events = hole.events_within(committed + 1, hole.last);
                hole.first = committed + 1;
            }
            hole.first <= hole.last
        });
    }

    /// The first lost sequence of `epoch`.
    pub(super) fn first(&self, epoch: u64) -> Option<u64> {
        self.list.iter().filter(|hole| hole.epoch == epoch).map(|hole| hole.first).min()
    }

    /// How many events the sequences `first..=last` of `epoch` held, and why they are gone.
    pub(super) fn explain(&self, epoch: u64, first: u64, last: u64) -> (u64, Option<GapCause>) {
        let overlaps = |hole: &&Hole| hole.epoch == epoch && hole.first <= last && hole.last >= first;
        let mut cause = None;
        let mut events = 0;
        for hole in self.list.iter().filter(overlaps) {
            cause.get_or_insert(hole.cause);
            events += hole.events_within(first, last);
        }
        (events, cause)
    }

    /// Takes out the holes of an epoch that has no batch left to tell of them.
    pub(super) fn take(&mut self, epoch: u64) -> Vec<Hole> {
        self.list.extract_if(.., |hole| hole.epoch == epoch).collect()
    }

    /// Writes the file, or removes it when there is nothing to say.
    pub(super) fn save(&self) -> io::Result<()> {
        if self.list.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let line = |hole: &Hole| {
            let Hole { epoch, first, last, events, cause } = hole;
            format!("{epoch:016x} {first} {last} {events} {}\n", cause.as_str_name())
        };
        let text: String = self.list.iter().map(line).collect();
        super::write_anew(&self.path, &text)
    }
}

fn parse(line: &str) -> Option<Hole> {
    let mut words = line.split(' ');
    let epoch = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let (first, last, events) = (number()?, number()?, number()?);
    let cause = GapCause::from_str_name(words.next()?)?;
    let sane = first >= 1 && first <= last && last < u64::MAX && words.next().is_none();
    sane.then_some(Hole { epoch, first, last, events, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(epoch: u64, first: u64, last: u64, events: u64) -> Hole {
        Hole { epoch, first, last, events, cause: GapCause::SpoolFull }
    }

    #[test]
    fn holes_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut holes = Holes::load(dir.path());
        holes.add(hole(7, 1, 10, 100));
        holes.add(hole(8, 3, 3, 1));
        holes.save().expect("saved");
        let mut again = Holes::load(dir.path());
        assert_eq!(again.list, holes.list);

        again.retain_epochs(|epoch| epoch == 8);
        again.trim(8, 3);
        again.save().expect("saved");
        assert!(!dir.path().join(FILE).exists(), "nothing to say, no file");
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = "0000000000000007 5 4 1 GAP_CAUSE_SPOOL_FULL\nx\n7 1 2 3 NO_CAUSE\n7 1 2 3 GAP_CAUSE_SPOOL_FULL\n";
        fs::write(dir.path().join(FILE), text).expect("written");
        assert_eq!(Holes::load(dir.path()).list, [hole(7, 1, 2, 3)]);
    }

    #[test]
    fn what_the_server_has_is_not_explained() {
        let mut holes = Holes { list: vec![], path: PathBuf::new() };
        holes.add(hole(7, 11, 20, 1000));
        assert_eq!(holes.explain(7, 1, 30), (1000, Some(GapCause::SpoolFull)));
        assert_eq!(holes.explain(7, 16, 20), (500, Some(GapCause::SpoolFull)));
        assert_eq!(holes.explain(7, 21, 30), (0, None));
        assert_eq!(holes.explain(8, 1, 30), (0, None));
        holes.trim(7, 12);
        assert_eq!((holes.first(7), holes.explain(7, 1, 30).0), (Some(13), 800));
        holes.trim(7, 20);
        assert_eq!(holes.first(7), None);
    }

    #[test]
    fn many_holes_are_joined() {
        let mut holes = Holes { list: vec![], path: PathBuf::new() };
        for n in 1..=1000 {
            holes.add(hole(7, n, n, 2));
        }
        assert!(holes.list.len() <= MOST);
        assert_eq!(holes.explain(7, 1, 1000).0, 2000);
    }
}
