//! What all pages of lists have in common: a form that filters, a table whose headings sort, the way to the next
//! page, and the same rows as files.

use askama::Template;
use axum::{
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};

use super::{App, Frame, WebError, render};
use crate::{
    domain::Micros,
    enrich::Enrichment,
    web::{
        format,
        lists::{Asked, Found, Listing, Pairs, find},
    },
};

#[derive(Template)]
#[template(path = "list/page.html")]
struct ListPage {
    frame: Frame,
    title: &'static str,
    path: &'static str,
    fields: Vec<Field>,
    filtered: bool,
    counts: String,
    wrong: Option<String>,
    note: Option<&'static str>,
    heads: Vec<Head>,
    rows: Vec<Vec<Cell>>,
    empty: &'static str,
    pager: Pager,
}

/// The way to other rows.
pub(super) struct Pager {
    pub(super) first: Option<String>,
    pub(super) next: Option<String>,
    /// There are no rows here.
    pub(super) empty: bool,
    /// All of it.
    pub(super) files: [(&'static str, String); 2],
    /// Its first page.
    pub(super) json: String,
}

impl Pager {
    /// For the list of this name, shown at this path.
    pub(super) fn new(name: &str, path: &str, pairs: &Pairs, next: Option<&str>, empty: bool) -> Self {
        Self {
            first: (!pairs.value("cursor").is_empty()).then(|| pairs.link(path, &[("cursor", "")])),
            next: next.map(|next| pairs.link(path, &[("cursor", next)])),
            empty,
            files: files(name, pairs, &[("cursor", ""), ("limit", "")]),
            json: pairs.link(&format!("/api/v1/{name}"), &[("cursor", ""), ("limit", "")]),
        }
    }
}

/// The files of a list, with these values of its query changed.
fn files(name: &str, pairs: &Pairs, changes: &[(&str, &str)]) -> [(&'static str, String); 2] {
    [("CSV", ".csv"), ("JSON lines", ".jsonl")]
        .map(|(kind, end)| (kind, pairs.link(&format!("/api/v1/{name}{end}"), changes)))
}

/// A field of the form.
pub(super) struct Field {
    name: &'static str,
    label: &'static str,
    value: String,
    placeholder: &'static str,
    /// What can be chosen: values and how they are shown. Empty: anything can be typed.
    choices: Vec<(String, String)>,
}

/// A heading of the table.
pub(super) struct Head {
    text: &'static str,
    class: &'static str,
    /// Sorts by it, or the other way round.
    link: Option<String>,
    /// `ascending` or `descending`; empty: the rows are not sorted by it.
    sorted: &'static str,
}

/// A cell of the table, ready to print.
#[derive(Default)]
pub(super) struct Cell {
    text: String,
    class: &'static str,
    link: Option<String>,
    /// RFC 3339, of a text that is a time.
    time: String,
    title: String,
    /// The heading, for narrow screens.
    label: &'static str,
}

/// A column: its heading, how it looks, and the order that it stands for.
pub(super) type Column = (&'static str, &'static str, Option<Order>);

/// The names of the orders that a column stands for.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// What is newest or most comes first.
    Down(&'static str),
    /// What is least or the alphabet's first comes first.
    Up(&'static str),
    /// The first or the second.
    Both(&'static str, &'static str),
}

impl Order {
    /// The names, and how each sorts.
    fn names(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let (down, up) = match self {
            Self::Down(down) => (Some(down), None),
            Self::Up(up) => (None, Some(up)),
            Self::Both(down, up) => (Some(down), Some(up)),
        };
        let named = |name: Option<_>, sorted| name.map(|name| (name, sorted)).into_iter();
        named(down, "descending").chain(named(up, "ascending"))
    }
}

/// What is said of rows that are those of a window in an order of their own.
pub(super) const WINDOW_NOTE: &str =
    "In this order: the newest 20,000 that were searched. A shorter time or a device narrows it.";

/// A list's page.
pub(super) trait View: Listing {
    const TITLE: &'static str;
    const PATH: &'static str;
    const TABLE: &'static [Column];
    /// Orders that no column stands for, and what they are called.
    const MORE_ORDERS: &'static [(&'static str, &'static str)] = &[];
    /// What is said where there is no row.
    const EMPTY: &'static str;

    /// What is said of an order, if that is asked for.
    fn note(_sort: &str, _pairs: &Pairs) -> Option<&'static str> {
        None
    }

    fn fields(pairs: &Pairs, routers: &[String]) -> Vec<Field>;
    /// The cells of a row, in the order of the columns.
    fn cells(row: Self::Row, pairs: &Pairs, known: &Enrichment) -> Vec<Cell>;
}

/// Answers a request for a list's page.
pub(super) async fn show<V: View>(app: App, uri: Uri) -> Response {
    let answer = match Asked::<V>::read(&uri) {
        Ok(asked) => match find(&app, &asked.params).await {
            Ok(found) => page::<V>(&app, &asked.pairs, Some(found), None).await,
            Err(WebError::BadRequest(why)) => refused::<V>(&app, &asked.pairs, why).await,
            Err(error) => Err(error),
        },
        Err(error) => refused::<V>(&app, &Pairs::of(&uri), error.to_string()).await,
    };
    answer.unwrap_or_else(WebError::into_page)
}

/// The form as it was filled in, and what is wrong with it.
async fn refused<V: View>(app: &App, pairs: &Pairs, why: String) -> Result<Response, WebError> {
    let page = page::<V>(app, pairs, None, Some(why)).await?;
    Ok((StatusCode::BAD_REQUEST, page).into_response())
}

async fn page<V: View>(
    app: &App,
    pairs: &Pairs,
    found: Option<Found<V::Row>>,
    wrong: Option<String>,
) -> Result<Response, WebError> {
    let routers = app.read(|reader| Ok(reader.router_names()?)).await?;
    let mut fields = V::fields(pairs, &routers);
    let filtered = fields.iter().any(|field| !field.value.is_empty());
    let sort = sort::<V>(pairs);
    fields.extend(Field::order::<V>(sort));
    let heads = V::TABLE.iter().map(|(text, class, order)| Head::new::<V>(text, class, *order, sort, pairs));
    let next = found.as_ref().and_then(|found| found.next.clone());
    let empty = found.as_ref().is_none_or(|found| found.rows.is_empty());
    let mut pager = Pager::new(V::NAME, V::PATH, pairs, next.as_deref(), empty);
    if found.as_ref().is_some_and(|found| found.is_of_a_window) {
        // A file has all of the list, in the first order.
        pager.files = files(V::NAME, pairs, &[("cursor", ""), ("limit", ""), ("sort", "")]);
    }
    let page = ListPage {
        frame: Frame::new(app, V::NAME),
        title: V::TITLE,
        path: V::PATH,
        filtered: filtered || wrong.is_some(),
        fields,
        counts: found.as_ref().map(counts).unwrap_or_default(),
        note: V::note(sort, pairs),
        wrong,
        heads: heads.collect(),
        rows: found
            .map(|found| {
                found
                    .rows
                    .into_iter()
                    .map(|row| labelled::<V>(V::cells(row, pairs, &app.enrichment)))
                    .collect()
            })
            .unwrap_or_default(),
        empty: if next.is_some() { "Nothing among the rows that were searched." } else { V::EMPTY },
        pager,
    };
    render(&page)
}

/// The order that is asked for: the first that a heading stands for has no need of a name.
fn sort<V: View>(pairs: &Pairs) -> &str {
    let first = || V::TABLE.iter().find_map(|(_, _, order)| order.and_then(|order| order.names().next()));
    match pairs.value("sort") {
        "" => first().map_or("", |(name, _)| name),
        sort => sort,
    }
}

impl Head {
    fn new<V: View>(
        text: &'static str,
        class: &'static str,
        order: Option<Order>,
        sort: &str,
        pairs: &Pairs,
    ) -> Self {
        let names = || order.into_iter().flat_map(Order::names);
        let sorted = names().find(|(name, _)| *name == sort).map_or("", |(_, sorted)| sorted);
        let other = names().find(|(name, _)| *name != sort).or_else(|| names().next());
        let link = other.map(|(name, _)| pairs.link(V::PATH, &[("cursor", ""), ("sort", name)]));
        Self { text, class, link, sorted }
    }
}

pub(super) fn counts<R>(found: &Found<R>) -> String {
    let count = found.count;
    match (count.total, count.capped) {
        (1, false) => "1 row".to_owned(),
        (total, false) => format!("{total} rows"),
        (total, true) => format!("{total} rows or more"),
    }
}

fn labelled<V: View>(mut cells: Vec<Cell>) -> Vec<Cell> {
    for (cell, (text, class, _)) in cells.iter_mut().zip(V::TABLE) {
        (cell.label, cell.class) = (text, class);
    }
    cells
}

impl Field {
    /// Anything can be typed.
    pub(super) fn text(
        pairs: &Pairs,
        name: &'static str,
        label: &'static str,
        placeholder: &'static str,
    ) -> Self {
        Self { name, label, value: pairs.value(name).to_owned(), placeholder, choices: Vec::new() }
    }

    /// One of these, or none.
    pub(super) fn choice<T: Into<String>>(
        pairs: &Pairs,
        name: &'static str,
        label: &'static str,
        choices: impl IntoIterator<Item = (T, T)>,
    ) -> Self {
        let value = pairs.value(name).to_owned();
        let choices = choices.into_iter().map(|(value, shown)| (value.into(), shown.into()));
        let mut choices: Vec<(String, String)> =
            std::iter::once((String::new(), "all".to_owned())).chain(choices).collect();
        // A value from a link is kept, although the form does not offer it.
        if !choices.iter().any(|(known, _)| *known == value) {
            choices.push((value.clone(), value.clone()));
        }
        Self { name, label, value, placeholder: "", choices }
    }

    /// What comes first, where no heading is shown; `None`: the list has one order.
    fn order<V: View>(sort: &str) -> Option<Self> {
        let of_column = |(text, _, order): &Column| {
            let text = *text;
            let names = order.iter().copied().flat_map(Order::names);
            let choices = names.map(|(name, sorted)| {
                let mark = if sorted == "ascending" { "▴" } else { "▾" };
                (name.to_owned(), format!("{text} {mark}"))
            });
            choices.collect::<Vec<_>>()
        };
        let others = V::MORE_ORDERS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let choices: Vec<(String, String)> = V::TABLE.iter().flat_map(of_column).chain(others).collect();
        let value = sort.to_owned();
        (choices.len() > 1).then_some(Self { name: "sort", label: "Order", value, placeholder: "", choices })
    }

    pub(super) fn router(pairs: &Pairs, routers: &[String]) -> Self {
        Self::choice(pairs, "router", "Router", routers.iter().map(|name| (name.clone(), name.clone())))
    }

    pub(super) fn period(pairs: &Pairs) -> Self {
        let periods = [("1h", "the last hour"), ("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days")];
        Self::choice(pairs, "from", "Time", periods)
    }
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A time, which the viewer sees in the own zone.
    pub(super) fn time(time: Micros) -> Self {
        Self { text: format::utc(time), time: format::rfc3339(time), ..Self::default() }
    }

    /// Leads there, if there is something to lead from.
    pub(super) fn link(self, link: String) -> Self {
        let link = (!self.text.is_empty()).then_some(link);
        Self { link, ..self }
    }

    pub(super) fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }
}
