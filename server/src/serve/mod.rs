//! `netmon-server serve`: builds the parts, runs them, and takes them down in order.

mod alive;
mod file;
mod listener;
mod local;
mod options;
mod places;
mod tls;

use std::{
    io::Write as _, net::SocketAddr, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc, time::Duration,
};

use anyhow::Context as _;
use netmon_agent::{service::Word, transport::Fingerprint};
use tokio::net::TcpListener;
use tracing::{error, info, warn};

pub use file::ConfigError;
pub use options::{Options, ServeArgs};
pub use tls::TlsFiles;

use crate::{
    auth::Token,
    clock::{Clock, SystemClock},
    enrich::{
        Enrichment,
        reverse::{self, ReverseStats},
    },
    grpc, ingest, jobs,
    store::{SET_ASIDE, Store},
    web,
};

/// How long streams and pages may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs the server until `shutdown` resolves.
///
/// # Errors
/// Something that it cannot do without is not to be had: the data directory, the database, the address.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let data = &options.data;
    make_data(data)?;
    let _lock = lock(data)?;
    let token_file = data.join("token");
    let first_start = options.api_token.is_none() && !token_file.exists();
    let token = match &options.api_token {
        Some(token) => Token::new(token.clone()),
        None => Token::from_data(data)?,
    };
    if token.reveal().is_empty() {
        warn!("NETMON_API_TOKEN is empty: nobody gets in, neither agents nor people");
    }

    let database = options.database_url.clone();
    let (store, writer, notice) = tokio::task::spawn_blocking(move || {
        let store = Store::open_or_set_aside(&database, SystemClock.now())?;
        let mut writer = store.writer()?;
        writer.begin_day(SystemClock.now())?;
        let notice = store.reader().setting(SET_ASIDE)?;
        Ok::<_, crate::store::StoreError>((store, writer, notice))
    })
    .await?
    .with_context(|| format!("the database {} cannot be used", options.database_url))?;

    let tls = options.tls.as_ref().map(tls::Tls::load).transpose()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (ingest, writer) = ingest::start(writer, clock.clone())?;
    if let Some(notice) = &notice {
        error!("{notice} `netmon-server check --salvage` reads what can be read of the old one.");
    }
    ingest.health().set_notice(notice);
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("{}: cannot listen there", options.listen))?;
    let address = listener.local_addr()?;

    let own = store.needs_own_maintenance().then(|| store.writer()).transpose()?;
    let retention = tokio::spawn(jobs::retention(ingest.clone(), own, options.retention, clock.clone()));
    let rollups = tokio::spawn(jobs::rollups(ingest.clone(), clock.clone()));

    let enrichment = Enrichment::load(&options.enrich);
    tokio::spawn(Arc::clone(&enrichment).follow_files());
    let reverse_stats = Arc::new(ReverseStats::default());
    if options.enrich.reverse_dns_per_second > 0 {
        let (rate, stats) = (options.enrich.reverse_dns_per_second, Arc::clone(&reverse_stats));
        let asking =
            reverse::run(rate, reverse::by_system, ingest.clone(), store.reader(), clock.clone(), stats);
        tokio::spawn(asking);
    }
    let app = web::App::new(
        ingest.clone(),
        store.reader(),
        token.clone(),
        clock.clone(),
        Arc::clone(&enrichment),
        options.enrich.whois_server.as_deref().map(Into::into),
    );
    let grpc = grpc::routes(ingest.clone(), store.reader(), token.clone(), clock, enrichment).await?;
    // tonic's own fallback would answer every unknown path; ours tells calls from pages.
    let refused = app.refused.clone();
    let routes = grpc.into_axum_router().reset_fallback().merge(web::router(app));

    let fingerprint = tls.as_ref().map(|tls| tls.fingerprint);
    announce(address, fingerprint, &token, &token_file, first_start)?;
    let local = options.local.then(|| local::start(data, address, fingerprint, &token)).transpose()?;
    Word::Ready.tell();
    let alive = tokio::spawn(alive::feed_watchdog(ingest.clone()));
    let shutdown = async {
        shutdown.await;
        info!("stopping");
        Word::Stopping.tell();
        retention.abort();
        rollups.abort();
        // First, so that its last events are still taken.
        if let Some(local) = local {
            local.stop().await;
        }
    };
    let offer = listener::Offer { tls, routes, limits: listener::Limits::default(), refused };
    listener::serve(listener, offer, shutdown, DRAIN, || ingest.close()).await;

    let ended = tokio::task::spawn_blocking(move || writer.join()).await?;
    alive.abort();
    ended.map_err(|_| anyhow::anyhow!("the writer had failed before the server stopped"))
}

/// Makes the data directory, for this user alone: it holds the token and everyone's connections.
pub(crate) fn make_data(data: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("{}: the data directory cannot be made", data.display()))
}

/// Two servers on one data directory would each believe to be the only writer.
fn lock(data: &Path) -> anyhow::Result<std::fs::File> {
    lock_file(data, "lock")
}

/// Takes a lock that lasts as long as the file is open.
pub(crate) fn lock_file(data: &Path, name: &str) -> anyhow::Result<std::fs::File> {
    let path = data.join(name);
    let file = std::fs::File::create(&path)
        .with_context(|| format!("{}: expected a directory that this user can write", path.display()))?;
    file.try_lock().map_err(|error| {
        anyhow::anyhow!("{}: another netmon-server uses this data directory ({error})", data.display())
    })?;
    Ok(file)
}

/// Says where the server is, and at its first start how to let an agent in.
fn announce(
    address: SocketAddr,
    fingerprint: Option<Fingerprint>,
    token: &Token,
    file: &Path,
    first_start: bool,
) -> anyhow::Result<()> {
    let scheme = if fingerprint.is_some() { "https" } else { "http" };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "netmon-server listening on {scheme}://{address}")?;
    stdout.flush()?;
    let reachable = SocketAddr::new(reachable_ip(address), address.port());
    let mut stderr = std::io::stderr().lock();
    if first_start {
        let pinned = fingerprint.map_or_else(String::new, |it| format!("    server_fingerprint: \"{it}\"\n"));
        writeln!(
            stderr,
            "\nA token was made. In an agent's /etc/netmon-agent/config.yaml:\n\n    \
             router_id: \"router-01\"\n    server_url: \"{scheme}://{reachable}\"\n{pinned}    auth_token: \"{}\"\n\n\
             In a browser: {scheme}://{reachable}/ with the same token.\n",
            token.reveal()
        )?;
    } else if file.exists() {
        writeln!(stderr, "In a browser: {scheme}://{reachable}/ with the token in {}", file.display())?;
    }
    Ok(())
}

/// The address under which others on the LAN reach a server that listens on all of them: the source that
/// the kernel would use for a packet to a documentation address. Nothing is sent.
pub(crate) fn reachable_ip(address: SocketAddr) -> std::net::IpAddr {
    if !address.ip().is_unspecified() {
        return address.ip();
    }
    let own = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    own().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into())
}
