//! What the program does instead of serving: one command, one file.

mod backup;
mod baselines;
mod check;
mod cleanup;
mod import;
mod migrate;
mod snapshot;

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use crate::{
    serve::{ConfigError, Options, ServeArgs},
    store::{DatabaseUrl, Store},
};

/// The exit code where nothing was tried because the call or the configuration is wrong.
const MISUSED: u8 = 2;

/// What is wrong with the call, other than what `clap` finds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// The commands beside `serve`.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Take away what was kept long enough, and give the space back; a server may run meanwhile
    Cleanup(DatabaseArgs),
    /// Take away DNS questions and answers that were kept long enough
    DnsPrune(DatabaseArgs),
    /// Make anew what is usual for each device, of the last 24 hours
    RecomputeBaselines(DatabaseArgs),
    /// Bring the database's schema up to this program's
    Migrate(DatabaseArgs),
    /// Copy the SQLite database into a new file while a server runs
    Backup {
        /// Which database
        #[command(flatten)]
        database: DatabaseArgs,
        /// The file to make; it must not exist
        to: PathBuf,
    },
    /// Look for damage, for rows that belong to nothing, and for sums that differ; exit code 1 if there are any
    Check {
        /// Which database
        #[command(flatten)]
        database: DatabaseArgs,
        /// Instead, read what can be read of a damaged SQLite file into this new one
        #[arg(long, value_name = "FILE")]
        salvage: Option<PathBuf>,
    },
    /// Take one snapshot of the connections that are open, where no agent runs
    IngestOnce {
        /// Which database
        #[command(flatten)]
        database: DatabaseArgs,
        /// From where
        #[command(flatten)]
        source: snapshot::SourceArgs,
    },
    /// Take snapshots until it is stopped
    IngestLoop {
        /// Which database
        #[command(flatten)]
        database: DatabaseArgs,
        /// From where
        #[command(flatten)]
        source: snapshot::SourceArgs,
        /// Seconds from one snapshot to the next
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        interval: u32,
    },
    /// Copy a SQLite database into an empty Postgres, which --database-url names
    Import {
        /// Where to
        #[command(flatten)]
        database: DatabaseArgs,
        /// The SQLite file
        from: DatabaseUrl,
    },
}

/// Which database.
#[derive(clap::Args, Debug, Default)]
pub struct DatabaseArgs {
    /// Directory of the database [default: ./netmon-data]
    #[arg(long, env = "NETMON_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// sqlite:PATH, a plain path, or postgres://... [default: DATA/netmon.db]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<DatabaseUrl>,
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl DatabaseArgs {
    fn resolve(self) -> anyhow::Result<Options> {
        let Self { data, database_url, config } = self;
        Ok(ServeArgs { data, database_url, config, ..ServeArgs::default() }.resolve()?)
    }
}

/// Runs a command, and says on stderr why it failed: exit code 2 if it was called wrongly, 1 if it could not be done or
/// found something.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Cleanup(database) => cleanup::cleanup(database),
        Command::DnsPrune(database) => cleanup::dns_prune(database),
        Command::RecomputeBaselines(database) => baselines::recompute(database),
        Command::Migrate(database) => migrate::migrate(database),
        Command::Backup { database, to } => backup::backup(database, &to),
        Command::Check { database, salvage: None } => check::check(database),
        Command::Check { database, salvage: Some(to) } => check::salvage(database, &to),
        Command::IngestOnce { database, source } => snapshot::once(database, source),
        Command::IngestLoop { database, source, interval } => snapshot::repeat(database, source, interval),
        Command::Import { database, from } => import::import(database, &from),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("netmon-server: {error:#}");
            if error.is::<Misuse>() || error.is::<ConfigError>() {
                ExitCode::from(MISUSED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn misuse<T>(problem: String) -> anyhow::Result<T> {
    Err(Misuse(problem).into())
}

fn open_or_make(options: &Options) -> anyhow::Result<Store> {
    Store::open(&options.database_url).with_context(|| unusable(options))
}

fn unusable(options: &Options) -> String {
    format!("the database {} cannot be used", options.database_url)
}

/// Opens a database that must exist: a mistyped path must not make an empty one.
fn open(options: &Options) -> anyhow::Result<Store> {
    expect_existing(options)?;
    open_or_make(options)
}

fn expect_existing(options: &Options) -> anyhow::Result<()> {
    if let DatabaseUrl::Sqlite(path) = &options.database_url
        && !path.exists()
    {
        return misuse(format!(
            "{}: there is no database; name it with --data or --database-url",
            path.display()
        ));
    }
    Ok(())
}

/// Makes an empty file that this user alone may read, for a copy of the database: everyone's connections are in it.
/// SQLite takes an empty file for a new one, and gives its log the same mode.
fn make_private(path: &Path) -> anyhow::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{}: cannot be made", path.display()))?;
    Ok(())
}

/// So many of these.
fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A line on stdout.
fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
}
