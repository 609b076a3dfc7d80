//! `netmon-server`: see the library for what it does.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use netmon_server::{
    cert::{self, CertArgs},
    commands,
    serve::{self, ServeArgs},
};
use tracing_subscriber::EnvFilter;

/// Takes what netmon agents hear, keeps it, and shows it to a browser on the LAN.
#[derive(Parser)]
#[command(name = "netmon-server", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve agents, pages, JSON and gRPC on one port
    Serve(ServeArgs),
    /// Make a CA and a certificate for this server, so that it speaks TLS
    Cert(CertArgs),
    #[command(flatten)]
    Maintain(commands::Command),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = EnvFilter::try_from_env("NETMON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = match command {
        Command::Serve(args) => args,
        Command::Cert(args) => {
            return exit_code(cert::run(args, time::OffsetDateTime::now_utc(), &mut std::io::stdout()));
        }
        Command::Maintain(command) => return commands::run(command),
    };
    let options = match args.resolve_to_serve() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("netmon-server: {error}");
            return ExitCode::from(2);
        }
    };
    exit_code(run(options))
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netmon-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: serve::Options) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve::run(options, shutdown).await
    })
}
