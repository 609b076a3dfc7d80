//! Devices in the LANs.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, View},
};
use crate::{
    store::DeviceRow,
    web::lists::{DeviceParams, Pairs},
};

/// `GET /devices`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<DeviceParams>(app, uri).await
}

impl View for DeviceParams {
    const TITLE: &'static str = "Devices";
    const PATH: &'static str = "/devices";
    const TABLE: &'static [Column] = &[
        ("Address", "address", None),
        ("First seen", "", Some("newest")),
        ("Last seen", "", Some("last_seen")),
        ("Router", "", None),
    ];
    const EMPTY: &'static str = "No device matches.";

    fn fields(pairs: &Pairs, routers: &[String]) -> Vec<Field> {
        vec![Field::text(pairs, "q", "Search", "a part of an address"), Field::router(pairs, routers)]
    }

    fn cells(row: DeviceRow, _pairs: &Pairs) -> Vec<Cell> {
        let address = row.address.to_string();
        let flows = Pairs::default().link("/flows", &[("device", &address), ("router", &row.router_name)]);
        vec![
            Cell::text(address).link(flows),
            Cell::time(row.first_seen),
            Cell::time(row.last_seen),
            Cell::text(row.router_name),
        ]
    }
}
