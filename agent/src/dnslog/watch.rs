//! Tells when a file, or what is at a path, has changed. inotify(7).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// What changes which file is at a path, and who may read it.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
const CONTENT: WatchFlags = WatchFlags::MODIFY;

#[derive(Debug)]
pub(super) struct Watch {
    /// A descriptor that is read like a pipe, and polled like one.
    inotify: Receiver,
    dirs: Vec<PathBuf>,
    /// Watched files: their descriptor in inotify, and which file that is.
    files: Vec<(i32, u64)>,
}

impl Watch {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut dirs: Vec<PathBuf> = vec![dir_of(path)];
        // The file behind a link is replaced where it is.
        if let Some(real) = path.canonicalize().ok().map(|real| dir_of(&real))
            && !dirs.contains(&real)
        {
            dirs.push(real);
        }
        Ok(Self { inotify: Receiver::from_owned_fd_unchecked(inotify)?, dirs, files: Vec::new() })
    }

    /// Watches the directory. A directory that is not there is to be looked for by the clock.
    pub(super) fn watch_names(&mut self) -> bool {
        let mut all = true;
        for dir in &self.dirs {
            // Again and again: it is the same watch, unless the directory is another one.
            all &= inotify::add_watch(&self.inotify, dir, NAMES).is_ok();
        }
        all
    }

    /// How many files are watched.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Watches exactly these open files, each with its number.
    pub(super) fn watch_files<'a>(
        &mut self,
        files: impl Iterator<Item = (u64, BorrowedFd<'a>)>,
    ) -> io::Result<()> {
        let wanted: Vec<(u64, BorrowedFd<'a>)> = files.collect();
        let inotify = self.inotify.as_fd();
        self.files.retain(|(watch, number)| {
            let stays = wanted.iter().any(|(wanted, _)| wanted == number);
            if !stays {
                // It may have gone with its file.
                let _ = inotify::remove_watch(inotify, *watch);
            }
            stays
        });
        for (number, file) in wanted {
            if !self.files.iter().any(|(_, known)| *known == number) {
                // By its descriptor, because another file may be at the path by now.
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                self.files.push((inotify::add_watch(inotify, path, CONTENT)?, number));
            }
        }
        Ok(())
    }

    /// Waits for a change. Cancel safe: who does not get to hear of one hears of it the next time.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        // What changed does not matter: all of it is looked at.
        let mut ignored = [0; 4096];
        loop {
            self.inotify.readable().await?;
            let mut any = false;
            loop {
                match self.inotify.try_read(&mut ignored) {
                    Ok(_) => any = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if any {
                return Ok(());
            }
        }
    }
}

fn dir_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}
