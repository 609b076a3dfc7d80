//! Answers to questions for names.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, Order, View},
};
use crate::{
    enrich::Enrichment,
    store::DnsRow,
    web::lists::{DnsParams, Pairs, RCODES, kind_name, rcode_name},
};

/// So many records are shown; the rest stands in the tooltip.
const SHOWN: usize = 3;

/// `GET /dns`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<DnsParams>(app, uri).await
}

impl View for DnsParams {
    const TITLE: &'static str = "DNS";
    const PATH: &'static str = "/dns";
    const TABLE: &'static [Column] = &[
        ("Time", "", Some(Order::Both("newest", "oldest"))),
        ("Client", "address", Some(Order::Up("client"))),
        ("Name", "address", Some(Order::Up("name"))),
        ("Type", "", None),
        ("Result", "", None),
        ("Answers", "address wide", None),
        ("Answered by", "address", None),
        ("Router", "", None),
    ];
    const EMPTY: &'static str = "No answer matches.";

    fn note(sort: &str, pairs: &Pairs) -> Option<&'static str> {
        let is_walk = sort == "newest" || (sort == "oldest" && pairs.value("from").is_empty());
        (!is_walk).then_some(list::WINDOW_NOTE)
    }

    fn fields(pairs: &Pairs, routers: &[String]) -> Vec<Field> {
        let rcodes = RCODES.map(|(_, name)| (name, name));
        let kinds = ["A", "AAAA", "HTTPS", "PTR", "SRV", "TXT"].map(|name| (name, name));
        vec![
            Field::text(pairs, "q", "Search", "a part of a name"),
            Field::text(pairs, "device", "Client", "address"),
            Field::text(pairs, "domain", "Name", "example.org"),
            Field::choice(pairs, "type", "Type", kinds),
            Field::choice(pairs, "rcode", "Result", rcodes),
            Field::period(pairs),
            Field::text(pairs, "to", "Until", "2h (ago)"),
            Field::router(pairs, routers),
        ]
    }

    fn cells(row: DnsRow, pairs: &Pairs, _known: &Enrichment) -> Vec<Cell> {
        let narrow = |name, value: &str| pairs.link(Self::PATH, &[("cursor", ""), (name, value)]);
        let client = row.client.to_string();
        let answers: Vec<&str> = row.answers.iter().map(|answer| answer.data.as_str()).collect();
        let more = answers.len().saturating_sub(SHOWN);
        let mut shown = answers.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
        if more > 0 {
            shown.push_str(&format!(" and {more} more"));
        }
        let by = match row.resolver {
            _ if row.cached => "cache".to_owned(),
            None => "router".to_owned(),
            Some(resolver) => resolver.to_string(),
        };
        vec![
            Cell::time(row.time),
            Cell::text(&client).link(narrow("device", &client)),
            Cell::text(&row.name).link(narrow("domain", &row.name)),
            Cell::text(kind_name(row.kind)),
            Cell::text(rcode_name(row.rcode)),
            Cell::text(shown).title(answers.join(", ")),
            Cell::text(by),
            Cell::text(row.router_name),
        ]
    }
}
