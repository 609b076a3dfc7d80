//! Who moved most: devices, services and remote hosts, side by side.

use askama::Template;
use axum::{extract::State, http::Uri, response::Response};

use super::{App, Frame, WebError, render};
use crate::{
    domain::Micros,
    store::{TopBy, TopKey, TopRow},
    web::{
        format,
        lists::{Asked, By, Pairs, TopParams, ranked},
    },
};

/// What can be chosen; the second is the one that stands for no choice, here and in the API.
const PERIODS: [(&str, &str); 3] = [("1h", "the last hour"), ("24h", "24 hours"), ("30d", "30 days")];
const HOUR: Micros = 3_600_000_000;

#[derive(Template)]
#[template(path = "top/page.html")]
struct TopPage {
    frame: Frame,
    periods: Vec<(String, String)>,
    from: String,
    routers: Vec<String>,
    router: String,
    /// Beginning and end of what is covered, RFC 3339.
    span: Option<(String, String)>,
    unit: &'static str,
    rankings: Vec<RankingView>,
}

/// A ranking, ready to print.
struct RankingView {
    title: &'static str,
    first: &'static str,
    second: &'static str,
    rows: Vec<RowView>,
    csv: String,
    json: String,
}

#[derive(Default)]
struct RowView {
    first: String,
    second: String,
    title: String,
    link: Option<String>,
    by_initiator: String,
    by_responder: String,
    flows: i64,
}

/// `GET /top`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    match shown(&app, &uri).await {
        Ok(page) => page,
        Err(error) => error.into_page(),
    }
}

async fn shown(app: &App, uri: &Uri) -> Result<Response, WebError> {
    let Asked { params, pairs } = Asked::<TopParams>::read(uri)?;
    let routers = app.read(|reader| Ok(reader.router_names()?)).await?;
    let mut rankings = Vec::new();
    let mut covered = None;
    for (by, name, title, [first, second]) in [
        (TopBy::Device, "device", "Devices", ["Device", "Router"]),
        (TopBy::Service, "service", "Services", ["Port", "Protocol"]),
        (TopBy::Host, "host", "Remote hosts", ["Address", "Name"]),
    ] {
        let list = ranked(app, TopParams { by: Some(By(by)), ..params.clone() }).await?;
        covered = Some((list.from, list.to));
        let file = |path: &str| pairs.link(path, &[("by", name)]);
        rankings.push(RankingView {
            title,
            first,
            second,
            rows: list.rows.into_iter().map(|row| view(by, row, &pairs)).collect(),
            csv: file("/api/v1/top.csv"),
            json: file("/api/v1/top"),
        });
    }
    let from = Some(pairs.value("from")).filter(|from| !from.is_empty()).unwrap_or(PERIODS[1].0).to_owned();
    let mut periods = PERIODS.map(|(value, shown)| (value.to_owned(), shown.to_owned())).to_vec();
    // A value from a link is kept, although the form does not offer it.
    if !periods.iter().any(|(known, _)| *known == from) {
        periods.push((from.clone(), from.clone()));
    }
    render(&TopPage {
        frame: Frame::new(app, "top"),
        periods,
        from,
        routers,
        router: pairs.value("router").to_owned(),
        span: covered.map(|(from, to)| (format::rfc3339(from), format::rfc3339(to))),
        unit: covered.map_or("", |(from, to)| unit(from, to)),
        rankings,
    })
}

/// In what the span was counted: see `TopList`. What is covered begins and ends with whole ones.
fn unit(from: Micros, to: Micros) -> &'static str {
    match (to - from) / HOUR {
        ..4 => "minutes",
        4..=97 => "hours",
        _ => "days (UTC)",
    }
}

fn view(by: TopBy, row: TopRow, pairs: &Pairs) -> RowView {
    let counters = row.sums.counters;
    let mut shown = RowView {
        by_initiator: format::bytes(counters.bytes_orig),
        by_responder: format::bytes(counters.bytes_reply),
        flows: row.sums.flows,
        ..RowView::default()
    };
    match row.key {
        TopKey::Address { id, address } if by == TopBy::Device => {
            shown.title = address.to_string();
            shown.first = row.name.unwrap_or_else(|| address.to_string());
            shown.second = row.router_name.unwrap_or_default();
            shown.link = Some(format!("/devices/{id}"));
        }
        TopKey::Address { address, .. } => {
            shown.first = address.to_string();
            shown.second = row.name.unwrap_or_default();
            shown.link = Some(format!("/hosts/{address}"));
        }
        TopKey::Service { protocol, port } => {
            shown.second = format::protocol(protocol);
            // A protocol without ports is a service of its own.
            let number = if port == 0 { String::new() } else { port.to_string() };
            shown.first = if port == 0 { shown.second.clone() } else { format::port(protocol, port) };
            let narrow = [("by", ""), ("limit", ""), ("port", &number), ("protocol", &shown.second)];
            shown.link = Some(pairs.link("/flows", &narrow));
        }
        TopKey::Nobody if by == TopBy::Device => shown.first = "no device took part".to_owned(),
        TopKey::Nobody => shown.first = "inside".to_owned(),
        TopKey::Others => shown.first = "all others".to_owned(),
    }
    shown
}
