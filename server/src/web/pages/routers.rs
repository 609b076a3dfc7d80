//! The routers: when each was last heard, and what is missing of it.

use askama::Template;
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};

use super::{
    App, Frame, WebError,
    list::{self, Pager},
    render,
};
use crate::{
    domain::Micros,
    store::{RouterHealth, RouterRow},
    web::{
        format,
        lists::{Asked, Listing as _, Pairs, RouterParams, RouterSort, find},
    },
};

const PATH: &str = "/routers";

/// An agent that has not been heard of for so long is shown as silent: three heartbeats.
const SILENT_US: Micros = 90_000_000;

#[derive(Template)]
#[template(path = "routers/page.html")]
struct RoutersPage {
    frame: Frame,
    q: String,
    /// Names of all orders, and what they are called.
    orders: [(&'static str, &'static str); 3],
    sort: String,
    wrong: Option<String>,
    counts: String,
    routers: Vec<RouterView>,
    pager: Pager,
}

/// A router, ready to print.
struct RouterView {
    name: String,
    silent: bool,
    last_heard: String,
    heard_ago: String,
    lag: String,
    skew: String,
    version: String,
    host: String,
    open_flows: String,
    spool: String,
    memory: String,
    health: Option<HealthView>,
    warnings: Vec<String>,
    losses: Vec<LossView>,
}

/// How its machine is.
struct HealthView {
    load: String,
    memory: String,
    disk: String,
    conntrack: String,
    temperature: Option<String>,
    up: String,
}

/// What is missing for one cause.
struct LossView {
    cause: String,
    meaning: &'static str,
    count: i64,
    last: String,
    last_ago: String,
}

/// `GET /routers`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    let pairs = Pairs::of(&uri);
    let answer = match found(&app, &uri).await {
        Ok((next, counts, rows)) => shown(&app, &pairs, next, counts, rows),
        Err(WebError::BadRequest(why)) => refused(&app, &pairs, why),
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(WebError::into_page)
}

type Found = (Option<String>, String, Vec<(RouterRow, Option<RouterHealth>)>);

/// A page of the list, each router with how its machine is.
async fn found(app: &App, uri: &Uri) -> Result<Found, WebError> {
    let asked = Asked::<RouterParams>::read(uri)?;
    let found = find(app, &asked.params).await?;
    let counts = list::counts(&found);
    let rows = app
        .read(move |reader| {
            let with_health = |row: RouterRow| {
                let health = match row.last_heard {
                    Some(heard) => reader.router_health(row.id, heard)?,
                    None => None,
                };
                Ok((row, health))
            };
            found.rows.into_iter().map(with_health).collect::<Result<Vec<_>, WebError>>()
        })
        .await?;
    Ok((found.next, counts, rows))
}

fn shown(
    app: &App,
    pairs: &Pairs,
    next: Option<String>,
    counts: String,
    rows: Vec<(RouterRow, Option<RouterHealth>)>,
) -> Result<Response, WebError> {
    let now = app.clock.now();
    let pager = Pager::new(RouterParams::NAME, PATH, pairs, next.as_deref(), rows.is_empty());
    let routers = rows.into_iter().map(|(row, health)| view(row, health, now)).collect();
    render(&RoutersPage { counts, routers, ..form(app, pairs, pager) })
}

/// The form as it was filled in, and what is wrong with it.
fn refused(app: &App, pairs: &Pairs, why: String) -> Result<Response, WebError> {
    let pager = Pager::new(RouterParams::NAME, PATH, pairs, None, true);
    let page = render(&RoutersPage { wrong: Some(why), ..form(app, pairs, pager) })?;
    Ok((StatusCode::BAD_REQUEST, page).into_response())
}

/// The page with the form alone.
fn form(app: &App, pairs: &Pairs, pager: Pager) -> RoutersPage {
    RoutersPage {
        frame: Frame::new(app, "routers"),
        q: pairs.value("q").to_owned(),
        orders: RouterSort::ALL,
        sort: pairs.value("sort").to_owned(),
        wrong: None,
        counts: String::new(),
        routers: Vec::new(),
        pager,
    }
}

