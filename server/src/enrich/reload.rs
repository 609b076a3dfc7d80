//! A file that is read again when it has been replaced.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tracing::{info, warn};

/// Nobody's table of networks or makers is larger; a mistaken path must not fill the memory.
const MOST_BYTES: u64 = 1 << 30;

/// What tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// See the module.
pub(super) struct Reloaded<T> {
    path: PathBuf,
    parse: fn(Vec<u8>) -> Result<T, String>,
    state: RwLock<State<T>>,
}

struct State<T> {
    /// Of the last attempt, whether or not it was good.
    version: Option<Version>,
    /// Kept when its successor is no good.
    value: Option<Arc<T>>,
}

impl<T> std::fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloaded").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    pub(super) fn new(path: PathBuf, parse: fn(Vec<u8>) -> Result<T, String>) -> Self {
        Self { path, parse, state: RwLock::new(State { version: None, value: None }) }
    }

    /// What was last read well.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).value.clone()
    }

    /// Reads the file if it is another one than before.
    pub(super) fn refresh(&self) {
        let path = self.path.display();
        let version = match version_of(&self.path) {
            Ok(version) => Some(version),
            Err(error) => {
                // Once, and again only after it was there.
                if self.get().is_some() || self.swap_version(None) {
                    warn!(%path, %error, "this table cannot be read; it is looked at again every half minute");
                }
                return;
            }
        };
        if !self.swap_version(version) {
            return;
        }
        let read = fs::read(&self.path).map_err(|error| error.to_string());
        match read.and_then(self.parse) {
            Ok(value) => {
                self.state.write().unwrap_or_else(PoisonError::into_inner).value = Some(Arc::new(value));
                info!(%path, "table read");
            }
            Err(error) => warn!(%path, error, "this table is not understood; the one before stays in use"),
        }
    }

    /// True where it is another version than at the last attempt.
    fn swap_version(&self, version: Option<Version>) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let changed = state.version != version;
        state.version = version;
        changed
    }
}

fn version_of(path: &Path) -> io::Result<Version> {
    let found = fs::metadata(path)?;
    if !found.is_file() || found.len() > MOST_BYTES {
        return Err(io::Error::other(format!("expected a file of at most {MOST_BYTES} bytes")));
    }
    Ok(Version {
        device: found.dev(),
        inode: found.ino(),
        size: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: Vec<u8>) -> Result<String, String> {
        String::from_utf8(bytes).map_err(|_| "not text".to_owned())
    }

    #[test]
    fn a_replaced_file_is_read_again_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let table = Reloaded::new(path.clone(), parse);
        let now = || {
            table.refresh();
            table.get().map(|text| text.as_str().to_owned())
        };
        assert_eq!(now(), None);
        let replace = |bytes: &[u8]| {
            let next = dir.path().join("next");
            fs::write(&next, bytes).unwrap();
            fs::rename(next, &path).unwrap();
        };
        replace(b"one");
        assert_eq!(now().as_deref(), Some("one"));
        replace(b"two");
        assert_eq!(now().as_deref(), Some("two"));
        replace(b"\xff\xfe");
        assert_eq!(now().as_deref(), Some("two"), "the one before stays");
        fs::remove_file(&path).unwrap();
        assert_eq!(now().as_deref(), Some("two"));
        replace(b"three");
        assert_eq!(now().as_deref(), Some("three"));
    }
}
