//! Packets that firewalls dropped.

use axum::{extract::State, http::Uri, response::Response};

use super::{
    App,
    list::{self, Cell, Column, Field, Order, View},
};
use crate::{
    domain::Hook,
    enrich::Enrichment,
    store::DropRow,
    web::{
        format,
        lists::{DropParams, HookName, Pairs, tcp_flags},
    },
};

/// `GET /drops`.
pub(in crate::web) async fn page(State(app): State<App>, uri: Uri) -> Response {
    list::show::<DropParams>(app, uri).await
}

impl View for DropParams {
    const TITLE: &'static str = "Dropped packets";
    const PATH: &'static str = "/drops";
    const TABLE: &'static [Column] = &[
        ("Time", "", Some(Order::Both("newest", "oldest"))),
        ("Source", "address", Some(Order::Up("source"))),
        ("Destination", "address", None),
        ("Port", "", Some(Order::Up("port"))),
        ("Protocol", "", None),
        ("Flags", "", None),
        ("Rule", "", None),
        ("Hook", "", None),
        ("Interfaces", "", None),
        ("Left out", "num", Some(Order::Down("left_out"))),
        ("Router", "", None),
    ];
    const EMPTY: &'static str = "No dropped packet matches.";

    fn note(sort: &str, pairs: &Pairs) -> Option<&'static str> {
        let is_walk = sort == "newest" || (sort == "oldest" && pairs.value("from").is_empty());
        (!is_walk).then_some(list::WINDOW_NOTE)
    }

    fn fields(pairs: &Pairs, routers: &[String]) -> Vec<Field> {
        let hooks = HookName::ALL.map(|hook| (hook.name(), hook.name()));
        vec![
            Field::text(pairs, "q", "Rule", "a part of its prefix"),
            Field::text(pairs, "device", "Device", "address"),
            Field::text(pairs, "host", "Remote host", "address"),
            Field::text(pairs, "source", "Source", "address"),
            Field::text(pairs, "port", "Port", "22"),
            Field::text(pairs, "protocol", "Protocol", "tcp"),
            Field::choice(pairs, "hook", "Hook", hooks),
            Field::text(pairs, "interface", "Interface", "wan"),
            Field::period(pairs),
            Field::text(pairs, "to", "Until", "2h (ago)"),
            Field::router(pairs, routers),
        ]
    }

    fn cells(row: DropRow, pairs: &Pairs, _known: &Enrichment) -> Vec<Cell> {
        let narrow = |name, value: &str| pairs.link(Self::PATH, &[("cursor", ""), (name, value)]);
        let port = match row.icmp_type {
            Some(kind) => Cell::text(format!("type {kind}")),
            None if row.dst_port == 0 => Cell::default(),
            None => {
                let known = u8::try_from(row.protocol).ok().zip(u16::try_from(row.dst_port).ok());
                let port = row.dst_port.to_string();
                let shown =
                    known.map_or_else(|| port.clone(), |(protocol, port)| format::port(protocol, port));
                Cell::text(shown).link(narrow("port", &port))
            }
        };
        let source = row.src.to_string();
        let interfaces = [row.in_interface, row.out_interface];
        let interfaces: Vec<String> = interfaces.into_iter().filter(|name| !name.is_empty()).collect();
        vec![
            Cell::time(row.time),
            Cell::text(&source).link(narrow("source", &source)),
            Cell::text(row.dst.to_string()),
            port,
            Cell::text(
                u8::try_from(row.protocol).map_or_else(|_| row.protocol.to_string(), format::protocol),
            ),
            Cell::text(row.tcp_flags.map(tcp_flags).unwrap_or_default()),
            Cell::text(&row.prefix).link(narrow("q", &row.prefix)),
            Cell::text(if row.hook == Hook::Unknown { "" } else { row.hook.name() }),
            Cell::text(interfaces.join(" → ")),
            Cell::text(if row.left_out == 0 { String::new() } else { row.left_out.to_string() }),
            Cell::text(row.router_name),
        ]
    }
}
