//! Addresses outside.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, Order, View},
};
use crate::{
    enrich::Enrichment,
    store::HostRow,
    web::lists::{HostParams, Pairs},
};

/// `GET /hosts`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<HostParams>(app, uri).await
}

impl View for HostParams {
    const TITLE: &'static str = "Remote hosts";
    const PATH: &'static str = "/hosts";
    const TABLE: &'static [Column] = &[
        ("Address", "address", None),
        ("Name", "wide", None),
        ("Network", "wide", None),
        ("Country", "", None),
        ("First seen", "", Some(Order::Down("newest"))),
        ("Last seen", "", Some(Order::Down("last_seen"))),
    ];
    const EMPTY: &'static str = "No remote host matches.";

    fn fields(pairs: &Pairs, _routers: &[String]) -> Vec<Field> {
        vec![Field::text(pairs, "q", "Search", "a part of an address, a name or a network")]
    }

    fn cells(row: HostRow, _pairs: &Pairs, known: &Enrichment) -> Vec<Cell> {
        let address = row.address.to_string();
        let page = format!("/hosts/{address}");
        let network = known.networks.find(row.address);
        let country = network.country.clone().unwrap_or_default();
        vec![
            Cell::text(address).link(page),
            Cell::text(row.name.unwrap_or_default()),
            Cell::text(network.label()),
            Cell::text(country),
            Cell::time(row.first_seen),
            Cell::time(row.last_seen),
        ]
    }
}