fn view(row: RouterRow, health: Option<RouterHealth>, now: Micros) -> RouterView {
    let last_heard = row.last_heard.unwrap_or(row.first_seen);
    let host = [row.hostname, row.os, row.kernel, row.architecture];
    let host: Vec<String> = host.into_iter().flatten().filter(|fact| !fact.is_empty()).collect();
    RouterView {
        name: row.name,
        silent: now - last_heard > SILENT_US,
        last_heard: format::rfc3339(last_heard),
        heard_ago: format::duration(now - last_heard),
        lag: row.lag_us.map(lag).unwrap_or_default(),
        skew: row.clock_skew_us.map(skew).unwrap_or_default(),
        version: row.agent_version.unwrap_or_default(),
        host: host.join(", "),
        open_flows: row.open_flows.map(|number| number.to_string()).unwrap_or_default(),
        spool: row.spool_bytes.map(format::bytes).unwrap_or_default(),
        memory: row.memory_bytes.map(format::bytes).unwrap_or_default(),
        health: health.map(machine),
        warnings: row.warnings.unwrap_or_default().lines().map(str::to_owned).collect(),
        losses: row
            .losses
            .into_iter()
            .map(|loss| LossView {
                meaning: meaning(loss.cause),
                cause: format::gap_cause(loss.cause),
                count: loss.count,
                last: format::rfc3339(loss.last),
                last_ago: format::duration(now - loss.last),
            })
            .collect(),
    }
}

fn machine(health: RouterHealth) -> HealthView {
    let load = [health.load1_milli, health.load5_milli, health.load15_milli];
    let of = |part: i64, whole: i64| format!("{} of {}", format::bytes(part), format::bytes(whole));
    HealthView {
        load: load.map(|milli| format!("{:.2}", milli as f64 / 1000.0)).join(" "),
        memory: of(health.memory_available_bytes, health.memory_total_bytes),
        disk: of(health.disk_free_bytes, health.disk_total_bytes),
        conntrack: format!("{} of {}", health.conntrack_count, health.conntrack_max),
        temperature: health.temperature_milli_c.map(|milli| format!("{:.1} °C", f64::from(milli) / 1000.0)),
        up: format::duration(health.uptime_s.saturating_mul(1_000_000)),
    }
}

/// Milliseconds, as long as they say something.
fn lag(us: i64) -> String {
    if us < 10_000_000 { format!("{} ms", us / 1000) } else { format::duration(us) }
}

/// Small differences are the network's; they are not worth a reader's time.
fn skew(us: i64) -> String {
    if us.abs() < 1_000_000 {
        return "none".to_owned();
    }
    let side = if us > 0 { "ahead" } else { "behind" };
    format!("{} {side}", format::duration(us.abs()))
}

/// What a cause means to the owner.
pub(super) fn meaning(cause: i16) -> &'static str {
    use netmon_proto::v1::GapCause;
    match GapCause::try_from(i32::from(cause)) {
        Ok(GapCause::KernelOverrun) => {
            "times the kernel's event buffer overran; flows were read again from its table"
        }
        Ok(GapCause::SpoolFull) => "events dropped because the agent's spool was full",
        Ok(GapCause::SpoolCorrupt) => "batches lost to damage in the agent's spool",
        Ok(GapCause::SpoolWrite) => "events lost because the agent's spool could not be written",
        Ok(GapCause::AgentDown) => "times the agent was not running",
        Ok(GapCause::FlowEndUnseen) => "flows whose end nobody saw: their last bytes are not known",
        Ok(GapCause::Decode) => "kernel messages that could not be read",
        Ok(GapCause::Refused) => "events that this server refused as invalid",
        Ok(GapCause::ServerState) => "batches acknowledged by a server that is not this database",
        Ok(GapCause::Flood) => "events left out by the flood guard",
        Ok(GapCause::QueueFull) => "events dropped because the agent's queue was full",
        Ok(GapCause::ProgressSkipped) => "progress reports left out under pressure: no bytes are lost",
        Ok(GapCause::LogLines) => "lines of the DNS log that were lost before they could be read",
        Ok(GapCause::Unspecified) | Err(_) => "",
    }
}
