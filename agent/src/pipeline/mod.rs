//! The agent's main loop: what the source says goes into the spool, and from there to the server.
//!
//! One task owns everything, so nothing is locked. Events are appended to the spool before anything else
//! happens to them; a process killed at any moment loses only what the kernel has not yet told it.

mod delivery;
pub(crate) mod listen;
mod losses;
mod old_format;
mod source;

use std::{future::Future, time::Duration};

use netmon_proto::v1::{Event, GapCause, Heartbeat, event::Kind, table_sync::Step};
use tokio::{
    task::LocalSet,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use crate::{
    config::Config,
    conntrack::{Monitor, MonitorConfig},
    host,
    metrics::{self, Scrapes},
    parts::{self, Parts},
    service::Service,
    spool::{Spool, SpoolConfig},
    transport::{Transport, TransportConfig},
};
use delivery::{deliver, land};
use losses::Losses;
use old_format::OldFormat;
use source::{Feed, Source};

/// What stopping may take in all, reading the kernel's last words and waiting for acks included; service
/// managers of routers kill after five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// As many as the protocol permits in one heartbeat.
const MOST_WARNINGS: usize = 16;

/// Reporting the whole table takes room itself; where there is too little it must not go round in circles.
const SYNC_PAUSE: Duration = Duration::from_secs(10);

/// Watches this host and reports what it hears until `shutdown` resolves; then delivers what it can in four
/// seconds and returns. `service` may bring other configurations meanwhile. Needs a current-thread tokio
/// runtime with I/O and time, installs nothing global.
///
/// # Errors
/// When the spool belongs to another agent, or the token cannot be sent.
pub async fn run(config: Config, service: Service, shutdown: impl Future) -> anyhow::Result<()> {
    let open = |config: &MonitorConfig| Monitor::open(config.clone(), rand::random());
    let transport = TransportConfig::new(&config)?;
    LocalSet::new().run_until(run_with(config, transport, open, listen::start, service, shutdown)).await
}

async fn run_with<S: Source>(
    mut config: Config,
    transport: TransportConfig,
    open: impl FnMut(&MonitorConfig) -> Result<S, S::Error>,
    start: impl Fn(&Config, &mut Parts),
    mut service: Service,
    shutdown: impl Future,
) -> anyhow::Result<()> {
    for note in &config.notes {
        warn!("{note}");
    }
    let spool = SpoolConfig {
        dir: config.spool_dir.clone(),
        max_bytes: config.spool_max_bytes,
        fsync: config.spool_fsync,
        memory_events: config.queue_depth,
    };
    // Zero is no epoch.
    let mut store = Store::new(Spool::open(spool, rand::random_range(1..=u64::MAX))?);
    let mut feed = Feed::open(open, config.monitor());
    let mut parts = Parts::new();
    start(&config, &mut parts);
    store.report_downtime(host::now_us());
    let mut transport = Transport::new(transport);
    store.old_format = OldFormat::new(&config, host::now_us());
    let mut scrapes = metrics::serve(config.metrics_bind).await;
    let started = Instant::now();
    let mut heartbeat = heartbeats(&config);
    let mut events = Vec::new();
    let mut shutdown = std::pin::pin!(shutdown);
    service.ready();

    loop {
        store.append(&mut events);
        store.regulate(&mut feed, config.report_interval, Instant::now(), host::now_us());
        transport.pump(&mut store.spool);
        tokio::select! {
            () = feed.step(&mut events) => {}
            heard = parts.next() => store.take(heard, &mut events),
            wake = transport.wait() => transport.advance(wake, &mut store.spool),
            _ = heartbeat.tick() => {
                let now_us = host::now_us();
                events.push(beat(&mut feed, &parts, &store, &scrapes, started.elapsed(), now_us));
                store.spool.stamp(now_us);
                transport.beat(now_us);
            }
            scrape = scrapes.next() => {
                let mut figures = Vec::new();
                let restarts = [("conntrack", feed.restarts()), ("metrics", scrapes.restarts())];
                parts.figures(&restarts, &mut figures);
                let mut warnings = warnings(&feed, &parts, &store, &scrapes);
                // In a heartbeat it would reach the server when it is not true any more.
                let failing = transport.stats().failing.as_ref();
                warnings.extend(failing.map(|why| format!("nothing reaches the server: {why}")));
                scrape.answer(metrics::Page {
                    works: feed.works() && !store.spool.failing(),
                    warnings,
                    parts: figures,
                    monitor: feed.stats(),
                    open_flows: feed.open_flows(),
                    spool: store.spool.stats().clone(),
                    spool_bytes: store.spool.waiting_bytes(),
                    spool_batches: store.spool.waiting_batches(),
                    transport: transport.stats().clone(),
                    gaps: store.losses.totals().to_vec(),
                    events_unwritten: store.unwritten,
                    digest: store.old_format.as_ref().map(OldFormat::stats).unwrap_or_default(),
                    last_append_us: store.last_append_us,
                });
            }
            new = service.next() => match accept(&config, new) {
                Ok((new, new_transport)) => {
                    parts.finish(Instant::now() + parts::FINISH, |heard| store.take(heard, &mut events)).await;
                    parts = Parts::new();
                    start(&new, &mut parts);
                    feed.reconfigure(new.monitor(), &mut events);
                    store.end_old_format(&mut events);
                    store.append(&mut events);
                    store.old_format = OldFormat::new(&new, host::now_us());
                    if transport.goes_elsewhere(&new_transport) {
                        land(&mut transport, &mut store.spool).await;
                    }
                    transport.reconfigure(new_transport, &mut store.spool);
                    if new.metrics_bind != config.metrics_bind {
                        scrapes = metrics::serve(new.metrics_bind).await;
                    }
                    heartbeat = heartbeats(&new);
                    config = new;
                    info!("works by the new configuration");
                }
                Err(error) => warn!("the configuration stays as it was: {error}"),
            },
            _ = &mut shutdown => break,
        }
    }
    service.stopping();

    let limit = Instant::now() + STOP_LIMIT;
    info!("stopping");
    // The parts first: what they say at last may explain what the flows do.
    parts.finish(Instant::now() + parts::FINISH, |heard| store.take(heard, &mut events)).await;
    feed.finish(&mut events);
    store.end_old_format(&mut events);
    store.append(&mut events);
    transport.hurry();
    deliver(&mut transport, &mut store.spool, limit).await;
    // The next run may go another road, where nobody knows of it.
    store.spool.forget_acked();
    store.spool.stamp(host::now_us());
    Ok(())
}

fn heartbeats(config: &Config) -> Interval {
    let mut heartbeat = interval(config.heartbeat_interval);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}

/// What of a new configuration can be had without a restart: everything but the router's name and the spool.
fn accept(old: &Config, mut new: Config) -> anyhow::Result<(Config, TransportConfig)> {
    for note in &new.notes {
        warn!("{note}");
    }
    if new.router_id != old.router_id {
        anyhow::bail!("router_id can be changed by a restart only");
    }
    let spool = |config: &Config| {
        (config.spool_dir.clone(), config.spool_max_bytes, config.spool_fsync, config.queue_depth)
    };
    if spool(&new) != spool(old) {
        warn!(
            "what concerns the spool (spool_dir, spool_max_bytes, spool_fsync, queue_depth) takes a restart"
        );
        new.spool_dir.clone_from(&old.spool_dir);
        (new.spool_max_bytes, new.spool_fsync) = (old.spool_max_bytes, old.spool_fsync);
        new.queue_depth = old.queue_depth;
    }
    let transport = TransportConfig::new(&new)?;
    Ok((new, transport))
}

/// What is wrong now, the gravest first.
fn warnings<S: Source, O: FnMut(&MonitorConfig) -> Result<S, S::Error>>(
    feed: &Feed<S, O>,
    parts: &Parts,
    store: &Store,
    scrapes: &Scrapes,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if store.spool.failing() {
        warnings
            .push("the spool cannot be written: make room in spool_dir, or check its permissions".to_owned());
    }
    warnings.extend(feed.warnings());
    parts.warnings(&mut warnings);
    warnings.extend(scrapes.warning());
    warnings.truncate(MOST_WARNINGS);
    warnings
}

fn beat<S: Source, O: FnMut(&MonitorConfig) -> Result<S, S::Error>>(
    feed: &mut Feed<S, O>,
    parts: &Parts,
    store: &Store,
    scrapes: &Scrapes,
    uptime: Duration,
    now_us: i64,
) -> Event {
    let heartbeat = Heartbeat {
        uptime_s: uptime.as_secs(),
        open_flows: feed.open_flows() as u64,
        spool_bytes: store.spool.waiting_bytes(),
        spool_batches: store.spool.waiting_batches(),
        memory_bytes: host::memory_bytes(),
        cpu_ms: host::cpu_ms(),
        warnings: warnings(feed, parts, store, scrapes),
    };
    Event { time_us: now_us, kind: Some(Kind::Heartbeat(heartbeat)) }
}

/// The spool, and what it could not keep.
struct Store {
    spool: Spool,
    losses: Losses,
    /// Since when progress reports are left out. No time of day: the clock may be set meanwhile.
    skipping_since: Option<Instant>,
    sync_wanted: bool,
    last_sync: Option<Instant>,
    /// Reports of the sync that is under way were lost: its end must not be told, or the server would take
    /// the flows that it did not hear of for gone.
    sync_void: bool,
    /// Events that neither disk nor memory took.
    unwritten: u64,
    last_append_us: i64,
    /// JSON batches are posted.
    old_format: Option<OldFormat>,
}

impl Store {
    fn new(spool: Spool) -> Self {
        let losses = Losses::default();
        Self {
            spool,
            losses,
            skipping_since: None,
            sync_wanted: false,
            last_sync: None,
            sync_void: false,
            unwritten: 0,
            last_append_us: 0,
            old_format: None,
        }
    }

    /// What a part has heard. Its losses are joined with all others.
    fn take(&mut self, heard: Vec<Event>, events: &mut Vec<Event>) {
        for event in heard {
            match event.kind {
                Some(Kind::Gap(gap)) => self.losses.add_gap(gap),
                _ => events.push(event),
            }
        }
    }

    /// Nobody watched from the last sign of an earlier run until now.
    fn report_downtime(&mut self, now_us: i64) {
        if let Some(last_us) = self.spool.previous_run_us() {
            // A clock that was set back, or not yet set, says nothing about the time between.
            let (from, to) = if last_us <= now_us { (last_us, now_us) } else { (0, 0) };
            self.losses.add_span(GapCause::AgentDown, 1, "the agent was not running", from, to);
        }
    }

    /// Moves all events to the spool, what was lost before them first.
    fn append(&mut self, events: &mut Vec<Event>) {
        for loss in self.spool.take_losses() {
            self.losses.add(loss.cause, loss.count, loss.detail, host::now_us());
        }
        if let Some(old_format) = &mut self.old_format {
            old_format.apply(events, host::now_us());
        }
        if events.is_empty() {
            return;
        }
        if self.sync_void {
            self.leave_out_sync_end(events);
        }
        let now_us = host::now_us();
        let mut gaps = Vec::new();
        self.losses.report(&mut gaps, now_us);
        if !gaps.is_empty() {
            events.splice(0..0, gaps);
        }
        let taken = self.spool.append(events);
        if taken > 0 {
            self.last_append_us = now_us;
        }
        let mut refused = 0;
        for event in events.drain(taken..) {
            if !self.losses.restore(event) {
                refused += 1;
            }
        }
        self.unwritten += refused;
        self.sync_void |= refused > 0;
        self.losses.add(GapCause::SpoolWrite, refused, "the spool could not be written", now_us);
        events.clear();
        // A burst is over; what it took goes back.
        events.shrink_to(1024);
    }

    /// What it still has to say.
    fn end_old_format(&mut self, events: &mut Vec<Event>) {
        if let Some(old_format) = &mut self.old_format {
            old_format.end(events, host::now_us());
        }
    }

    /// Up to the next BEGIN.
    fn leave_out_sync_end(&mut self, events: &mut Vec<Event>) {
        events.retain(|event| match &event.kind {
            Some(Kind::TableSync(sync)) => {
                self.sync_void &= sync.step() != Step::Begin;
                !self.sync_void
            }
            _ => true,
        });
    }

    /// Leaves out progress reports while the spool is nearly full, and has the whole table reported again
    /// when there is room after a loss.
    fn regulate<S: Source, O: FnMut(&MonitorConfig) -> Result<S, S::Error>>(
        &mut self,
        feed: &mut Feed<S, O>,
        round: Duration,
        now: Instant,
        now_us: i64,
    ) {
        self.sync_wanted |= self.spool.take_sync_wanted();
        if self.skipping_since.is_none() && self.spool.pressure() {
            self.skipping_since = Some(now);
            feed.set_progress(false);
            warn!(
                "the spool is nearly full: progress reports are left out until the server takes some of it"
            );
        }
        if !self.spool.relieved() {
            return;
        }
        if let Some(since) = self.skipping_since.take() {
            let skipped = now.saturating_duration_since(since);
            let skipped_us = i64::try_from(skipped.as_micros()).unwrap_or(i64::MAX);
            let from_us = now_us.saturating_sub(skipped_us).max(0);
            let rounds =
                u64::try_from(skipped.as_micros() / round.as_micros().max(1)).unwrap_or(u64::MAX).max(1);
            let detail = "progress reports left out while the spool was nearly full; counted in rounds";
            self.losses.add_span(GapCause::ProgressSkipped, rounds, detail, from_us, now_us);
            feed.set_progress(true);
        }
        let paused = self.last_sync.is_none_or(|last| now.saturating_duration_since(last) >= SYNC_PAUSE);
        if paused && std::mem::take(&mut self.sync_wanted) {
            self.last_sync = Some(now);
            feed.request_sync();
        }
    }
}

#[cfg(test)]
mod tests;
