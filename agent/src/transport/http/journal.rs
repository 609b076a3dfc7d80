//! Remembers, in a file beside the spool, what was posted: the old protocol has no word for "go on from
//! here". It is written before each post and after it, so that an agent killed in between posts the very
//! same events again, which a server that compares can count once.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use tracing::warn;

use super::parcel::{Parcel, Through};
use crate::spool::Spool;

const FILE: &str = "posted";
/// A file larger than any parcel is not ours.
const LARGEST_BYTES: u64 = 64 * 1024 * 1024;

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    fsync: bool,
    failing: bool,
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) epoch: u64,
    /// Up to and including this sequence everything is delivered.
    pub(super) delivered: u64,
    /// What was on its way, if it is not empty.
    pub(super) parcel: Parcel,
}

/// What was posted is not streamed as well. A parcel whose answer nobody heard is, for it is in the spool still.
pub(crate) fn take_over(spool: &mut Spool) {
    let journal = Journal::new(spool.dir(), spool.fsync());
    if let Some(Entry { epoch, delivered, .. }) = journal.read() {
        spool.settle(epoch, delivered);
    }
    // From now on it would be wrong.
    match fs::remove_file(&journal.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let path = journal.path.display();
            warn!(%path, %error, "cannot delete the note of what was posted; do it before JSON batches are posted again");
        }
        _ => {}
    }
}

impl Journal {
    pub(super) fn new(spool_dir: &std::path::Path, fsync: bool) -> Self {
        Self { path: spool_dir.join(FILE), fsync, failing: false }
    }

    /// What an earlier run left. A file that is damaged says nothing.
    pub(super) fn read(&self) -> Option<Entry> {
        let about = fs::metadata(&self.path).ok()?;
        if about.len() > LARGEST_BYTES {
            return None;
        }
        parse(&fs::read(&self.path).ok()?)
    }

    /// Without it the agent goes on: then a restart may post events twice.
    pub(super) fn write(&mut self, epoch: u64, delivered: u64, parcel: &Parcel) {
        match self.replace(epoch, delivered, parcel) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let path = self.path.display();
                    warn!(%path, %error, "cannot note what was posted; after a restart it may be posted again");
                }
            }
        }
    }

    fn replace(&self, epoch: u64, delivered: u64, parcel: &Parcel) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&head(epoch, delivered, parcel))?;
        file.write_all(parcel.json())?;
        if self.fsync {
            file.sync_data()?;
        }
        fs::rename(&new, &self.path)
    }
}

/// One line before the JSON: a checksum of the rest, the epoch, how far everything is delivered, how far the
/// parcel reaches, where each event ends.
fn head(epoch: u64, delivered: u64, parcel: &Parcel) -> Vec<u8> {
    let Through { sequence, events } = parcel.through;
    let mut text = format!("{epoch:016x} {delivered} {sequence} {events}");
    for end in parcel.ends() {
        text.push(' ');
        text.push_str(&end.to_string());
    }
    text.push('\n');
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(text.as_bytes());
    hasher.update(parcel.json());
    format!("{:08x} {text}", hasher.finalize()).into_bytes()
}

fn parse(bytes: &[u8]) -> Option<Entry> {
    let (crc, rest) = bytes.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
    if crc32fast::hash(rest) != crc {
        return None;
    }
    let line = rest.iter().position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&rest[..line]).ok()?.split(' ');
    let epoch = u64::from_str_radix(words.next()?, 16).ok()?;
    let delivered = words.next()?.parse().ok()?;
    let through = Through { sequence: words.next()?.parse().ok()?, events: words.next()?.parse().ok()? };
    let ends = words.map(|word| word.parse().ok()).collect::<Option<Vec<usize>>>()?;
    let parcel = Parcel::restore(rest[line + 1..].to_vec(), ends, through)?;
    (delivered <= through.sequence).then_some(Entry { epoch, delivered, parcel })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_on_its_way_is_known_to_the_next_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::new(dir.path(), true);
        assert_eq!(journal.read(), None);
        let through = Through { sequence: 7, events: 3 };
        let parcel = Parcel::restore(b"{\"a\":1},{}".to_vec(), vec![7, 10], through).expect("it fits");
        journal.write(9, 5, &parcel);
        assert_eq!(journal.read(), Some(Entry { epoch: 9, delivered: 5, parcel }));

        let good = fs::read(&journal.path).expect("a file");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(parse(&bad), None, "byte {at}");
            assert_eq!(parse(&good[..at]), None, "cut at {at}");
        }
        journal.write(9, 7, &Parcel::restore(Vec::new(), Vec::new(), through).expect("it fits"));
        assert_eq!(journal.read().map(|entry| entry.parcel.through), Some(through));
    }

    #[test]
    fn a_directory_that_is_gone_is_no_reason_to_stop() {
        let mut journal = Journal::new(std::path::Path::new("/does/not/exist"), false);
        journal.write(9, 0, &Parcel::default());
        assert!(journal.failing);
        assert_eq!(journal.read(), None);
    }
}
