//! Rankings: who moved most in a span. A list without pages: its rows are few, and the next are not worth a question.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    CountersItem,
    params::{Limit, Moment, Name, one_of, optional, page_size},
    router_id,
};
use crate::{
    enrich,
    ranking::{self, Question, RankingError},
    store::{TopBy, TopKey, TopList, TopRow},
    web::{App, WebError, format},
};

/// Which ranking.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::web) struct TopParams {
    /// `device` (the default), `service` (a protocol and the responder's port) or `host`.
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    pub(in crate::web) by: Option<By>,
    /// From this time: RFC 3339, or so long ago (`90m`, `24h`, `7d`). The default: 24 hours before `to`.
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    pub(in crate::web) from: Option<Moment>,
    /// To this time: RFC 3339, or so long ago. The default: now.
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    pub(in crate::web) to: Option<Moment>,
    /// Seen by this router.
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    pub(in crate::web) router: Option<Name>,
    /// The most items to give; the default: 10.
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<i32>, minimum = 1, maximum = 1000)]
    pub(in crate::web) limit: Option<Limit>,
}

/// What is ranked.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct By(pub(in crate::web) TopBy);

fn by_name(by: TopBy) -> &'static str {
    match by {
        TopBy::Device => "device",
        TopBy::Service => "service",
        TopBy::Host => "host",
    }
}

impl std::str::FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, [TopBy::Device, TopBy::Service, TopBy::Host], by_name).map(Self)
    }
}

/// Reads a ranking.
pub(in crate::web) async fn ranked(app: &App, params: TopParams) -> Result<TopList, WebError> {
    let now = app.clock.now();
    let limit = params.limit.map(|limit| page_size(Some(limit.0))).transpose()?;
    app.read(move |reader| {
        let question = Question {
            by: params.by.map_or(TopBy::Device, |by| by.0),
            router: router_id(reader, params.router.as_ref())?,
            from: params.from.map(|from| from.at(now)),
            to: params.to.map(|to| to.at(now)),
            limit,
        };
        ranking::read(reader, question, now).map_err(|error| match error {
            RankingError::Backwards => WebError::BadRequest(format!("from: {error}")),
            RankingError::Store(error) => error.into(),
        })
    })
    .await
}

/// A ranking, what moved most bytes first.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct TopItems {
    /// RFC 3339. The span that is covered: whole minutes up to three hours, whole hours up to four days, else whole
    /// days (UTC).
    from: String,
    /// RFC 3339: its end.
    to: String,
    pub(in crate::web) items: Vec<TopItem>,
}

/// A row of a ranking. `orig` is what was sent by who began the flows, `reply` what was sent by who answered:
/// neither is up or down.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct TopItem {
    /// `device`, `service` or `host`; `nobody`: traffic without a device or without an outside address; `others`:
    /// what an hour or a day that is over no longer tells apart.
    pub(in crate::web) kind: &'static str,
    /// Of a device or a host: what its page is called by.
    pub(in crate::web) id: Option<i64>,
    /// Of a device or a host.
    #[schema(value_type = Option<String>)]
    pub(in crate::web) address: Option<IpAddr>,
    /// Of a device: the router that it is behind.
    pub(in crate::web) router: Option<String>,
    /// A device's name, a host's by reverse DNS, a service's by IANA; null: none is known.
    pub(in crate::web) name: Option<String>,
    /// Of a service: the IANA keyword in lower case, or the number.
    pub(in crate::web) protocol: Option<String>,
    /// Of a service: the responder's port, after destination NAT. Zero where there are no ports.
    pub(in crate::web) port: Option<u16>,
    /// Those that began in the span.
    pub(in crate::web) flows: i64,
    #[serde(flatten)]
    counters: CountersItem,
}

impl TopItem {
    /// The columns of a file.
    pub(in crate::web) const COLUMNS: &'static [&'static str] = &[
        "kind",
        "id",
        "address",
        "router",
        "name",
        "protocol",
        "port",
        "flows",
        "bytes_orig",
        "bytes_reply",
        "packets_orig",
        "packets_reply",
    ];

    fn new(by: TopBy, row: TopRow) -> Self {
        let mut item = Self {
            kind: by_name(by),
            id: None,
            address: None,
            router: row.router_name,
            name: row.name,
            protocol: None,
            port: None,
            flows: row.sums.flows,
            counters: row.sums.counters.into(),
        };
        match row.key {
            TopKey::Address { id, address } => (item.id, item.address) = (Some(id), Some(address)),
            TopKey::Service { protocol, port } => {
                (item.protocol, item.port) = (Some(format::protocol(protocol)), Some(port));
                item.name = enrich::service(protocol, port).map(str::to_owned);
            }
            TopKey::Nobody => item.kind = "nobody",
            TopKey::Others => item.kind = "others",
        }
        item
    }
}

/// Reads a ranking, ready to be told.
pub(in crate::web) async fn top(app: &App, params: TopParams) -> Result<TopItems, WebError> {
    let by = params.by.map_or(TopBy::Device, |by| by.0);
    let list = ranked(app, params).await?;
    Ok(TopItems {
        from: format::rfc3339(list.from),
        to: format::rfc3339(list.to),
        items: list.rows.into_iter().map(|row| TopItem::new(by, row)).collect(),
    })
}
