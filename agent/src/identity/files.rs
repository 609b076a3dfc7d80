//! The lease files, read when they change: inotify tells of it, also where a file is made only later, is
//! replaced by a rename, or disappears.
//!
//! A file is watched itself, because dnsmasq writes over it in place; and the nearest directory above it that
//! is there, for the file's coming and going. In that directory only the one name matters, so that a busy /tmp
//! costs little.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::OpenOptions,
    io::{self, Read},
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::leases::{self, Lease, MOST_LEASES};
use crate::conntrack::socket::watch_descriptor;

/// Where the DHCP servers of OpenWrt and Debian put them.
const USUAL: [&str; 4] =
    ["/tmp/dhcp.leases", "/tmp/hosts/odhcpd", "/tmp/odhcpd.leases", "/var/lib/misc/dnsmasq.leases"];

/// A lease takes about 80 bytes.
const MOST_BYTES: u64 = 1 << 20;
/// Events looked at per call.
const BOUND: usize = 256;
/// Between one look at what is there and the next, somebody may make a directory; not for ever, though.
const TRIES: usize = 4;

/// The files to read, and whether somebody chose them.
pub(crate) fn paths(configured: &[PathBuf]) -> (Vec<PathBuf>, bool) {
    if configured.is_empty() {
        (USUAL.iter().map(PathBuf::from).collect(), false)
    } else {
        (configured.to_vec(), true)
    }
}

/// What is watched.
#[derive(Debug)]
enum Watched {
    File,
    /// Only these names in it.
    Directory(BTreeSet<OsString>),
}

/// What all files say.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) leases: Vec<Lease>,
    pub(super) malformed: u64,
    pub(super) names_refused: u64,
    pub(super) left_out: u64,
    pub(super) warnings: Vec<String>,
}

/// The files and the eyes on them.
#[derive(Debug)]
pub(super) struct LeaseFiles {
    paths: Vec<PathBuf>,
    chosen: bool,
    inotify: Result<AsyncFd<OwnedFd>, String>,
    watches: BTreeMap<i32, Watched>,
    /// Why some of them cannot be watched.
    unwatched: Option<String>,
}

impl LeaseFiles {
    pub(super) fn new(configured: &[PathBuf]) -> Self {
        let (paths, chosen) = paths(configured);
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.map_err(io::Error::from).and_then(watch_descriptor);
        let inotify = inotify.map_err(|error| error.to_string());
        Self { paths, chosen, inotify, watches: BTreeMap::new(), unwatched: None }
    }

    /// Waits for ever where there is no inotify.
    pub(super) async fn readable(&self) {
        match &self.inotify {
            // An error of epoll would show at the next read, too.
            Ok(inotify) => drop(inotify.readable().await),
            Err(_) => std::future::pending().await,
        }
    }

    /// Reads the news. True where a file may have changed.
    pub(super) fn has_news(&self) -> io::Result<bool> {
        let Ok(inotify) = &self.inotify else { return Ok(false) };
        let mut news = false;
        let result = inotify.try_io(Interest::READABLE, |inotify| {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(inotify, &mut buffer);
            for _ in 0..BOUND {
                match reader.next() {
                    Ok(event) => news |= self.matters(&event),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Whatever is left in the buffer is lost with it.
            news = true;
            Ok(())
        });
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(news),
        }
    }

    fn matters(&self, event: &inotify::Event<'_>) -> bool {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return true;
        }
        match (self.watches.get(&event.wd()), event.file_name()) {
            (None, _) => false,
            (Some(Watched::Directory(names)), Some(name)) => {
                names.iter().any(|known| known.as_bytes() == name.to_bytes())
            }
            (Some(_), _) => true,
        }
    }

