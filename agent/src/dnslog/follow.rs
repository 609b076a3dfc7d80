//! Follows a log file through its rotations. Looks when it is told to; knows no clock and no event loop.
//!
//! - Rotation by rename: the old file is read on until the new one has something in it, which says that its
//!   writer has changed over, and for a while after that, for processes that have it open still.
//! - copytruncate: the file is shorter than what was read, or other bytes stand before the place where we
//!   are. What was not read before the truncation is read from the copy, wherever it is in the directory.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::lines::{Lines, Piece};

/// So many bytes before our place have to be those that we have read.
const OVERLAP: usize = 256;
const READ_BYTES: usize = 64 * 1024;
/// How much is read at a time, so that others have their turn.
const MOST_AT_ONCE: usize = 512 * 1024;
/// How long a file that was rotated away is read on.
const RETIRED_MS: u64 = 10_000;
/// Files that are read at a time.
const MOST_FILES: usize = 6;
/// Files beside the log that may be its copy.
const MOST_COPIES: usize = 64;
/// A new file that stays empty for so long while the old one grows is not written to.
const UNUSED_MS: u64 = 60_000;

/// What was found in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Piece(Piece<'a>),
    /// The file was truncated: what was written last before that may be missing.
    Cut,
}

/// What keeps the log from being followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    Missing,
    Directory,
    NotAFile,
    Unreadable(String),
    /// The file at the path stays empty, and the one that was there grows.
    Unused,
}

/// What there is at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Pipe,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FollowStats {
    pub(super) rotations: u64,
    pub(super) truncations: u64,
    /// How often it was looked at.
    pub(super) looks: u64,
    /// What was read from copies of the truncated file.
    pub(super) recovered_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    /// In the order in which they were at the path.
    files: Vec<Followed>,
    /// The first look starts at the end of what is there.
    looked: bool,
    /// Since when there is a new file in which nothing is, and how far the old one was read then.
    unused: Option<(u64, u64)>,
    pub(super) trouble: Option<Trouble>,
    pub(super) stats: FollowStats,
    opened: u64,
    buffer: Vec<u8>,
}

/// One open file.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) file: File,
    /// Which of the files that were ever opened here.
    pub(super) number: u64,
    id: (u64, u64),
    offset: u64,
    /// The bytes before it, at most [`OVERLAP`].
    seen: Vec<u8>,
    lines: Lines,
    /// Something was in it.
    used: bool,
    /// Since when its writer writes to a newer one.
    retired_ms: Option<u64>,
}

