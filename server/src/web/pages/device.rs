//! One device: what it is, what is part of it, and what a person may say of it.

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;

use super::{App, Frame, WebError, render};
use crate::{
    domain::Micros,
    store::{DeviceDetail, DeviceRow, MinuteRow, StoreError},
    web::{format, lists::Pairs},
};

/// Longer than any name that people give.
const MOST_NAME: usize = 100;

const HOUR: Micros = 3_600_000_000;

#[derive(Template)]
#[template(path = "device/page.html")]
struct DevicePage {
    frame: Frame,
    id: i64,
    title: String,
    name: String,
    router: String,
    mac: String,
    vendor: String,
    addresses: Vec<(String, String)>,
    first_seen: String,
    last_seen: String,
    unexplained: Option<String>,
    hours: Vec<HourView>,
    parts: Vec<PartView>,
}

/// What moved in an hour. The rollups have the sums of the flows, whose directions are those of their beginnings: what a
/// device sent in all is in none of them.
struct HourView {
    at: String,
    by_initiator: String,
    by_responder: String,
    flows: i64,
}

/// A device that is shown as part of this one.
struct PartView {
    id: i64,
    shown: String,
}

/// `GET /devices/{id}`.
pub(in crate::web) async fn page(State(app): State<App>, Path(id): Path<i64>) -> Response {
    match shown(&app, id).await {
        Ok(page) => page,
        Err(error) => error.into_page(),
    }
}

async fn shown(app: &App, id: i64) -> Result<Response, WebError> {
    let now = app.clock.now();
    let (detail, minutes) = app
        .read(move |reader| {
            let detail = reader.device(id)?.ok_or(WebError::NotFound)?;
            let minutes = reader.device_minutes(id, now - 24 * HOUR, now)?;
            Ok((detail, minutes))
        })
        .await?;
    render(&view(app, detail, &minutes))
}

fn view(app: &App, detail: DeviceDetail, minutes: &[MinuteRow]) -> DevicePage {
    let DeviceDetail { device, addresses, parts, bytes } = detail;
    let flows_of = |address: &str| {
        Pairs::default().link("/flows", &[("device", address), ("router", &device.router_name)])
    };
    let (all, unnamed) = bytes;
    DevicePage {
        frame: Frame::new(app, "devices"),
        id: device.id,
        title: device.name.clone().unwrap_or_else(|| device.address.to_string()),
        name: device.name.clone().unwrap_or_default(),
        mac: device.mac.map(format::mac).unwrap_or_default(),
        vendor: device.mac.and_then(|mac| app.enrichment.vendors.find(mac)).unwrap_or_default(),
        addresses: addresses
            .iter()
            .map(|address| (address.to_string(), flows_of(&address.to_string())))
            .collect(),
        first_seen: format::rfc3339(device.first_seen),
        last_seen: format::rfc3339(device.last_seen),
        unexplained: (all > 0).then(|| {
            let share = 100.0 * unnamed as f64 / all as f64;
            format!("{share:.0} % of {}", format::bytes(all))
        }),
        hours: hours(minutes),
        parts: parts.iter().map(|part| PartView { id: part.id, shown: part_name(part) }).collect(),
        router: device.router_name,
    }
}

fn part_name(part: &DeviceRow) -> String {
    part.mac.map_or_else(|| part.address.to_string(), format::mac)
}

/// The minutes added up by the hour, the latest first.
fn hours(minutes: &[MinuteRow]) -> Vec<HourView> {
    let by_hour = minutes.chunk_by(|one, next| one.at.div_euclid(HOUR) == next.at.div_euclid(HOUR));
    let mut hours: Vec<HourView> = by_hour
        .filter_map(|minutes| {
            let sums = minutes.iter().map(|minute| minute.sums).reduce(|sum, next| sum.plus(next))?;
            Some(HourView {
                at: format::rfc3339(minutes.first()?.at.div_euclid(HOUR) * HOUR),
                by_initiator: format::bytes(sums.counters.bytes_orig),
                by_responder: format::bytes(sums.counters.bytes_reply),
                flows: sums.flows,
            })
        })
        .collect();
    hours.reverse();
    hours
}

/// What a person calls a device.
#[derive(Deserialize)]
pub(in crate::web) struct Named {
    name: String,
}

/// `POST /devices/{id}/name`.
pub(in crate::web) async fn name(
    State(app): State<App>,
    Path(id): Path<i64>,
    Form(Named { name }): Form<Named>,
) -> Response {
    let name = name.trim().to_owned();
    if name.is_empty() || name.len() > MOST_NAME || name.chars().any(char::is_control) {
        let why = format!("name: expected 1 to {MOST_NAME} bytes without control characters");
        return WebError::BadRequest(why).into_page();
    }
    let now = app.clock.now();
    let done = change(&app, id, move |writer| writer.name_device(id, &name, now).map(|()| true));
    answer(done.await, id, "")
}

/// The device that another one is part of, by any of its addresses.
#[derive(Deserialize)]
pub(in crate::web) struct Into {
    address: String,
}

/// `POST /devices/{id}/merge`: from now on the device is shown as part of the one with this address.
pub(in crate::web) async fn merge(
    State(app): State<App>,
    Path(id): Path<i64>,
    Form(Into { address }): Form<Into>,
) -> Response {
    match merged(&app, id, &address).await {
        Ok(whole) => Redirect::to(&format!("/devices/{whole}")).into_response(),
        Err(error) => error.into_page(),
    }
}

async fn merged(app: &App, id: i64, address: &str) -> Result<i64, WebError> {
    let address = address.trim().parse().map_err(|_| {
        WebError::BadRequest("address: expected the IPv4 or IPv6 address of a device".to_owned())
    })?;
    let whole = app
        .read(move |reader| {
            let device = reader.device(id)?.ok_or(WebError::NotFound)?.device;
            reader.device_at(device.router, address)?.ok_or_else(|| {
                WebError::BadRequest(format!("address: no device behind this router has {address}"))
            })
        })
        .await?;
    let now = app.clock.now();
    let done = app.ingest.chore(move |writer| writer.merge_devices(id, whole, now)).await?;
    if done { Ok(whole) } else { Err(WebError::BadRequest("these two are one device already".to_owned())) }
}

/// `POST /devices/{id}/split`: from now on the device is shown by itself again.
pub(in crate::web) async fn split(State(app): State<App>, Path(id): Path<i64>) -> Response {
    let now = app.clock.now();
    let done = change(&app, id, move |writer| writer.split_device(id, now));
    answer(done.await, id, "this device is not part of another one")
}

/// Has the writer change a device that there is.
async fn change(
    app: &App,
    id: i64,
    chore: impl FnOnce(&mut crate::store::Writer) -> Result<bool, StoreError> + Send + 'static,
) -> Result<bool, WebError> {
    app.read(move |reader| reader.device(id)?.ok_or(WebError::NotFound).map(drop)).await?;
    Ok(app.ingest.chore(chore).await?)
}

fn answer(done: Result<bool, WebError>, id: i64, why_not: &str) -> Response {
    match done {
        Ok(true) => Redirect::to(&format!("/devices/{id}")).into_response(),
        Ok(false) => WebError::BadRequest(why_not.to_owned()).into_page(),
        Err(error) => error.into_page(),
    }
}
