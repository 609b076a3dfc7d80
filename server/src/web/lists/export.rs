//! Lists as files: CSV and JSON lines, page by page as the reader takes them.
//!
//! Each page is a query of its own, so that an export of millions of rows holds neither the rows in memory nor an
//! old state of the database, which would keep SQLite's log from being cut. What comes in meanwhile is not in it.
//! It ends when its reader goes away, and is cut off, so that the reader sees it, when it takes too long.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::Value;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use super::{Listing, decoded};
use crate::enrich::Enrichment;
use crate::store::{Page, Reader};
use crate::web::{App, WebError};

/// Rows of one query.
const PAGE: usize = 1_000;
/// The most rows of one export.
const MOST_ROWS: usize = 5_000_000;
/// The longest time for one export.
const MOST_TIME: Duration = Duration::from_secs(600);
/// A reader that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Exports at the same time. Each takes a thread and, now and then, a connection.
pub(in crate::web) const AT_ONCE: usize = 4;

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
    let (before, limit) = params.paging();
    let before = before.map(|text| decoded(L::NAME, &params.without_paging(), text)).transpose()?;
    let left = limit.unwrap_or(MOST_ROWS);
    let now = app.clock.now();
    let (filter, reader) = {
        let asked = params.clone();
        app.read(move |reader| Ok((asked.filter(reader, now)?, reader.clone()))).await?
    };
    let filter = L::with_known(filter, &app.enrichment);
    let (chunks, body) = mpsc::channel(2);
    let work = Work::<L> {
        reader,
        known: Arc::clone(&app.enrichment),
        filter,
        format,
        chunks,
        runtime: Handle::current(),
    };
    tokio::task::spawn_blocking(move || {
        work.run(Page { before, limit: PAGE }, left);
        drop(place);
    });
    Ok((format.headers(L::NAME), Body::from_stream(ReceiverStream::new(body))).into_response())
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
    chunks: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
}

impl<L: Listing> Work<L> {
    fn run(&self, mut page: Page, mut left: usize) {
        let begin = Instant::now();
        let mut text = String::new();
        if self.format == Format::Csv {
            write_names(&mut text, L::COLUMNS);
        }
        loop {
            page.limit = left.min(PAGE);
            let part = match L::page(&self.reader, &self.filter, page) {
                Ok(part) => part,
                Err(error) => return self.fail(io::Error::other(error)),
            };
            left -= part.items.len().min(left);
            for row in part.items {
                if let Err(error) = self.write(&mut text, L::item(row, &self.known)) {
                    return self.fail(error);
                }
            }
            // An empty window says nothing, but tells whether the reader is still there.
            if !self.send(Ok(std::mem::take(&mut text).into())) {
                return;
            }
            page.before = part.next;
            if part.next.is_none() || left == 0 {
                return;
            }
            if begin.elapsed() > MOST_TIME {
                let late = io::Error::new(io::ErrorKind::TimedOut, "the export took too long");
                return self.fail(late);
            }
        }
    }

    /// Cuts the answer off: an end without a mark would look like all there is.
    fn fail(&self, error: io::Error) {
        warn!(%error, list = L::NAME, "an export was cut off");
        self.send(Err(error));
    }

    /// Whether the reader took it.
    fn send(&self, chunk: io::Result<Bytes>) -> bool {
        if matches!(&chunk, Ok(bytes) if bytes.is_empty()) {
            return !self.chunks.is_closed();
        }
        let sent = self.runtime.block_on(tokio::time::timeout(PATIENCE, self.chunks.send(chunk)));
        matches!(sent, Ok(Ok(())))
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
