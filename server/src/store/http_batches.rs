//! Which batches came over HTTP during the last day.

use diesel::prelude::*;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::schema::http_batches;
use crate::domain::{HttpBatch, Micros, RouterId};

/// How long a batch is remembered.
const KEPT_US: Micros = 24 * 3_600_000_000;

/// How many are forgotten at once, at most: more than come in one commit, and few enough not to be felt.
const FORGOTTEN: i64 = 500;

/// Notes batches, before anything of theirs is written: it is what fails when another server has them already.
pub(super) fn insert(connection: &mut Connection, batches: &[HttpBatch]) -> Result<(), StoreError> {
    for batch in batches {
        let row = (
            http_batches::router_id.eq(batch.router.0),
            http_batches::digest.eq(&batch.digest[..]),
            http_batches::time_us.eq(batch.time),
            http_batches::accepted.eq(batch.accepted.cast_signed()),
            http_batches::rejected.eq(batch.rejected.cast_signed()),
        );
        let inserted = on_backend!(&mut *connection, |c| diesel::insert_into(http_batches::table)
            .values(row)
            .on_conflict((http_batches::router_id, http_batches::digest))
            .do_nothing()
            .execute(c))?;
        if inserted != 1 {
            return Err(StoreError::BatchStored { router: batch.router });
        }
    }
    match batches.iter().map(|batch| batch.time).max() {
        Some(newest) => forget(connection, newest - KEPT_US),
        None => Ok(()),
    }
}

fn forget(connection: &mut Connection, before: Micros) -> Result<(), StoreError> {
    let old: Vec<(i64, Vec<u8>)> = on_backend!(&mut *connection, |c| http_batches::table
        .filter(http_batches::time_us.lt(before))
        .order(http_batches::time_us)
        .limit(FORGOTTEN)
        .select((http_batches::router_id, http_batches::digest))
        .load(c))?;
    for (router, digest) in old {
        on_backend!(&mut *connection, |c| diesel::delete(http_batches::table.find((router, digest)))
            .execute(c))?;
    }
    Ok(())
}

/// What was answered to a batch.
pub(super) fn find(
    connection: &mut Connection,
    router: RouterId,
    digest: &[u8; 32],
) -> Result<Option<(u64, u64)>, StoreError> {
    let found: Option<(i64, i64)> = on_backend!(connection, |c| http_batches::table
        .find((router.0, &digest[..]))
        .select((http_batches::accepted, http_batches::rejected))
        .first(c)
        .optional())?;
    Ok(found.map(|(accepted, rejected)| (accepted.cast_unsigned(), rejected.cast_unsigned())))
}

/// Whether a router told of anything that way.
pub(super) fn are_there(connection: &mut Connection, router: RouterId) -> Result<bool, StoreError> {
    let any = http_batches::table.filter(http_batches::router_id.eq(router.0));
    Ok(on_backend!(connection, |c| diesel::select(diesel::dsl::exists(any)).get_result(c))?)
}

/// Whether all of them are stored.
pub(super) fn are_stored(connection: &mut Connection, batches: &[HttpBatch]) -> Result<bool, StoreError> {
    for batch in batches {
        if find(connection, batch.router, &batch.digest)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
