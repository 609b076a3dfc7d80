//! `netmon-agent`: arguments, logging, signals; the rest is the library.

use std::{
    future::Future,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use netmon_agent::{
    Config,
    config::{ConfigErrors, DEFAULT_PATH, DEFAULT_UCI},
    doctor::doctor,
    dump::{dump, print_all},
    replay, rights,
    service::Service,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tracing::warn;
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

const HELP: &str = "\
Watches this router's connections and reports them to netmon-server.

Usage: netmon-agent [--config FILE | --uci FILE] [--check-config | --dump] [--replay FILE]
       netmon-agent doctor [--config FILE | --uci FILE]

  --config FILE   the configuration, by default /etc/netmon-agent/config.yaml
  --uci FILE      the same in OpenWrt's form, by default /etc/config/netmon-agent where the other is not there
  --check-config  only check it: exit code 0 if it is right, 2 if not
  --dump          print what is heard as JSON lines, without a server
  --replay FILE   take recorded messages of a kernel: print them with --dump, else deliver them once
  doctor          check this host and the way to the server: a line per check, with the remedy
  --version       print the version
  --help          print this

SIGHUP reads the configuration again. SIGTERM delivers or spools what is in hand, and ends.
NETMON_LOG sets what is logged to stderr: error, warn, info (the default), debug, or such levels by
module, netmon_agent::transport=debug,info.
Watching connections needs root or CAP_NET_ADMIN.
";

/// How many names are looked up at a time, each on a thread of its own: where nobody answers, one lookup outlasts
/// the attempts after it.
const LOOKUPS: usize = 4;

/// What a mistake of the user's ends with; 1 is for what goes wrong later.
const USAGE: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Run,
    CheckConfig,
    Dump,
    Doctor,
    Version,
    Help,
}

/// The configuration file and its form.
#[derive(Debug, Clone, PartialEq, Eq)]
enum File {
    Yaml(PathBuf),
    Uci(PathBuf),
}

impl File {
    fn usual() -> Self {
        if !Path::new(DEFAULT_PATH).exists() && Path::new(DEFAULT_UCI).exists() {
            return Self::Uci(DEFAULT_UCI.into());
        }
        Self::Yaml(DEFAULT_PATH.into())
    }

    fn path(&self) -> &Path {
        let (Self::Yaml(path) | Self::Uci(path)) = self;
        path
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        match self {
            Self::Yaml(path) => Config::load(path),
            Self::Uci(path) => Config::load_uci(path),
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    task: Task,
    file: Option<File>,
    replay: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { task, file, replay } = match arguments(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => return complain(&format!("{error}; see netmon-agent --help"), USAGE),
    };
    let said = match task {
        Task::Help => say(HELP),
        Task::Version => say(concat!("netmon-agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Task::CheckConfig | Task::Run | Task::Dump | Task::Doctor => {
            let given = file.is_some();
            let file = file.unwrap_or_else(File::usual);
            return match load(task, &file, given) {
                Err(errors) => complain(&errors.to_string(), USAGE),
                Ok(_) if task == Task::CheckConfig => {
                    exit_code(say(&format!("{}: ok\n", file.path().display())))
                }
                Ok(config) => work(task, config, &file, replay.as_deref()),
            };
        }
    };
    exit_code(said)
}

/// `-config FILE` and the like are the original agent's way; Go's flags have one dash.
fn arguments(args: impl Iterator<Item = std::ffi::OsString>) -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let two_dashes = args.map(|arg| match arg.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        _ => arg,
    });
    let mut parser = lexopt::Parser::from_args(two_dashes);
    let mut asked = Arguments { task: Task::Run, file: None, replay: None };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("config") => asked.file = Some(File::Yaml(parser.value()?.parse()?)),
            Long("uci") => asked.file = Some(File::Uci(parser.value()?.parse()?)),
            Long("replay") => asked.replay = Some(parser.value()?.parse()?),
            Long("check-config") => asked.task = Task::CheckConfig,
            Long("dump") => asked.task = Task::Dump,
            Value(word) if word == "doctor" => asked.task = Task::Doctor,
            Long("version") | Short('V') => {
                return Ok(Arguments { task: Task::Version, file: None, replay: None });
            }
            Long("help") | Short('h') => return Ok(Arguments { task: Task::Help, file: None, replay: None }),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(asked)
}

/// `--dump` needs no server, hence no file: without one it takes the defaults.
fn load(task: Task, file: &File, given: bool) -> Result<Config, ConfigErrors> {
    if task == Task::Dump && !given && !file.path().exists() {
        return Ok(Config::new("dump", "http://127.0.0.1:3000", "none"));
    }
    file.load()
}

fn work(task: Task, config: Config, file: &File, replay: Option<&Path>) -> ExitCode {
    // Targets and levels only: a filter by fields would bring a regular expression engine, a tenth of the program.
    let wanted = std::env::var("NETMON_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    // Before any thread is started: rights belong to threads.
    if config.drop_privileges
        && let Err(error) = rights::give_up()
    {
        warn!(%error, "cannot give up rights that are not needed; going on with them");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(LOOKUPS).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(anyhow::Error::new(error).context("cannot start"))),
    };
    let code = runtime.block_on(async {
        if task == Task::Doctor {
            return match doctor(&config, io::stdout().lock()).await {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => exit_code(Err(error.into())),
            };
        }
        exit_code(match replay {
            Some(recording) => play(task, &config, recording).await,
            None => watch(task, config, file).await,
        })
    });
    // Not by dropping it: that waits for the C library, which waits for an answer to the name of a server.
    runtime.shutdown_background();
    code
}

async fn play(task: Task, config: &Config, recording: &Path) -> anyhow::Result<()> {
    let events = replay::events(recording)?;
    if task == Task::Dump {
        return Ok(print_all(&events, io::stdout().lock())?);
    }
    let accepted = replay::deliver(config, events).await?;
    say(&format!("delivered; the server took {accepted} events\n"))
}

async fn watch(task: Task, config: Config, file: &File) -> anyhow::Result<()> {
    let stop = stop_signal().context("cannot listen for signals")?;
    if task == Task::Dump {
        return dump(&config, io::stdout().lock(), stop).await;
    }
    let (sender, reloads) = mpsc::channel(1);
    let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let file = file.clone();
    tokio::select! {
        result = netmon_agent::run(config, Service::new(reloads), stop) => result,
        never = reload(hangup, &file, sender) => match never {},
    }
}

/// Reads the file again at each SIGHUP. A file with mistakes changes nothing.
async fn reload(mut hangup: Signal, file: &File, configs: mpsc::Sender<Config>) -> std::convert::Infallible {
    loop {
        if hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        match file.load() {
            // The receiver lives as long as the agent.
            Ok(config) => drop(configs.send(config).await),
            Err(errors) => warn!("the configuration stays as it was:\n{errors}"),
        }
    }
}

/// Resolves at SIGTERM or SIGINT.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn complain(text: &str, code: u8) -> ExitCode {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(code)
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("netmon-agent: {error:#}"), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_options_are_understood() {
        let check =
            |line: &str| arguments(line.split(' ').map(Into::into)).map_err(|error| error.to_string());
        let asked = |task, file: Option<File>, replay: Option<&str>| {
            Ok(Arguments { task, file, replay: replay.map(PathBuf::from) })
        };
        let yaml = || Some(File::Yaml("a.yaml".into()));
        assert_eq!(check("--config a.yaml"), asked(Task::Run, yaml(), None));
        assert_eq!(check("-config a.yaml"), asked(Task::Run, yaml(), None));
        assert_eq!(check("-config=a.yaml --check-config"), asked(Task::CheckConfig, yaml(), None));
        assert_eq!(check("--dump --replay r"), asked(Task::Dump, None, Some("r")));
        assert_eq!(check("--uci a"), asked(Task::Run, Some(File::Uci("a".into())), None));
        assert_eq!(check("doctor -config a.yaml"), asked(Task::Doctor, yaml(), None));
        assert_eq!(check("-h"), asked(Task::Help, None, None));
        assert_eq!(check("-version"), asked(Task::Version, None, None));
        assert!(check("--config").is_err() && check("--verbose").is_err() && check("a.yaml").is_err());
    }
}
