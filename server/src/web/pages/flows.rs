//! Flows, open and ended.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, Order, View},
};
use crate::{
    domain::{Direction, FlowRecord},
    enrich::Enrichment,
    store::FlowRow,
    web::{
        format,
        lists::{DirectionName, FlowParams, Pairs},
    },
};

/// `GET /flows`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<FlowParams>(app, uri).await
}

impl View for FlowParams {
    const TITLE: &'static str = "Flows";
    const PATH: &'static str = "/flows";
    const TABLE: &'static [Column] = &[
        ("Began", "", Some(Order::Down("newest"))),
        ("Device", "address", None),
        ("Direction", "", None),
        ("Destination", "address", None),
        ("Name", "address", None),
        ("Port", "", None),
        ("Protocol", "", None),
        ("State", "", None),
        ("Up", "num", None),
        ("Down", "num", None),
        ("Took", "num", Some(Order::Down("duration"))),
        ("Last moved", "", Some(Order::Down("last_seen"))),
        ("Router", "", None),
    ];
    const MORE_ORDERS: &'static [(&'static str, &'static str)] = &[("bytes", "Up and down ▾")];
    const EMPTY: &'static str = "No flow matches.";

    fn note(sort: &str, _pairs: &Pairs) -> Option<&'static str> {
        (sort != "newest").then_some(list::WINDOW_NOTE)
    }

    fn fields(pairs: &Pairs, routers: &[String]) -> Vec<Field> {
        let directions = DirectionName::ALL.map(|direction| (direction.name(), direction.name()));
        vec![
            Field::text(pairs, "q", "Search", "address, port, protocol"),
            Field::text(pairs, "device", "Device", "address"),
            Field::text(pairs, "host", "Remote host", "address"),
            Field::text(pairs, "domain", "Name", "example.org"),
            Field::text(pairs, "port", "Port", "443"),
            Field::text(pairs, "protocol", "Protocol", "tcp"),
            Field::choice(pairs, "direction", "Direction", directions),
            Field::choice(pairs, "ended", "State", [("false", "open"), ("true", "ended")]),
            Field::period(pairs),
            Field::router(pairs, routers),
        ]
    }

    fn cells(row: FlowRow, pairs: &Pairs, _known: &Enrichment) -> Vec<Cell> {
        let FlowRow { router_name, flow } = row;
        let ends = Ends::of(&flow);
        let narrow = |name, value: &str| pairs.link(Self::PATH, &[("cursor", ""), (name, value)]);
        // What is a device or a host leads to all of its flows; another address is searched for.
        let (device_name, host_name) = if flow.device.is_some() { ("device", "host") } else { ("q", "host") };
        let host_name = if flow.remote.is_some() { host_name } else { "q" };
        let name = flow.name.as_ref().and_then(|name| Some((name.domain.as_deref()?, name.confidence)));
        let name = name.map_or_else(Cell::default, |(domain, confidence)| {
            Cell::text(domain).link(narrow("domain", domain)).title(format!("{domain}, {confidence} % sure"))
        });
        let port = match flow.icmp {
            Some(icmp) => Cell::text(format!("type {}", icmp.kind)),
            None if flow.service_port() == 0 => Cell::default(),
            None => {
                let port = flow.service_port();
                Cell::text(format::port(flow.key.protocol, port)).link(narrow("port", &port.to_string()))
            }
        };
        let state = match flow.end {
            None => format::state(&flow),
            Some(crate::domain::End::Seen) => "ended",
            Some(crate::domain::End::Unseen) => "end unseen",
        };
        vec![
            Cell::time(flow.first_seen),
            Cell::text(&ends.near).link(narrow(device_name, &ends.near)),
            Cell::text(flow.direction.name()),
            Cell::text(&ends.far).link(narrow(host_name, &ends.far)),
            name,
            port,
            Cell::text(format::protocol(flow.key.protocol)),
            Cell::text(state).title(format!("{} {}", format::state(&flow), format::flags(flow.status))),
            Cell::text(format::bytes(ends.up)),
            Cell::text(format::bytes(ends.down)),
            Cell::text(format::duration(flow.last_seen - flow.first_seen)),
            Cell::time(flow.last_seen),
            Cell::text(router_name),
        ]
    }
}

/// A flow seen from its device: "up" is what leaves it.
struct Ends {
    near: String,
    far: String,
    up: i64,
    down: i64,
}

impl Ends {
    fn of(flow: &FlowRecord) -> Self {
        let tuple = flow.key.tuple;
        let responder = flow.reply.map_or(tuple.dst, |reply| reply.src);
        let counters = flow.counters;
        // A flow from outside has its device at the far end.
        if flow.direction == Direction::In {
            return Self {
                near: responder.to_string(),
                far: tuple.src.to_string(),
                up: counters.bytes_reply,
                down: counters.bytes_orig,
            };
        }
        Self {
            near: tuple.src.to_string(),
            far: responder.to_string(),
            up: counters.bytes_orig,
            down: counters.bytes_reply,
        }
    }
}
