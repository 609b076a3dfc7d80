//! From `cargo test` into the namespaces: each test runs in a process of its own, in new user, mount,
//! network and process namespaces, all of which end with it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{OnceLock, RwLock};
use std::time::Duration;
use std::{env, fs, io};

use anyhow::{Context as _, anyhow, bail};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::daemon::{self, AGENT_PROGRAM};
use crate::wait;

/// Names the test to run, in the process inside.
const INSIDE: &str = "NETMON_LAB_INSIDE";
/// Where that process may put files.
const DIRECTORY: &str = "NETMON_LAB_DIR";
/// Repeats the choices of an earlier run.
const SEED: &str = "NETMON_LAB_SEED";
/// How many runs with faults.
const SEEDS: &str = "NETMON_LAB_SEEDS";
/// So many take about half a minute on two cores.
const DEFAULT_SEEDS: usize = 2;
/// Nothing in the lab takes this long. A test that does is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(180);
/// What a failure shows of each program's log.
const LOG_LINES: usize = 60;
/// A lab mostly waits for the kernel's time-outs, so more of them than cores can run at once.
const LABS_AT_ONCE: usize = 6;

/// Held for writing by a test that measures time, so that no other lab runs beside it.
static MACHINE: RwLock<()> = RwLock::new(());

/// What a test is given.
pub(crate) struct Site {
    /// All random choices of the test come from it.
    pub(crate) seed: u64,
    /// For logs, the database and the spool.
    pub(crate) directory: PathBuf,
}

/// A test that runs inside.
pub(crate) struct LabTest {
    name: String,
    body: fn(&Site) -> anyhow::Result<()>,
    programs: &'static [&'static str],
    alone: bool,
}

impl LabTest {
    /// A test of this name.
    pub(crate) fn new(name: impl Into<String>, body: fn(&Site) -> anyhow::Result<()>) -> Self {
        Self { name: name.into(), body, programs: &[], alone: false }
    }

    /// It measures time: nothing else may run meanwhile.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// It needs programs that a lab does not need as such.
    pub(crate) fn needs(mut self, programs: &'static [&'static str]) -> Self {
        self.programs = programs;
        self
    }
}

/// Runs the tests, or the one test that this process was started for.
pub(crate) fn main(tests: Vec<LabTest>) -> ExitCode {
    match env::var(INSIDE) {
        Ok(name) => inside(&name, &tests),
        Err(_) => outside(tests),
    }
}