    /// Reads all files, after watching what is there now.
    pub(super) fn read(&mut self) -> Reading {
        self.watch();
        let mut reading = Reading::default();
        if let Some(why) = self.inotify.as_ref().err().or(self.unwatched.as_ref()) {
            reading.warnings.push(format!(
                "lease files cannot be watched ({why}): they are read every identity_interval; raise fs.inotify.max_user_instances and max_user_watches"
            ));
        }
        for path in &self.paths {
            match contents(path) {
                Ok(Contents { bytes, whole, modified_us }) => {
                    let mut found = leases::parse(&bytes);
                    // No later than that, for all that this file tells.
                    found.list.iter_mut().for_each(|lease| lease.heard_us = modified_us);
                    let room = MOST_LEASES - reading.leases.len().min(MOST_LEASES);
                    reading.left_out += found.left_out + found.list.len().saturating_sub(room) as u64;
                    reading.left_out += u64::from(!whole);
                    reading.leases.extend(found.list.into_iter().take(room));
                    reading.malformed += found.malformed;
                    reading.names_refused += found.names_refused;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.chosen => {}
                Err(error) => {
                    // Which right is missing is worth a word; a missing file has none.
                    let remedy = match error.kind() {
                        io::ErrorKind::PermissionDenied => {
                            "give the agent CAP_DAC_READ_SEARCH, or the file other permissions"
                        }
                        _ => "set lease_files",
                    };
                    reading.warnings.push(format!(
                        "{} cannot be read ({error}): devices lack the names of their leases; {remedy}",
                        path.display()
                    ));
                }
            }
        }
        reading
    }

    fn watch(&mut self) {
        let Ok(inotify) = &self.inotify else { return };
        let mut watches = BTreeMap::new();
        self.unwatched = None;
        for path in &self.paths {
            if let Err(error) = watch_path(inotify, path, &mut watches) {
                self.unwatched = Some(error.to_string());
            }
        }
        for old in self.watches.keys().filter(|old| !watches.contains_key(old)) {
            // The kernel may have removed it with its file.
            let _ = inotify::remove_watch(inotify, *old);
        }
        self.watches = watches;
    }
}

/// The directory first: what is made after it was watched is told of.
fn watch_path(
    inotify: &AsyncFd<OwnedFd>,
    path: &Path,
    watches: &mut BTreeMap<i32, Watched>,
) -> Result<(), Errno> {
    let in_directory = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    let in_file = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
    for _ in 0..TRIES {
        let Some((directory, name)) = nearest(path) else { return Ok(()) };
        match inotify::add_watch(inotify, directory, in_directory) {
            Ok(watch) => {
                let names = watches.entry(watch).or_insert_with(|| Watched::Directory(BTreeSet::new()));
                if let Watched::Directory(names) = names {
                    names.insert(name);
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            // It may be entered, but not looked at: the file itself still tells of its changes.
            Err(Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
        if nearest(path).is_some_and(|(now, _)| now == directory) {
            break;
        }
    }
    if path.is_file() {
        match inotify::add_watch(inotify, path, in_file) {
            Ok(watch) => drop(watches.insert(watch, Watched::File)),
            Err(Errno::NOENT | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The deepest directory above `path` that is there, and what is looked for in it.
fn nearest(path: &Path) -> Option<(&Path, OsString)> {
    let pairs = path.ancestors().zip(path.ancestors().skip(1));
    let (below, directory) = pairs.into_iter().find(|(_, directory)| directory.is_dir())?;
    Some((directory, below.file_name()?.to_owned()))
}

struct Contents {
    bytes: Vec<u8>,
    /// It is all of it.
    whole: bool,
    modified_us: i64,
}

/// What is in a file. A pipe in its place must not hold the agent up.
fn contents(path: &Path) -> io::Result<Contents> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    let whole = bytes.len() as u64 <= MOST_BYTES;
    Ok(Contents { bytes, whole, modified_us: about.mtime().saturating_mul(1_000_000).max(0) })
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::time::timeout;

    use super::*;

    fn line(name: &str) -> String {
        format!("0 02:00:00:00:00:01 192.168.1.20 {name} *\n")
    }

    fn names(files: &mut LeaseFiles) -> Vec<String> {
        files.read().leases.into_iter().map(|lease| lease.name).collect()
    }

    async fn news(files: &LeaseFiles) -> bool {
        let heard = async {
            loop {
                files.readable().await;
                if files.has_news().expect("inotify") {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(10), heard).await.is_ok()
    }

    async fn quiet(files: &LeaseFiles) -> bool {
        let waited = timeout(Duration::from_millis(100), files.readable()).await;
        waited.is_err() || !files.has_news().expect("inotify")
    }

    #[tokio::test]
    async fn a_file_is_followed_whatever_is_done_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b/leases");
        let mut files = LeaseFiles::new(std::slice::from_ref(&path));
        assert_eq!(names(&mut files), [""; 0]);

        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        assert!(news(&files).await, "the first directory");
        assert_eq!(names(&mut files), [""; 0]);
        fs::write(&path, line("made")).expect("written");
        assert!(news(&files).await, "made");
        assert_eq!(names(&mut files), ["made"]);

        fs::write(&path, line("in-place")).expect("written");
        assert!(news(&files).await, "written over");
        assert_eq!(names(&mut files), ["in-place"]);

        let other = path.with_file_name("other");
        fs::write(&other, line("renamed")).expect("written");
        fs::rename(&other, &path).expect("renamed");
        assert!(news(&files).await, "replaced");
        assert_eq!(names(&mut files), ["renamed"]);
        fs::write(&path, line("again")).expect("written");
        assert!(news(&files).await, "the new file is watched, too");
        assert_eq!(names(&mut files), ["again"]);

        fs::remove_dir_all(dir.path().join("a")).expect("removed");
        assert!(news(&files).await, "removed");
        let reading = files.read();
        assert!(reading.leases.is_empty() && reading.warnings[0].contains("cannot be read (No such file"));
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        assert!(news(&files).await, "made again");
        fs::write(&path, line("back")).expect("written");
        assert_eq!(names(&mut files), ["back"]);
    }

    #[tokio::test]
    async fn neighbours_in_a_busy_directory_are_no_news() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("leases");
        fs::write(&path, line("tv")).expect("written");
        let mut files = LeaseFiles::new(std::slice::from_ref(&path));
        let heard_us = files.read().leases[0].heard_us;
        assert!((1_700_000_000_000_000..=crate::host::now_us()).contains(&heard_us), "{heard_us}");
        fs::write(dir.path().join("other"), "x").expect("written");
        fs::remove_file(dir.path().join("other")).expect("removed");
        assert!(quiet(&files).await);
    }

    #[tokio::test]
    async fn what_is_no_file_is_told_of() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = LeaseFiles::new(&[dir.path().to_owned()]);
        assert!(files.read().warnings[0].contains("cannot be read (expected a file)"));
        assert_eq!(LeaseFiles::new(&[]).paths.len(), USUAL.len());
    }

    #[tokio::test]
    async fn a_huge_file_is_read_in_part() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("leases");
        fs::write(&path, line("tv").repeat(30_000)).expect("written");
        let reading = LeaseFiles::new(&[path]).read();
        assert_eq!(reading.leases.len(), MOST_LEASES);
        assert!(reading.left_out > 20_000, "{}", reading.left_out);
    }
}
