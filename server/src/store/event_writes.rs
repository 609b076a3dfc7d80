//! Writing gaps, and events that have no table of their own yet.

use std::borrow::Cow;

use diesel::prelude::*;

use super::connection::{Connection, on_backend};
use super::schema::{gaps, raw_events};
use super::text::clean;
use super::{StoreError, ids};
use crate::domain::{GapRow, RawEvent};

/// Rows of one multi-row statement.
const CHUNK: usize = 250;

#[derive(Insertable)]
#[diesel(table_name = gaps, treat_none_as_default_value = false)]
struct NewGap<'a> {
    router_id: i64,
    cause: i16,
    count: i64,
    from_us: i64,
    to_us: i64,
    detail: Cow<'a, str>,
}

#[derive(Insertable)]
#[diesel(table_name = raw_events, treat_none_as_default_value = false)]
struct NewRawEvent<'a> {
    id: i64,
    router_id: i64,
    kind: i16,
    time_us: i64,
    payload: &'a [u8],
}

/// Adds what is missing.
pub(super) fn insert_gaps(connection: &mut Connection, missing: &[GapRow]) -> Result<(), StoreError> {
    for chunk in missing.chunks(CHUNK) {
        let rows: Vec<NewGap<'_>> = chunk
            .iter()
            .map(|gap| NewGap {
                router_id: gap.router.0,
                cause: gap.cause,
                count: gap.count,
                from_us: gap.from,
                to_us: gap.to,
                detail: clean(&gap.detail),
            })
            .collect();
        on_backend!(&mut *connection, |c| diesel::insert_into(gaps::table).values(&rows).execute(c))?;
    }
    Ok(())
}

/// Adds events as they came.
pub(super) fn insert_raw(connection: &mut Connection, events: &[RawEvent]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let first = ids::take(connection, ids::RAW_EVENT, events.len())?;
    for (chunk, first) in events.chunks(CHUNK).zip((first..).step_by(CHUNK)) {
        let rows: Vec<NewRawEvent<'_>> = (first..)
            .zip(chunk)
            .map(|(id, event)| NewRawEvent {
                id,
                router_id: event.router.0,
                kind: event.kind,
                time_us: event.time,
                payload: &event.payload,
            })
            .collect();
        on_backend!(&mut *connection, |c| diesel::insert_into(raw_events::table).values(&rows).execute(c))?;
    }
    Ok(())
}
