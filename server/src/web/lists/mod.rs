//! The lists as they are asked for over HTTP: the same parameters, filters and rows for pages, JSON and exports.

mod asked;
mod devices;
mod dns;
mod domains;
mod drops;
mod export;
mod flows;
mod gaps;
mod hosts;
mod live;
mod params;
mod routers;
mod top;

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

pub(super) use asked::{Asked, Pairs};
pub(super) use devices::{DeviceItem, DeviceParams};
pub(super) use dns::{DnsItem, DnsParams, RCODES, kind_name, rcode_name};
pub(super) use domains::{DomainItem, DomainParams};
pub(super) use drops::{DropItem, DropParams, HookName, tcp_flags};
pub(super) use export::{AT_ONCE, Format, export, file};
pub(super) use flows::{CountersItem, FlowItem, FlowParams};
pub(super) use gaps::{Cause, GapItem, GapParams};
pub(super) use hosts::{HostItem, HostParams};
pub(super) use live::{LiveParams, live};
pub(super) use params::{COUNT_LIMIT, DirectionName, MOST_ROWS};
pub(super) use routers::{RouterItem, RouterParams, Sort as RouterSort};
pub(super) use top::{By, TopItem, TopItems, TopParams, ranked, top};

use super::{App, WebError};
use crate::{
    cursor,
    domain::{Micros, RouterId},
    enrich::Enrichment,
    store::{Count, Page, PageOf, Position, Reader, StoreError},
};

/// A list. Implemented by its parameters.
pub(super) trait Listing: Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// What the database is asked for.
    type Filter: Send + Sync + 'static;
    /// What it answers.
    type Row: Send + 'static;
    /// What a script gets.
    type Item: Serialize + Send + 'static;

    /// The list's name in paths.
    const NAME: &'static str;
    /// The columns of an export: names of an item's fields, with a slash before a field of a field.
    const COLUMNS: &'static [&'static str];

    /// `cursor` and `limit`.
    fn paging(&self) -> (Option<&str>, Option<usize>);
    /// The same without them: what a cursor belongs to.
    fn without_paging(&self) -> Self;
    /// Whether its order is one of a window of rows: no file can have it, for it would end with the window.
    fn is_of_a_window(&self) -> bool {
        false
    }
    /// Looks up what the parameters name.
    fn filter(&self, reader: &Reader, now: Micros) -> Result<Self::Filter, WebError>;
    /// The same filter, which looks at what is known from elsewhere, too.
    fn with_known(filter: Self::Filter, _known: &Arc<Enrichment>) -> Self::Filter {
        filter
    }
    fn page(reader: &Reader, filter: &Self::Filter, page: Page) -> Result<PageOf<Self::Row>, StoreError>;
    fn count(reader: &Reader, filter: &Self::Filter, limit: u32) -> Result<Count, StoreError>;
    /// `known`: what is known from elsewhere.
    fn item(row: Self::Row, known: &Enrichment) -> Self::Item;
}

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    /// In the order of the list. They can be fewer than `limit` although there is a next page: then so many rows
    /// were searched that the rest has to be asked for.
    pub(super) items: Vec<T>,
    /// `cursor` of the next page; null: this is the last.
    pub(super) next: Option<String>,
    /// How many rows match, counted up to a limit.
    pub(super) total: u64,
    /// The counting stopped at `total`: there may be more.
    pub(super) total_capped: bool,
}

/// A page of rows with the cursor of the next one.
pub(super) struct Found<R> {
    pub(super) rows: Vec<R>,
    pub(super) next: Option<String>,
    pub(super) count: Count,
    /// See [`Listing::is_of_a_window`].
    pub(super) is_of_a_window: bool,
}

/// Reads a page and counts.
pub(super) async fn find<L: Listing>(app: &App, params: &L) -> Result<Found<L::Row>, WebError> {
    let (cursor, limit) = params.paging();
    let before = cursor.map(|cursor| decoded(L::NAME, &params.without_paging(), cursor)).transpose()?;
    let page = Page { before, limit: params::page_size(limit)? };
    let now = app.clock.now();
    let (asked, known) = (params.clone(), Arc::clone(&app.enrichment));
    let (part, count) = app
        .read(move |reader| {
            let filter = L::with_known(asked.filter(reader, now)?, &known);
            Ok((L::page(reader, &filter, page)?, L::count(reader, &filter, COUNT_LIMIT)?))
        })
        .await?;
    let next = part.next.map(|position| cursor::encode(L::NAME, &params.without_paging(), position));
    Ok(Found { rows: part.items, next, count, is_of_a_window: params.is_of_a_window() })
}

/// Where the next page begins.
fn decoded(list: &str, asked: &dyn Debug, text: &str) -> Result<Position, WebError> {
    cursor::decode(list, asked, text).ok_or_else(|| {
        WebError::BadRequest(
            "cursor: expected `next` of a page of this list with the same filters and order".to_owned(),
        )
    })
}

/// The id of a router that is named.
fn router_id(reader: &Reader, name: Option<&params::Name>) -> Result<Option<RouterId>, WebError> {
    let Some(params::Name(name)) = name else { return Ok(None) };
    match reader.router_id(name)? {
        None => Err(WebError::BadRequest(format!("router: {name:?} has never reported"))),
        known => Ok(known),
    }
}
