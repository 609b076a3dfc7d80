//! `GET /metrics`: Prometheus text.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use netmon_proto::v1::GapCause;
use prometheus::{
    Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use tokio::time::timeout;
use tracing::debug;

use super::{App, WebError};
use crate::{
    domain::Micros,
    ingest::Counts,
    store::{FlowFigures, RouterRow},
};

/// What the database may take to answer. Without its figures the others are told all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long its figures are told again: whoever asks, without a token, it is read no oftener.
pub(super) fn lasts(_took: Duration) -> Duration {
    Duration::from_secs(3)
}

/// What the database knows.
pub(super) struct Stored {
    routers: Vec<RouterRow>,
    flows: FlowFigures,
    size_bytes: u64,
}

/// Figures under their names.
struct Figures(Registry);

impl Figures {
    fn counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = IntCounter::with_opts(Opts::new(name, help))?;
        counter.inc_by(value);
        self.0.register(Box::new(counter))
    }

    fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: [(&str, u64); N],
    ) -> prometheus::Result<()> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        for (of, value) in values {
            counters.with_label_values(&[of]).inc_by(value);
        }
        self.0.register(Box::new(counters))
    }

    fn gauge(&self, name: &str, help: &str, value: i64) -> prometheus::Result<()> {
        let gauge = IntGauge::with_opts(Opts::new(name, help))?;
        gauge.set(value);
        self.0.register(Box::new(gauge))
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, i64)>,
    ) -> prometheus::Result<()> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        for (of, value) in values {
            let gauge = gauges.with_label_values(&[of.as_str()]);
            gauge.set(gauge.get().saturating_add(value));
        }
        self.0.register(Box::new(gauges))
    }
}

/// What the writer counts.
fn put_counts(figures: &Figures, counts: Counts) -> prometheus::Result<()> {
    figures.counter("commits_total", "Transactions committed", counts.commits)?;
    figures.counter("commit_microseconds_total", "Time spent in committed transactions", counts.commit_us)?;
    figures.counter(
        "commit_failures_total",
        "Transactions that failed and were tried again or given up",
        counts.failures,
    )?;
    figures.counter("events_total", "Events committed", counts.events)?;
    figures.counter("events_rejected_total", "Events refused as invalid", counts.rejected)?;
    figures.counter("fields_clamped_total", "Fields of events that were clamped", counts.clamped)?;
    figures.counter(
        "duplicate_batches_total",
        "Batches that came again after their commit",
        counts.duplicates,
    )
}

/// What the database knows. A router is told by the number of its row: its name is nobody's business here.
fn put_stored(figures: &Figures, stored: &Stored, now: Micros) -> prometheus::Result<()> {
    let size = i64::try_from(stored.size_bytes).unwrap_or(i64::MAX);
    figures.gauge("database_bytes", "What the database takes on disk, its log included", size)?;
    figures.gauge("flows_counted", "Flows that were ever counted", stored.flows.counted)?;
    figures.gauge("flows_open", "Flows that have not ended", stored.flows.open)?;
    figures.gauge("flows_kept", "Ended flows that are kept: rows of the table", stored.flows.kept)?;
    let routers = &stored.routers;
    let by_router = |value: fn(&RouterRow) -> Option<i64>| {
        routers.iter().filter_map(move |router| Some((router.id.0.to_string(), value(router)?)))
    };
    figures.gauges(
        "router_lag_microseconds",
        "Between an event's observation and its commit, of a router's newest batch",
        "router",
        by_router(|router| router.lag_us),
    )?;
    let silent = by_router(|router| router.last_heard).map(|(id, at)| (id, (now - at).max(0) / 1_000_000));
    figures.gauges("router_silent_seconds", "Since anything of a router was committed", "router", silent)?;
    figures.gauges(
        "router_spool_bytes",
        "What waited in a router's spool at its last heartbeat",
        "router",
        by_router(|router| router.spool_bytes),
    )?;
    let losses = routers.iter().flat_map(|router| &router.losses).map(|loss| {
        let cause = GapCause::try_from(i32::from(loss.cause)).unwrap_or(GapCause::Unspecified);
        let name = cause.as_str_name().trim_start_matches("GAP_CAUSE_").to_lowercase();
        (name, loss.count)
    });
    figures.gauges(
        "lost",
        "What is missing, by cause, of the latest 20,000 gaps; the unit is the cause's",
        "cause",
        losses,
    )
}

/// Needs no token: it holds sums only, no name and no address.
pub(super) async fn page(State(app): State<App>) -> Result<Response, WebError> {
    let stored = app.stored.get(stored(app.clone()));
    let stored = timeout(PATIENCE, stored).await.ok().flatten().flatten();
    let text = text(&app, stored.as_deref()).map_err(|error| WebError::Internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

async fn stored(app: App) -> Option<Arc<Stored>> {
    let read = app.read(|reader| {
        Ok(Stored {
            routers: reader.routers()?,
            flows: reader.flow_figures()?,
            size_bytes: reader.size_bytes()?,
        })
    });
    match read.await {
        Ok(stored) => Some(Arc::new(stored)),
        Err(error) => {
            debug!(%error, "metrics without the database's figures");
            None
        }
    }
}

fn text(app: &App, stored: Option<&Stored>) -> prometheus::Result<Vec<u8>> {
    let health = app.ingest.health();
    let figures = Figures(Registry::new_custom(Some("netmon_server".to_owned()), None)?);
    put_counts(&figures, health.counts())?;
    figures.counters(
        "connections_refused_total",
        "Connections closed before their first request",
        "cause",
        app.refused.counts(),
    )?;
    let queued = i64::try_from(app.ingest.queued()).unwrap_or(i64::MAX);
    figures.gauge("queue_events", "Events that wait for the writer", queued)?;
    figures.gauge("writable", "1 while what comes in is committed", i64::from(health.failing().is_none()))?;
    figures.gauge("readable", "1 while the database answers", i64::from(stored.is_some()))?;
    if let Some(stored) = stored {
        put_stored(&figures, stored, app.clock.now())?;
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&figures.0.gather(), &mut text)?;
    Ok(text)
}