impl Follower {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: Vec::new(),
            looked: false,
            unused: None,
            trouble: None,
            stats: FollowStats::default(),
            opened: 0,
            buffer: vec![0; OVERLAP + READ_BYTES],
        }
    }

    /// The files that are read, for those who wait for a change of them.
    pub(super) fn files(&self) -> impl Iterator<Item = &Followed> {
        self.files.iter()
    }

    /// When to look again though nothing has changed.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let retired = self.files.iter().filter_map(|file| file.retired_ms).min();
        let unused = match (&self.unused, &self.trouble) {
            (Some((since_ms, _)), None) => Some(since_ms.saturating_add(UNUSED_MS)),
            _ => None,
        };
        retired.map(|since_ms| since_ms.saturating_add(RETIRED_MS)).into_iter().chain(unused).min()
    }

    /// Reads what there is to read. `true`: there is more.
    pub(super) fn look(&mut self, now_ms: u64, each: &mut dyn FnMut(Found<'_>)) -> (Kind, bool) {
        self.stats.looks += 1;
        let (kind, opened) = self.look_at_path();
        self.looked = true;
        // Older ones first. What is in a newer file was written when the older one was complete.
        for place in 0..self.files.len() {
            if self.files[place].read_on(&self.path, &mut self.buffer, &mut self.stats, each) {
                return (kind, true);
            }
        }
        self.retire(now_ms, each);
        self.watch_use(now_ms);
        // While we read, another one may have taken its place.
        (kind, opened)
    }

    /// Opens what is at the path if it is new. `true`: it was.
    fn look_at_path(&mut self) -> (Kind, bool) {
        let at_path = match fs::metadata(&self.path) {
            Ok(at_path) => at_path,
            Err(error) => {
                self.trouble = match error.kind() {
                    // Between a rename and the new file there is nothing wrong.
                    io::ErrorKind::NotFound if !self.files.is_empty() => None,
                    io::ErrorKind::NotFound => Some(Trouble::Missing),
                    _ => Some(Trouble::Unreadable(error.to_string())),
                };
                return (Kind::File, false);
            }
        };
        let kind = at_path.file_type();
        if kind.is_fifo() {
            self.trouble = None;
            return (Kind::Pipe, false);
        }
        if !kind.is_file() {
            self.trouble = Some(if kind.is_dir() { Trouble::Directory } else { Trouble::NotAFile });
            return (Kind::File, false);
        }
        if self.files.iter().any(|file| file.id == (at_path.dev(), at_path.ino())) {
            if self.trouble != Some(Trouble::Unused) {
                self.trouble = None;
            }
            return (Kind::File, false);
        }
        match Followed::open(&self.path, self.opened, !self.looked) {
            Ok(new) => {
                self.opened += 1;
                (self.trouble, self.unused) = (None, None);
                self.files.push(new);
                (Kind::File, true)
            }
            Err(error) => {
                self.trouble = Some(Trouble::Unreadable(error.to_string()));
                (Kind::File, false)
            }
        }
    }

    /// Takes leave of files whose writers have had time to change over.
    fn retire(&mut self, now_ms: u64, each: &mut dyn FnMut(Found<'_>)) {
        let newest_used = self.files.iter().rposition(|file| file.used).unwrap_or(0);
        for file in &mut self.files[..newest_used] {
            if file.retired_ms.is_none() {
                file.retired_ms = Some(now_ms);
                self.stats.rotations += u64::from(file.used);
            }
        }
        while self.files.len() > MOST_FILES {
            // Rather one that nobody ever wrote to than the one that is written to.
            let newest = self.files.len() - 1;
            let retired = self.files.iter().position(|file| file.retired_ms.is_some());
            let unused = self.files[1..newest].iter().position(|file| !file.used).map(|place| place + 1);
            let mut file = self.files.remove(retired.or(unused).unwrap_or(0));
            file.lines.end(&mut |piece| each(Found::Piece(piece)));
        }
        self.files.retain_mut(|file| {
            let over = file.retired_ms.is_some_and(|since_ms| since_ms.saturating_add(RETIRED_MS) <= now_ms);
            if over {
                file.lines.end(&mut |piece| each(Found::Piece(piece)));
            }
            !over
        });
    }

    /// Notices a writer that does not change over.
    fn watch_use(&mut self, now_ms: u64) {
        match self.files.as_slice() {
            [.., old, new] if !new.used => {
                let (since_ms, offset) = *self.unused.get_or_insert((now_ms, old.offset));
                if since_ms.saturating_add(UNUSED_MS) <= now_ms {
                    if old.offset > offset {
                        self.trouble = Some(Trouble::Unused);
                    } else {
                        // Nobody has written anything: that says nothing yet.
                        self.unused = Some((now_ms, offset));
                    }
                }
            }
            _ => {
                self.unused = None;
                if self.trouble == Some(Trouble::Unused) {
                    self.trouble = None;
                }
            }
        }
    }
}

impl Followed {
    fn open(path: &Path, number: u64, at_end: bool) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let mut followed = Self {
            id: (about.dev(), about.ino()),
            file,
            number,
            offset: 0,
            seen: Vec::new(),
            lines: Lines::default(),
            used: false,
            retired_ms: None,
        };
        if at_end && about.len() > 0 {
            let before = about.len().min(OVERLAP as u64);
            let mut seen = vec![0; before as usize];
            followed.file.read_exact_at(&mut seen, about.len() - before)?;
            if seen.last() != Some(&b'\n') {
                followed.lines.skip_to_newline();
            }
            (followed.offset, followed.seen, followed.used) = (about.len(), seen, true);
        }
        Ok(followed)
    }

    /// Reads to the end, or as much as is good at a time. `true`: there is more.
    fn read_on(
        &mut self,
        path: &Path,
        buffer: &mut [u8],
        stats: &mut FollowStats,
        each: &mut dyn FnMut(Found<'_>),
    ) -> bool {
        let mut read = 0;
        while read < MOST_AT_ONCE {
            let overlap = self.seen.len();
            let from = self.offset - overlap as u64;
            let room = overlap + READ_BYTES;
            let len = match self.file.read_at(&mut buffer[..room], from) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The disk is broken, or the file system gone; there may be a new file later.
                Err(_) => return false,
            };
            // One read both checks and brings, so that nothing can happen between the two.
            if len < overlap || buffer[..overlap] != self.seen[..] {
                stats.truncations += 1;
                self.recover(path, buffer, stats, each);
                continue;
            }
            if len == overlap {
                return false;
            }
            self.lines.feed(&buffer[overlap..len], &mut |piece| each(Found::Piece(piece)));
            self.note(&buffer[..len], len - overlap);
            read += len - overlap;
        }
        true
    }

    /// Remembers the end of what was read, which is `new` bytes longer than before.
    fn note(&mut self, bytes: &[u8], new: usize) {
        self.used = true;
        self.offset += new as u64;
        self.seen.clear();
        self.seen.extend_from_slice(&bytes[bytes.len().saturating_sub(OVERLAP)..]);
    }

    /// The file was truncated. What was written to it after our place is in the copy, if there is one.
    fn recover(
        &mut self,
        path: &Path,
        buffer: &mut [u8],
        stats: &mut FollowStats,
        each: &mut dyn FnMut(Found<'_>),
    ) {
        if let Some(copy) = self.find_copy(path) {
            loop {
                let len = match copy.read_at(&mut buffer[..READ_BYTES], self.offset) {
                    Ok(0) | Err(_) => break,
                    Ok(len) => len,
                };
                self.lines.feed(&buffer[..len], &mut |piece| each(Found::Piece(piece)));
                self.offset += len as u64;
                stats.recovered_bytes += len as u64;
            }
        }
        // A line that was begun goes on nowhere.
        self.lines = Lines::default();
        (self.offset, self.seen) = (0, Vec::new());
        each(Found::Cut);
    }

    /// A file beside ours that has its name and more, and the same bytes where we are.
    fn find_copy(&self, path: &Path) -> Option<File> {
        let (dir, name) = (path.parent()?, path.file_name()?.as_encoded_bytes());
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let entries = fs::read_dir(dir).ok()?.flatten().filter(|entry| {
            let other = entry.file_name();
            other.len() > name.len() && other.as_encoded_bytes().starts_with(name)
        });
        entries.take(MOST_COPIES).find_map(|entry| {
            let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            if (about.dev(), about.ino()) == self.id || about.len() <= self.offset {
                return None;
            }
            let copy = File::open(entry.path()).ok()?;
            let mut before = vec![0; self.seen.len()];
            copy.read_exact_at(&mut before, self.offset - self.seen.len() as u64).ok()?;
            (before == self.seen).then_some(copy)
        })
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
