//! Lists as files: CSV and JSON lines, page by page as the reader takes them.
//!
//! Each page is a query of its own, so that an export of millions of rows holds neither the rows in memory nor an
//! old state of the database, which would keep SQLite's log from being cut. What comes in meanwhile is not in it.
//! It ends when its reader goes away. One that does not reach the end of its list is cut off, so that the reader sees it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use serde_json::Value;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use super::{Listing, MOST_ROWS, decoded};
use crate::enrich::Enrichment;
use crate::store::{Page, Position, Reader};
use crate::web::{App, WebError};

/// Rows of one query.
const PAGE: usize = 1_000;
/// Exports at the same time. Each takes a thread and, now and then, a connection.
pub(in crate::web) const AT_ONCE: usize = 4;

/// When an export is given up.
#[derive(Clone, Copy)]
struct Bounds {
    /// It has more rows, and no limit was given.
    rows: usize,
    /// It takes longer in all.
    time: Duration,
    /// Its reader takes nothing for so long. Meanwhile it keeps its place from others, and nothing else.
    patience: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rows: MOST_ROWS, time: Duration::from_secs(600), patience: Duration::from_secs(120) }
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Format {
    Csv,
    JsonLines,
}

impl Format {
    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Csv => ("text/csv; charset=utf-8", "csv"),
            Self::JsonLines => ("application/jsonl", "jsonl"),
        }
    }

    fn headers(self, list: &str) -> [(HeaderName, String); 2] {
        let (kind, extension) = self.kind();
        let name = format!("attachment; filename=\"netmon-{list}.{extension}\"");
        [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)]
    }
}

/// All rows of a list from its cursor on, at most `limit` of them.
pub(in crate::web) async fn export<L: Listing>(
    app: App,
    params: L,
    format: Format,
) -> Result<Response, WebError> {
    let place = app.exports.clone().try_acquire_owned().map_err(|_| {
        WebError::Unavailable(format!("{AT_ONCE} exports are running, expected to wait for one to end"))
    })?;
    if params.is_of_a_window() {
        return Err(WebError::BadRequest(
            "sort: this order is one of the newest 20,000 rows, and a file holds all: expected none"
                .to_owned(),
        ));
    }
    let (before, limit) = params.paging();
    let before = before.map(|text| decoded(L::NAME, &params.without_paging(), text)).transpose()?;
    let now = app.clock.now();
    let (filter, reader) = {
        let asked = params.clone();
        app.read(move |reader| Ok((asked.filter(reader, now)?, reader.clone()))).await?
    };
    let filter = L::with_known(filter, &app.enrichment);
    let (work, body) = Work::<L>::new(reader, Arc::clone(&app.enrichment), filter, format, Bounds::default());
    tokio::task::spawn_blocking(move || {
        work.run(before, limit);
        drop(place);
    });
    Ok((format.headers(L::NAME), Body::from_stream(body)).into_response())
}

/// A few rows as CSV, at once.
pub(in crate::web) fn file<T: Serialize>(
    name: &str,
    columns: &[&str],
    items: &[T],
) -> Result<Response, WebError> {
    let mut text = String::new();
    write_names(&mut text, columns);
    for item in items {
        write_item(&mut text, columns, item).map_err(|error| WebError::Internal(error.to_string()))?;
    }
    Ok((Format::Csv.headers(name), text).into_response())
}

/// One export.
struct Work<L: Listing> {
    reader: Reader,
    known: Arc<Enrichment>,
    filter: L::Filter,
    format: Format,
    bounds: Bounds,
    chunks: mpsc::Sender<Bytes>,
    /// It has come to its end.
    whole: Arc<AtomicBool>,
    runtime: Handle,
}

