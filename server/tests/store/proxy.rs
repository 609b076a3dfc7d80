//! Stands between the program and Postgres, and swallows the answer to a COMMIT.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of a socket on the default port.
const SOCKET: &str = ".s.PGSQL.5432";

/// Passes everything on until it is told to lose an answer.
pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    lose_next: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of the server whose socket is in `server`.
    pub(crate) fn before(server: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("netmon-px-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let lose_next = Arc::new(AtomicBool::new(false));
        let server: PathBuf = server.join(SOCKET);
        let armed = Arc::clone(&lose_next);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                pass_on(client, UnixStream::connect(&server).unwrap(), Arc::clone(&armed));
            }
        });
        Self { directory, lose_next }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=netmon", self.directory.path().display())
    }

    /// The next COMMIT reaches the server; its answer does not come back, and the connection ends.
    pub(crate) fn lose_next_answer_to_commit(&self) {
        self.lose_next.store(true, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub(crate) fn has_lost_it(&self) -> bool {
        !self.lose_next.load(Ordering::SeqCst)
    }
}

fn pass_on(client: UnixStream, server: UnixStream, lose_next: Arc<AtomicBool>) {
    let losing = Arc::new(AtomicBool::new(false));
    let (client_again, server_again) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let seen = Arc::clone(&losing);
    std::thread::spawn(move || {
        copy(client, server_again, |bytes| {
            if bytes.windows(6).any(|word| word == b"COMMIT") && lose_next.swap(false, Ordering::SeqCst) {
                seen.store(true, Ordering::SeqCst);
            }
            true
        });
    });
    // The server answers after it has committed.
    std::thread::spawn(move || copy(server, client_again, |_| !losing.load(Ordering::SeqCst)));
}

/// Copies while `wanted`, then ends both.
fn copy(mut from: UnixStream, mut to: UnixStream, wanted: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !wanted(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // One of them may be closed already.
    let _: Result<(), _> = from.shutdown(Shutdown::Both);
    let _: Result<(), _> = to.shutdown(Shutdown::Both);
}
