//! What is missing, and why.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, View},
    routers::meaning,
};
use crate::{
    enrich::Enrichment,
    store::GapEntry,
    web::{
        format,
        lists::{Cause, GapParams, Pairs},
    },
};

/// `GET /gaps`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<GapParams>(app, uri).await
}

impl View for GapParams {
    const TITLE: &'static str = "Gaps";
    const PATH: &'static str = "/gaps";
    const TABLE: &'static [Column] = &[
        ("From", "", None),
        ("To", "", None),
        ("Router", "", None),
        ("Cause", "", None),
        ("Count", "num", None),
        ("Meaning", "wide", None),
        ("Detail", "wide", None),
    ];
    const EMPTY: &'static str = "No gap matches: nothing is missing here.";

    fn fields(pairs: &Pairs, routers: &[String]) -> Vec<Field> {
        let causes = Cause::names().into_iter().map(|name| (name.clone(), name.replace('_', " ")));
        vec![
            Field::choice(pairs, "cause", "Cause", causes),
            Field::period(pairs),
            Field::router(pairs, routers),
        ]
    }

    fn cells(row: GapEntry, pairs: &Pairs, _known: &Enrichment) -> Vec<Cell> {
        let cause = format::gap_cause(row.gap.cause);
        let same = pairs.link(Self::PATH, &[("cursor", ""), ("cause", &cause)]);
        vec![
            Cell::time(row.gap.from),
            Cell::time(row.gap.to),
            Cell::text(row.router_name),
            Cell::text(cause.replace('_', " ")).link(same),
            Cell::text(row.gap.count.to_string()),
            Cell::text(meaning(row.gap.cause)),
            Cell::text(row.gap.detail),
        ]
    }
}