impl<L: Listing> Work<L> {
    /// The work, and what its reader gets: an error at the end if the work did not come to its own.
    fn new(
        reader: Reader,
        known: Arc<Enrichment>,
        filter: L::Filter,
        format: Format,
        bounds: Bounds,
    ) -> (Self, impl Stream<Item = io::Result<Bytes>>) {
        let (chunks, taken) = mpsc::channel(2);
        let whole = Arc::<AtomicBool>::default();
        let work = Self {
            reader,
            known,
            filter,
            format,
            bounds,
            chunks,
            whole: Arc::clone(&whole),
            runtime: Handle::current(),
        };
        let end = stream::once(async move {
            (!whole.load(Ordering::Acquire)).then(|| Err(io::Error::other("the export was cut off")))
        });
        (work, ReceiverStream::new(taken).map(Ok).chain(end.filter_map(std::future::ready)))
    }

    fn run(&self, before: Option<Position>, limit: Option<usize>) {
        match self.write_all(before, limit) {
            Ok(()) => self.whole.store(true, Ordering::Release),
            Err(error) => warn!(%error, list = L::NAME, "an export was cut off"),
        }
    }

    fn write_all(&self, before: Option<Position>, limit: Option<usize>) -> io::Result<()> {
        let begin = Instant::now();
        let mut page = Page { before, limit: PAGE };
        let mut left = limit.unwrap_or(self.bounds.rows);
        let mut text = String::new();
        if self.format == Format::Csv {
            write_names(&mut text, L::COLUMNS);
        }
        loop {
            page.limit = left.min(PAGE);
            let part = L::page(&self.reader, &self.filter, page).map_err(io::Error::other)?;
            left -= part.items.len().min(left);
            for row in part.items {
                self.write(&mut text, L::item(row, &self.known))?;
            }
            self.send(std::mem::take(&mut text).into())?;
            page.before = part.next;
            if part.next.is_none() || (left == 0 && limit.is_some()) {
                return Ok(());
            }
            if left == 0 {
                return Err(io::Error::other(format!("it has more than {} rows", self.bounds.rows)));
            }
            if begin.elapsed() > self.bounds.time {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"));
            }
        }
    }

    fn send(&self, chunk: Bytes) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "its reader is gone");
        // An empty window says nothing, but tells whether the reader is still there.
        if chunk.is_empty() {
            return if self.chunks.is_closed() { Err(gone()) } else { Ok(()) };
        }
        let sending = self.chunks.send(chunk);
        match self.runtime.block_on(async { tokio::time::timeout(self.bounds.patience, sending).await }) {
            Ok(sent) => sent.map_err(|_| gone()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "its reader takes nothing")),
        }
    }

    fn write(&self, text: &mut String, item: L::Item) -> io::Result<()> {
        match self.format {
            Format::JsonLines => {
                text.push_str(&serde_json::to_string(&item)?);
                text.push('\n');
            }
            Format::Csv => write_item(text, L::COLUMNS, &item)?,
        }
        Ok(())
    }
}

/// The first line.
fn write_names(into: &mut String, columns: &[&str]) {
    write_line(into, columns.iter().map(|name| name.replace('/', ".")));
}

fn write_item(into: &mut String, columns: &[&str], item: &impl Serialize) -> serde_json::Result<()> {
    let item = serde_json::to_value(item)?;
    write_line(into, columns.iter().map(|name| cell(item.pointer(&format!("/{name}")))));
    Ok(())
}

/// A value as a cell's text.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => harmless(text),
        Some(Value::Array(values)) => {
            let values: Vec<String> = values.iter().map(|value| cell(Some(value))).collect();
            harmless(&values.join("; "))
        }
        Some(other) => other.to_string(),
    }
}

