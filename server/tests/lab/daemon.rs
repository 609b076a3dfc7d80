//! The two programs under test, started as they are installed: the server beside the networks, the agent in
//! the router.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::namespaces::{Place, SERVER};
use crate::wait;

/// Where the server is, for agent, harness and browser alike. The namespace is the test's own: no other
/// program can hold the port.
pub(crate) const SERVER_URL: &str = "http://10.99.0.2:3000";
/// The port of it.
pub(crate) const SERVER_PORT: u16 = 3000;
/// The port of a proxy before it.
pub(crate) const PROXY_PORT: u16 = 3001;
/// What opens it.
pub(crate) const TOKEN: &str = "token-of-the-lab";
/// Tells the process inside where the agent's program is.
pub(crate) const AGENT_PROGRAM: &str = "NETMON_LAB_AGENT";

const LISTENING: &str = "netmon-server listening on ";
const START_LIMIT: Duration = Duration::from_secs(30);
/// The agent's promise for SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running `netmon-server`, killed when dropped.
pub(crate) struct Server(Daemon);

/// A running `netmon-agent`, killed when dropped.
pub(crate) struct Agent(Daemon);

struct Daemon {
    name: &'static str,
    child: Child,
}

impl Server {
    /// Starts it on the database in this directory, to be opened by this token, and waits until it listens.
    pub(crate) fn start(directory: &Path, token: &str) -> anyhow::Result<Self> {
        let output = directory.join("server.out");
        let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-server"));
        command
            .args(["serve", "--listen", "10.99.0.2:3000", "--data"])
            .arg(directory.join("data"))
            .env("NETMON_API_TOKEN", token)
            .stdout(File::create(&output)?);
        let mut server = Self(Daemon::start("server", &mut command, directory)?);
        wait::until("the server listens", START_LIMIT, || {
            server.0.check_alive()?;
            let said = fs::read_to_string(&output)?;
            Ok(said.lines().any(|line| line == format!("{LISTENING}{SERVER_URL}")).then_some(()))
        })?;
        Ok(server)
    }

    /// kill -9.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        self.0.kill()
    }
}

impl Agent {
    /// Starts it with a spool in this directory, for a server on this port.
    pub(crate) fn start(directory: &Path, port: u16) -> anyhow::Result<Self> {
        let config = directory.join("agent.yaml");
        let spool = directory.join("spool");
        let text = format!(
            "router_id: lab\nserver_url: http://{SERVER}:{port}\nauth_token: {TOKEN}\nspool_dir: {}\n\
             lan_subnets: [192.168.77.0/24, 'fd77::/64']\n",
            spool.display()
        );
        fs::write(&config, text)?;
        let program = env::var(AGENT_PROGRAM).with_context(|| format!("{AGENT_PROGRAM} is not set"))?;
        let mut command = Place::Router.command(&program);
        command.arg("--config").arg(config).stdout(Stdio::null());
        Ok(Self(Daemon::start("agent", &mut command, directory)?))
    }

    /// kill -9.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        self.0.kill()
    }

    /// SIGTERM, and its end in time and without an error.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.0.signal(Signal::TERM)?;
        let child = &mut self.0.child;
        let status = wait::until("the agent stops", STOP_LIMIT, || Ok(child.try_wait()?))?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        self.0.check_alive()
    }
}

impl Daemon {
    /// Its log goes on from that of an earlier run.
    fn start(name: &'static str, command: &mut Command, directory: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(directory.join(format!("{name}.log")))?;
        let child = command
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        Ok(Self { name, child })
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the {} ended by itself: {status}", self.name),
        }
    }

    fn kill(mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, and then both are errors of no interest.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The agent's program: the one that `NETMON_LAB_AGENT` names, else the one beside the server, built now
/// unless it is up to date. Cargo gives a test the programs of its own package alone.
pub(crate) fn build_agent() -> anyhow::Result<PathBuf> {
    if let Some(given) = env::var_os(AGENT_PROGRAM) {
        return Ok(given.into());
    }
    let beside = Path::new(env!("CARGO_BIN_EXE_netmon-server"));
    let directory = beside.parent().context("a program without a directory")?;
    let program = directory.join("netmon-agent");
    // Tests of the whole workspace have just built it, with their own features: a plain build of it would
    // compile half of its dependencies once more.
    if is_up_to_date(&program).unwrap_or(false) {
        return Ok(program);
    }
    let target = directory.parent().context("a profile without a target directory")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("no profile in {}", directory.display()),
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "netmon-agent", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo build: {}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}

/// Whether it is younger than the lock file and everything that Cargo noted as a source of it.
fn is_up_to_date(program: &Path) -> anyhow::Result<bool> {
    let built = fs::metadata(program)?.modified()?;
    let noted = fs::read_to_string(program.with_extension("d"))?;
    let (_, sources) = noted.split_once(": ").context("no sources are noted")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a package without a workspace")?;
    let lock = root.join("Cargo.lock");
    // Of another copy of this repository that shares the target directory?
    ensure!(sources.contains(&format!("{}/agent/src/main.rs", root.display())), "another one's agent");
    for source in sources.split_whitespace().map(Path::new).chain([lock.as_path()]) {
        if fs::metadata(source)?.modified()? > built {
            return Ok(false);
        }
    }
    Ok(true)
}
