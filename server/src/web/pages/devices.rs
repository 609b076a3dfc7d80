//! Devices in the LANs.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, Order, View},
};
use crate::{
    enrich::Enrichment,
    store::DeviceRow,
    web::{
        format,
        lists::{DeviceParams, Pairs},
    },
};

/// `GET /devices`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<DeviceParams>(app, uri).await
}

impl View for DeviceParams {
    const TITLE: &'static str = "Devices";
    const PATH: &'static str = "/devices";
    const TABLE: &'static [Column] = &[
        ("Name", "wide", None),
        ("Address", "address", None),
        ("Made by", "wide", None),
        ("First seen", "", Some(Order::Down("newest"))),
        ("Last seen", "", Some(Order::Down("last_seen"))),
        ("Router", "", None),
    ];
    const EMPTY: &'static str = "No device matches.";

    fn fields(pairs: &Pairs, routers: &[String]) -> Vec<Field> {
        vec![
            Field::text(pairs, "q", "Search", "a part of a name or an address"),
            Field::router(pairs, routers),
        ]
    }

    fn cells(row: DeviceRow, _pairs: &Pairs, known: &Enrichment) -> Vec<Cell> {
        let address = row.address.to_string();
        let flows = Pairs::default().link("/flows", &[("device", &address), ("router", &row.router_name)]);
        let vendor = row.mac.and_then(|mac| known.vendors.find(mac));
        let name = row.name.or_else(|| row.mac.map(format::mac)).unwrap_or_else(|| address.clone());
        vec![
            Cell::text(name).link(format!("/devices/{}", row.id)),
            Cell::text(address).link(flows),
            Cell::text(vendor.unwrap_or_default()).title(row.mac.map(format::mac).unwrap_or_default()),
            Cell::time(row.first_seen),
            Cell::time(row.last_seen),
            Cell::text(row.router_name),
        ]
    }
}