/// A spreadsheet takes a text that begins like this for a formula, and strangers choose some of the texts.
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// A line of RFC 4180.
fn write_line(into: &mut String, cells: impl Iterator<Item = String>) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            into.push(',');
        }
        if cell.contains([',', '"', '\r', '\n']) {
            into.push('"');
            into.push_str(&cell.replace('"', "\"\""));
            into.push('"');
        } else {
            into.push_str(&cell);
        }
    }
    into.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        domain::Micros,
        store::{Count, DatabaseUrl, PageOf, Store, StoreError},
    };

    /// A list of so many pages of one row, as its filter says.
    #[derive(Clone, Debug, serde::Deserialize)]
    struct Pages;

    impl Listing for Pages {
        type Filter = i64;
        type Row = i64;
        type Item = Value;

        const NAME: &'static str = "pages";
        const COLUMNS: &'static [&'static str] = &["id"];

        fn paging(&self) -> (Option<&str>, Option<usize>) {
            (None, None)
        }

        fn without_paging(&self) -> Self {
            Self
        }

        fn filter(&self, _reader: &Reader, _now: Micros) -> Result<i64, WebError> {
            Ok(0)
        }

        fn page(_reader: &Reader, pages: &i64, page: Page) -> Result<PageOf<i64>, StoreError> {
            let number = page.before.map_or(1, |before| before.id() + 1);
            let more = number < *pages;
            Ok(PageOf { items: vec![number], next: more.then(|| Position::after_id(number)) })
        }

        fn count(_reader: &Reader, _pages: &i64, _limit: u32) -> Result<Count, StoreError> {
            Ok(Count { total: 0, capped: true })
        }

        fn item(row: i64, _known: &Enrichment) -> Value {
            json!({ "id": row })
        }
    }

    /// An export of so many pages: how many of them its reader got, and whether that was all it was to get.
    /// A reader that pauses takes the first piece when the work has ended.
    async fn read(pages: i64, limit: Option<usize>, bounds: Bounds, pauses: bool) -> (usize, bool) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DatabaseUrl::Sqlite(dir.path().join("netmon.db"))).unwrap();
        let known = Enrichment::load(&crate::enrich::EnrichOptions::default());
        let (work, body) = Work::<Pages>::new(store.reader(), known, pages, Format::JsonLines, bounds);
        let working = tokio::task::spawn_blocking(move || work.run(None, limit));
        if pauses {
            working.await.unwrap();
        }
        let pieces: Vec<_> = body.collect().await;
        let got = pieces.iter().filter(|piece| piece.is_ok()).count();
        (got, got == pieces.len())
    }

    #[tokio::test]
    async fn an_export_that_does_not_reach_its_end_is_cut_off() {
        let bounds = Bounds::default();
        assert_eq!(read(9, None, bounds, false).await, (9, true));
        assert_eq!(read(9, Some(5), bounds, false).await, (5, true));
        // A reader that pauses for too long gets what was on its way.
        let patience = Duration::from_millis(50);
        assert_eq!(read(9, None, Bounds { patience, ..bounds }, true).await, (2, false));
        assert_eq!(read(2, None, Bounds { patience, ..bounds }, true).await, (2, true));
        let time = Duration::ZERO;
        assert_eq!(read(9, None, Bounds { time, ..bounds }, false).await, (1, false));
        // More rows than a file may have.
        assert_eq!(read(9, None, Bounds { rows: 5, ..bounds }, false).await, (5, false));
        assert_eq!(read(5, None, Bounds { rows: 5, ..bounds }, false).await, (5, true));
    }

    #[test]
    fn a_line_quotes_what_must_be_and_disarms_formulas() {
        let mut line = String::new();
        let values = [
            json!("plain"),
            json!("a,\"b\"\nc"),
            json!("=HYPERLINK(\"x\")"),
            json!("@SUM"),
            json!(-5),
            json!(null),
            json!(["-x", "y"]),
            json!(true),
        ];
        write_line(&mut line, values.iter().map(|value| cell(Some(value))));
        assert_eq!(line, "plain,\"a,\"\"b\"\"\nc\",\"'=HYPERLINK(\"\"x\"\")\",'@SUM,-5,,'-x; y,true\r\n");
    }
}
