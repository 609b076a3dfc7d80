//! A Postgres server of the test's own: in a temporary directory, reached by a Unix socket, gone with the test.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};

/// How long the server may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Starts the server, waits for a word on its input, and stops the server by it. At the end of the input, which
/// comes however the test dies, it stops the server fast.
const KEEPER: &str =
    r#""$@" & server=$!; signal=INT; read -r signal || signal=INT; kill -"$signal" $server; wait $server"#;

/// A running server.
pub(crate) struct Cluster {
    programs: PathBuf,
    directory: tempfile::TempDir,
    user: Option<(u32, u32)>,
    keeper: Option<Child>,
    databases: AtomicU32,
    durable: bool,
}

impl Cluster {
    /// Makes a cluster and starts its server. `Err` is the reason why there is none on this machine.
    /// Its commits reach the disk if it is to be `durable`, which only figures need.
    pub(crate) fn start(durable: bool) -> Result<Self, String> {
        let programs = find_programs()
            .ok_or("no initdb and postgres on PATH or in /usr/lib/postgresql/*/bin: install PostgreSQL")?;
        // The path of a socket has at most 107 bytes, so not in a deep TMPDIR.
        let directory = tempfile::Builder::new().prefix("netmon-pg-").tempdir_in("/tmp").map_err(text)?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).map_err(text)?;
        let user = unprivileged()?;
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid)).map_err(text)?;
        }
        let mut cluster =
            Self { programs, directory, user, keeper: None, databases: AtomicU32::new(0), durable };
        let made = cluster
            .command(&cluster.programs.join("initdb"))
            .args(["--username=netmon", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8", "-D"])
            .arg(cluster.data())
            .output()
            .map_err(text)?;
        if !made.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)));
        }
        cluster.run()?;
        Ok(cluster)
    }

    /// Where its socket is.
    pub(crate) fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it writes what it has to say.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The URL of a database of it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=netmon", self.socket_directory().display())
    }

    /// Makes a new database and gives its name.
    pub(crate) fn new_database(&self) -> String {
        let name = format!("story_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::establish(&self.url("postgres")).unwrap();
        connection.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        name
    }

    /// Stops the server as a crash would, without a checkpoint, and starts it again.
    pub(crate) fn crash_and_restart(&mut self) {
        self.stop("QUIT");
        self.run().unwrap();
    }

    /// Stops the server as a crash would.
    pub(crate) fn crash(&mut self) {
        self.stop("QUIT");
    }

    /// Starts the server, and waits until it answers.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let log = File::create(self.directory.path().join("log")).map_err(text)?;
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", KEEPER, "keeper"]).arg(self.programs.join("postgres")).arg("-D").arg(self.data());
        command.arg("-k").arg(self.directory.path());
        command.args(["-c", "listen_addresses=", "-c", "max_connections=50"]);
        if !self.durable {
            // Nothing in a test outlives the machine, so nothing needs to reach the disk.
            command.args(["-c", "fsync=off"]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let keeper = self.keeper.insert(command.spawn().map_err(text)?);
        let url = format!(
            "postgres:///postgres?host={}&user=netmon&connect_timeout=5",
            self.directory.path().display()
        );
        let begin = Instant::now();
        while let Err(error) = PgConnection::establish(&url) {
            let ended = keeper.try_wait().map_err(text)?;
            if ended.is_some() || begin.elapsed() > START_LIMIT {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                return Err(format!("postgres did not start: {error}\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn stop(&mut self, signal: &str) {
        if let Some(mut keeper) = self.keeper.take() {
            if let Some(mut input) = keeper.stdin.take() {
                // A keeper that is gone already has nothing left to stop.
                let _: Result<(), _> = writeln!(input, "{signal}");
            }
            keeper.wait().unwrap();
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop("INT");
    }
}

/// The newest installed server's programs.
fn find_programs() -> Option<PathBuf> {
    let complete =
        |directory: &PathBuf| directory.join("initdb").is_file() && directory.join("postgres").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).find(|directory| complete(directory)) {
        return Some(found);
    }
    // Debian keeps them off PATH, one directory a version.
    let version = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().ok();
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((version(&entry)?, entry.path().join("bin"))))
        .filter(|(_, directory)| complete(directory))
        .max_by_key(|(version, _)| *version)
        .map(|(_, directory)| directory)
}

/// Postgres refuses to run as root. As root: the user and group to run it as instead.
fn unprivileged() -> Result<Option<(u32, u32)>, String> {
    if fs::metadata("/proc/self").map_err(text)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(text)?;
    let ids = |name: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&name)).then_some(())?;
            Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
    };
    ids("postgres")
        .or_else(|| ids("nobody"))
        .map(Some)
        .ok_or("no user postgres or nobody to run it as".to_owned())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