fn inside(name: &str, tests: &[LabTest]) -> ExitCode {
    let outcome = (|| {
        let test = tests.iter().find(|test| test.name == name).context("no such test")?;
        let directory = PathBuf::from(env::var_os(DIRECTORY).context("no directory")?);
        let seed = seed_of_environment()?.context("no seed")?;
        (test.body)(&Site { seed, directory })
    })();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace: the messages say where.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn outside(tests: Vec<LabTest>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(LABS_AT_ONCE);
    let required = env::var("NETMON_REQUIRE_LAB").is_ok_and(|value| value == "1");
    let obstacle = if arguments.list { None } else { probe().err() };
    if let Some(obstacle) = &obstacle {
        eprintln!("the lab cannot run here: {obstacle:#}");
    }
    let trials = tests.into_iter().map(|test| {
        let missing = test.programs.iter().find(|program| !is_installed(program));
        let reason = match (&obstacle, missing) {
            (Some(obstacle), _) => Some(format!("{obstacle:#}")),
            (None, Some(program)) => Some(format!("`{program}` is not installed")),
            (None, None) => None,
        };
        let ignored = reason.is_some() && !required;
        if let (true, Some(reason)) = (ignored && obstacle.is_none(), &reason) {
            eprintln!("{} is left out: {reason}", test.name);
        }
        let name = test.name.clone();
        Trial::test(name, move || match reason {
            Some(reason) => Err(Failed::from(reason)),
            None => enter(&test).map_err(|error| Failed::from(format!("{error:#}"))),
        })
        .with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// The whole way in. With its own process namespace, whatever a test starts ends with it.
fn unshare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "--"])
        .arg(program)
        .env("PATH", program_path())
        .stdin(Stdio::null());
    command
}

/// Whether a lab can be had here, tried out with all that a lab needs of kernel and programs.
fn probe() -> anyhow::Result<()> {
    for (program, package) in [
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("mount", "mount"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
    ] {
        if !is_installed(program) {
            bail!("`{program}` is not installed (Debian: apt-get install {package})");
        }
    }
    let script = "set -e
        mount -t tmpfs tmpfs /run
        ip netns add probe
        nsenter --net=/run/netns/probe nft add table ip probe
        nsenter --net=/run/netns/probe nft add chain ip probe out '{ type nat hook postrouting priority 100; }'
        nsenter --net=/run/netns/probe nft add rule ip probe out ct state new masquerade
        nsenter --net=/run/netns/probe test -w /proc/sys/net/netfilter/nf_conntrack_acct";
    let output = unshare("sh").args(["-c", script]).output().context("cannot start `unshare`")?;
    if !output.status.success() {
        bail!("no network namespaces with nftables NAT: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    env::split_paths(&program_path()).any(|directory| directory.join(program).is_file())
}

/// An ordinary user's PATH often lacks the directories of `ip` and `nft`.
fn program_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn seed_of_environment() -> anyhow::Result<Option<u64>> {
    match env::var(SEED) {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("{SEED}={text}: not a number"))?)),
        Err(_) => Ok(None),
    }
}

/// How many runs a test with a random course shall make: one where it is repeated.
pub(crate) fn runs() -> usize {
    if env::var_os(SEED).is_some() && env::var_os(INSIDE).is_none() {
        return 1;
    }
    env::var(SEEDS).map_or(DEFAULT_SEEDS, |text| text.parse().expect("NETMON_LAB_SEEDS is a number"))
}

/// Runs one test inside. What it says on stdout is shown, its logs only if it fails.
fn enter(test: &LabTest) -> anyhow::Result<()> {
    let _alone = test.alone.then(|| MACHINE.write());
    let _beside_others = (!test.alone).then(|| MACHINE.read());
    let seed = seed_of_environment()?.unwrap_or_else(rand::random);
    let mut scratch = tempfile::Builder::new().prefix("netmon-lab-").tempdir()?;
    scratch.disable_cleanup(env::var_os("NETMON_LAB_KEEP").is_some());
    let said = scratch.path().join("said.txt");
    let log = scratch.path().join("log.txt");
    let mut child = unshare(env::current_exe()?)
        .env(INSIDE, &test.name)
        .env(DIRECTORY, scratch.path())
        .env(SEED, seed.to_string())
        .env(AGENT_PROGRAM, agent_program()?)
        .stdout(File::create(&said)?)
        .stderr(File::create(&log)?)
        .spawn()?;
    let status = wait::until("the test ends", TIME_LIMIT, || child.try_wait().map_err(Into::into));
    if status.is_err() {
        // `--kill-child` makes the end of `unshare` the end of everything inside.
        child.kill()?;
        child.wait()?;
    }
    print!("{}: seed {seed}\n{}", test.name, read(&said)?);
    let outcome = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let mut report = format!("{outcome}; repeat with {SEED}={seed}\n{}", read(&log)?);
    for name in ["server.log", "agent.log"] {
        let log = read(&scratch.path().join(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.len().saturating_sub(LOG_LINES);
        report.push_str(&format!("\n--- end of {name}\n{}\n", lines[end..].join("\n")));
    }
    bail!(report)
}

/// The agent's program, built once.
fn agent_program() -> anyhow::Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| daemon::build_agent().map_err(|error| format!("{error:#}")));
    program.as_deref().map_err(|error| anyhow!("no agent: {error}"))
}

fn read(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
