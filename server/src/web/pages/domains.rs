//! Names that were asked for.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, Order, View},
};
use crate::{
    enrich::Enrichment,
    store::DomainRow,
    web::lists::{DomainParams, Pairs},
};

/// `GET /domains`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<DomainParams>(app, uri).await
}

impl View for DomainParams {
    const TITLE: &'static str = "Domains";
    const PATH: &'static str = "/domains";
    const TABLE: &'static [Column] = &[
        ("Name", "address", None),
        ("First seen", "", Some(Order::Down("newest"))),
        ("Last seen", "", Some(Order::Down("last_seen"))),
        ("Of it", "", None),
    ];
    const EMPTY: &'static str = "No domain matches.";

    fn fields(pairs: &Pairs, _routers: &[String]) -> Vec<Field> {
        vec![Field::text(pairs, "q", "Search", "a part of a name")]
    }

    fn cells(row: DomainRow, _pairs: &Pairs, _known: &Enrichment) -> Vec<Cell> {
        let of = |path| Pairs::default().link(path, &[("domain", &row.name)]);
        vec![
            Cell::text(&row.name).link(of("/flows")),
            Cell::time(row.first_seen),
            Cell::time(row.last_seen),
            Cell::text("DNS").link(of("/dns")),
        ]
    }
}
