//! `--local`: watches this machine's own connections with the agent's library, over the same road that
//! every agent takes: its spool, a gRPC stream, an ack.

use std::{net::SocketAddr, path::Path, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use netmon_agent::transport::Fingerprint;
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::auth::Token;

/// How long the agent may take for its last acks.
const STOP: Duration = Duration::from_secs(5);

/// The agent in its thread.
pub(super) struct Local {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts it. A machine on which it may not watch is said so, and the server goes on without.
pub(super) fn start(
    data: &Path,
    server: SocketAddr,
    fingerprint: Option<Fingerprint>,
    token: &Token,
) -> anyhow::Result<Local> {
    let ip = match server.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
        ip if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if fingerprint.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", SocketAddr::new(ip, server.port()));
    let mut config = netmon_agent::Config::new("local", url, token.reveal());
    config.server_fingerprints = fingerprint.into_iter().collect();
    config.spool_dir = data.join("local-spool");
    // This may be any machine; without a log of dnsmasq nothing is amiss.
    if !config.dnsmasq_log_path.exists() {
        config.dns_log = netmon_agent::config::DnsLogKind::Off;
    }
    // The server has metrics of its own, and a router's agent may run beside it.
    config.metrics_bind = None;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("local-agent".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                error!(%error, "--local: this machine is not watched");
                return;
            }
        };
        let shutdown = async {
            // A dropped sender means the same as a sent word: the server is stopping.
            drop(stopped.await);
        };
        match runtime.block_on(netmon_agent::run(config, netmon_agent::service::Service::default(), shutdown))
        {
            Ok(()) => info!("--local: stopped watching this machine"),
            Err(error) => error!("--local: this machine is not watched: {error:#}"),
        }
    });
    Ok(Local { stop, thread: thread.context("--local: its thread cannot be started")? })
}

impl Local {
    /// Stops it.
    pub(super) async fn stop(self) {
        // It may have ended by itself.
        let _already_ended = self.stop.send(());
        let joined =
            tokio::time::timeout(STOP, tokio::task::spawn_blocking(move || self.thread.join())).await;
        if !matches!(joined, Ok(Ok(Ok(())))) {
            error!("--local: the agent did not stop in time");
        }
    }
}
