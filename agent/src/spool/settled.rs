//! How far an epoch is delivered, for a server that cannot know: the batches went another road, JSON batches
//! instead of a stream or the other way round.
//!
//! Noted with the time of the last run, so it costs no write of its own.

use super::{Spool, outbox::LARGEST_SEQUENCE};

/// Up to and including this sequence of the epoch everything is delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
}

impl Settled {
    /// A line with a checksum; nothing where nothing was delivered.
    pub(super) fn line(self) -> String {
        if self.sequence == 0 {
            return String::new();
        }
        let text = format!("{:016x} {}", self.epoch, self.sequence);
        format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()))
    }

    /// A damaged line says nothing.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (crc, text) = line.split_once(' ')?;
        let (epoch, sequence) = text.split_once(' ')?;
        if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(text.as_bytes()) {
            return None;
        }
        let settled = Self { epoch: u64::from_str_radix(epoch, 16).ok()?, sequence: sequence.parse().ok()? };
        (settled.sequence <= LARGEST_SEQUENCE).then_some(settled)
    }

    pub(super) fn of(self, epoch: u64) -> u64 {
        if self.epoch == epoch { self.sequence } else { 0 }
    }
}

impl Spool {
    /// Everything up to and including `sequence` of `epoch` is delivered, whatever the next server knows of
    /// it: it does not come again.
    pub(crate) fn settle(&mut self, epoch: u64, sequence: u64) {
        // Of another epoch than the oldest here there is nothing left, or nothing sent.
        let of_use = epoch == self.next_epoch() && sequence > self.settled.of(epoch);
        if !of_use || sequence > LARGEST_SEQUENCE {
            return;
        }
        self.settled = Settled { epoch, sequence };
        self.forget_settled();
    }

    /// What was acknowledged comes to no server again, not even as a part of a segment that is not full: the
    /// next batches may go another road.
    pub fn forget_acked(&mut self) {
        let Settled { epoch, sequence } = self.delivered();
        self.settle(epoch, sequence);
    }

    /// The next batches are of `epoch`, another one: a server that knows the one before would miss in it what
    /// went another road.
    pub fn begin_epoch(&mut self, epoch: u64) {
        (self.epoch, self.next_sequence, self.sealed) = (epoch, 1, true);
    }

    /// Deletes the segments of which nothing is left to deliver, the last one included.
    pub(super) fn forget_settled(&mut self) {
        self.sealed = true;
        let Settled { epoch, sequence } = self.settled;
        self.release(epoch, sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_or_not_at_all() {
        let settled = Settled { epoch: 7, sequence: 12 };
        let line = settled.line();
        let line = line.trim_end();
        assert_eq!(Settled::parse(line), Some(settled));
        for at in 0..line.len() {
            assert_eq!(Settled::parse(&line[..at]), None, "cut at {at}");
            let mut bad = line.as_bytes().to_vec();
            bad[at] ^= 1;
            assert_eq!(Settled::parse(&String::from_utf8_lossy(&bad)), None, "byte {at}");
        }
        assert_eq!(Settled { epoch: 7, sequence: 0 }.line(), "");
        assert_eq!(Settled::parse(Settled { epoch: 7, sequence: u64::MAX }.line().trim_end()), None);
    }
}
