//! `ingest-once` and `ingest-loop`: snapshots without an agent.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use tracing::{error, info};

use super::{DatabaseArgs, misuse, open_or_make, say};
use crate::{
    clock::SystemClock,
    serve::{lock_file, make_data},
    snapshot::{Snapshots, source::Source},
};

/// From where snapshots come.
#[derive(clap::Args, Debug)]
pub struct SourceArgs {
    /// The name under which its flows are stored; not that of a router that an agent tells of
    #[arg(long, value_name = "NAME", default_value = "snapshot")]
    pub router: String,
    /// A file with what `conntrack -L` or `conntrack -L -o extended` prints, or /proc/net/nf_conntrack
    /// [default: this machine's kernel]
    #[arg(long, env = "CONNTRACK_INPUT_FILE", value_name = "FILE")]
    pub input_file: Option<PathBuf>,
    /// A program and its arguments, run without a shell, that prints the same
    #[arg(long = "conntrack-command", env = "CONNTRACK_COMMAND", value_name = "COMMAND")]
    pub conntrack_command: Option<String>,
}

impl SourceArgs {
    fn source(&self) -> anyhow::Result<Source> {
        let file = self.input_file.clone().filter(|file| !file.as_os_str().is_empty());
        let command = self.conntrack_command.clone().filter(|line| !line.trim().is_empty());
        match (file, command) {
            (Some(_), Some(_)) => {
                misuse("expected CONNTRACK_INPUT_FILE or CONNTRACK_COMMAND, not both".to_owned())
            }
            (Some(file), None) => Ok(Source::File(file)),
            (None, Some(line)) => Ok(Source::Command(line)),
            (None, None) => Ok(Source::Kernel),
        }
    }
}

pub(super) fn once(database: DatabaseArgs, args: SourceArgs) -> anyhow::Result<ExitCode> {
    run(database, args, None)
}

pub(super) fn repeat(database: DatabaseArgs, args: SourceArgs, interval_s: u32) -> anyhow::Result<ExitCode> {
    run(database, args, Some(Duration::from_secs(interval_s.into())))
}

fn run(database: DatabaseArgs, args: SourceArgs, every: Option<Duration>) -> anyhow::Result<ExitCode> {
    let source = args.source()?;
    let options = database.resolve()?;
    make_data(&options.data)?;
    // Two of them would each store every flow.
    let _lock =
        lock_file(&options.data, &format!("snapshot-{}.lock", args.router.replace(['/', '\0'], "_")))?;
    let store = open_or_make(&options)?;
    let mut snapshots = Snapshots::start(&store, &args.router, Arc::new(SystemClock))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(rounds(&mut snapshots, &source, every));
    snapshots.finish()?;
    result?;
    Ok(ExitCode::SUCCESS)
}

async fn rounds(snapshots: &mut Snapshots, source: &Source, every: Option<Duration>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let Some(every) = every else {
        let compared = snapshots.take(source.read().await?).await?;
        return Ok(say(&format!(
            "{} flows: {} new, {} moved on; {} ended",
            compared.there, compared.began, compared.changed, compared.ended
        ))?);
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let round = async { snapshots.take(source.read().await?).await };
        match round.await {
            Ok(compared) => info!(?compared, "a snapshot is stored"),
            Err(problem) => error!("this snapshot is left out, the next one is tried: {problem:#}"),
        }
    }
}
