//! `GET /metrics`: Prometheus text.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prometheus::{Encoder as _, IntCounter, IntGauge, Opts, Registry, TextEncoder};

use super::{App, WebError};
use crate::ingest::Counts;

/// The figures live with the parts that count them and are read when asked for.
fn registry(counts: Counts, queued: usize, up: bool) -> prometheus::Result<Registry> {
    let registry = Registry::new_custom(Some("netmon_server".to_owned()), None)?;
    let counter = |name: &str, help: &str, value: u64| -> prometheus::Result<()> {
        let counter = IntCounter::with_opts(Opts::new(name, help))?;
        counter.inc_by(value);
        registry.register(Box::new(counter))
    };
    counter("commits_total", "Transactions committed", counts.commits)?;
    counter("commit_microseconds_total", "Time spent in committed transactions", counts.commit_us)?;
    counter(
        "commit_failures_total",
        "Transactions that failed and were tried again or given up",
        counts.failures,
    )?;
    counter("events_total", "Events committed", counts.events)?;
    counter("events_rejected_total", "Events refused as invalid", counts.rejected)?;
    counter("fields_clamped_total", "Fields of events that were clamped", counts.clamped)?;
    counter("duplicate_batches_total", "Batches that came again after their commit", counts.duplicates)?;
    let gauge = |name: &str, help: &str, value: i64| -> prometheus::Result<()> {
        let gauge = IntGauge::with_opts(Opts::new(name, help))?;
        gauge.set(value);
        registry.register(Box::new(gauge))
    };
    gauge("queue_events", "Events that wait for the writer", i64::try_from(queued).unwrap_or(i64::MAX))?;
    gauge("writable", "1 while what comes in is committed", i64::from(up))?;
    Ok(registry)
}

/// Needs no token: it holds sums only, no name and no address.
pub(super) async fn page(State(app): State<App>) -> Result<Response, WebError> {
    let health = app.ingest.health();
    let text = registry(health.counts(), app.ingest.queued(), health.failing().is_none())
        .and_then(|registry| {
            let mut text = Vec::new();
            TextEncoder::new().encode(&registry.gather(), &mut text)?;
            Ok(text)
        })
        .map_err(|error| WebError::Internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
