//! Routers, and how far each run of each agent is committed.

use diesel::prelude::*;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::schema::{ingest_cursors, routers};
use super::text::{clean, clean_optional};
use crate::domain::{CursorMove, Micros, RouterId, RouterUpdate, WRITES};

/// What a [`RouterUpdate`] sets; `None` leaves the column alone.
#[derive(AsChangeset)]
#[diesel(table_name = routers)]
struct Facts {
    last_heard_us: Option<i64>,
    lag_us: Option<i64>,
    clock_skew_us: Option<i64>,
    agent_version: Option<String>,
    hostname: Option<String>,
    kernel: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    open_flows: Option<i64>,
    spool_bytes: Option<i64>,
    memory_bytes: Option<i64>,
    warnings: Option<String>,
}

/// The router of this name, made if it is new.
pub(super) fn find_or_create(
    connection: &mut Connection,
    name: &str,
    now: Micros,
) -> Result<RouterId, StoreError> {
    let name = &*clean(name);
    let row = (routers::name.eq(name), routers::first_seen_us.eq(now));
    let find = routers::table.filter(routers::name.eq(name)).select(routers::id);
    // Looking first keeps Postgres from using up a number of the sequence at each attachment.
    let found = on_backend!(&mut *connection, |c| find.first(c).optional())?;
    if let Some(id) = found {
        return Ok(RouterId(id));
    }
    on_backend!(&mut *connection, |c| diesel::insert_into(routers::table)
        .values(row)
        .on_conflict(routers::name)
        .do_nothing()
        .execute(c))?;
    Ok(RouterId(on_backend!(connection, |c| find.first(c))?))
}

/// Writes what is new about routers.
pub(super) fn update(connection: &mut Connection, updates: &[RouterUpdate]) -> Result<(), StoreError> {
    for update in updates {
        let facts = Facts {
            last_heard_us: Some(update.last_heard),
            lag_us: update.lag_us,
            clock_skew_us: update.clock_skew_us,
            agent_version: clean_optional(update.agent_version.as_deref()),
            hostname: clean_optional(update.hostname.as_deref()),
            kernel: clean_optional(update.kernel.as_deref()),
            os: clean_optional(update.os.as_deref()),
            architecture: clean_optional(update.architecture.as_deref()),
            open_flows: update.open_flows,
            spool_bytes: update.spool_bytes,
            memory_bytes: update.memory_bytes,
            warnings: clean_optional(update.warnings.as_deref()),
        };
        on_backend!(&mut *connection, |c| diesel::update(routers::table.find(update.router.0))
            .set(facts)
            .execute(c))?;
    }
    Ok(())
}

/// The last committed sequence of an epoch.
pub(super) fn cursor(
    connection: &mut Connection,
    router: RouterId,
    epoch: u64,
) -> Result<Option<u64>, StoreError> {
    let stored: Option<i64> = on_backend!(connection, |c| ingest_cursors::table
        .find((router.0, epoch.cast_signed()))
        .select(ingest_cursors::last_sequence)
        .first(c)
        .optional())?;
    Ok(stored.map(i64::cast_unsigned))
}

/// Whether any run of an agent is committed.
pub(super) fn has_cursor(connection: &mut Connection, router: RouterId) -> Result<bool, StoreError> {
    let any = ingest_cursors::table
        .filter(ingest_cursors::router_id.eq(router.0))
        .filter(ingest_cursors::epoch.ne(WRITES.cast_signed()));
    Ok(on_backend!(connection, |c| diesel::select(diesel::dsl::exists(any)).get_result(c))?)
}

/// Moves cursors on; an error if one is not where it must be. The condition is part of the statement, so that
/// of two servers with the same batch one waits for the other and then fails.
pub(super) fn advance(connection: &mut Connection, moves: &[CursorMove]) -> Result<(), StoreError> {
    for step in moves {
        let key = (step.router.0, step.epoch.cast_signed());
        let to = step.to.cast_signed();
        let moved = match step.from {
            None => {
                let row = (
                    ingest_cursors::router_id.eq(key.0),
                    ingest_cursors::epoch.eq(key.1),
                    ingest_cursors::last_sequence.eq(to),
                );
                on_backend!(&mut *connection, |c| diesel::insert_into(ingest_cursors::table)
                    .values(row)
                    .on_conflict((ingest_cursors::router_id, ingest_cursors::epoch))
                    .do_nothing()
                    .execute(c))?
            }
            Some(from) => {
                let at = ingest_cursors::table
                    .find(key)
                    .filter(ingest_cursors::last_sequence.eq(from.cast_signed()));
                on_backend!(&mut *connection, |c| diesel::update(at)
                    .set(ingest_cursors::last_sequence.eq(to))
                    .execute(c))?
            }
        };
        if moved != 1 {
            return Err(StoreError::CursorMoved {
                router: step.router,
                epoch: step.epoch,
                expected: step.from,
                found: cursor(connection, step.router, step.epoch)?,
            });
        }
    }
    Ok(())
}

/// Whether all cursors are where these moves end.
pub(super) fn are_at_end(connection: &mut Connection, moves: &[CursorMove]) -> Result<bool, StoreError> {
    for step in moves {
        if cursor(connection, step.router, step.epoch)? != Some(step.to) {
            return Ok(false);
        }
    }
    Ok(true)
}
