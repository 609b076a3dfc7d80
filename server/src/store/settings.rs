//! Small facts that a server keeps about itself, by key.

use diesel::prelude::*;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::schema::settings;

/// The value under `key`.
pub(super) fn get(connection: &mut Connection, key: &str) -> Result<Option<String>, StoreError> {
    Ok(on_backend!(connection, |c| settings::table.find(key).select(settings::value).first(c).optional())?)
}

/// Sets the value under `key`.
pub(super) fn put(connection: &mut Connection, key: &str, value: &str) -> Result<(), StoreError> {
    let row = (settings::key.eq(key), settings::value.eq(value));
    on_backend!(connection, |c| diesel::insert_into(settings::table)
        .values(row)
        .on_conflict(settings::key)
        .do_update()
        .set(settings::value.eq(value))
        .execute(c))?;
    Ok(())
}

/// Sets the value under `key` if there is none yet. Gives the value that is there afterwards.
pub(super) fn put_once(connection: &mut Connection, key: &str, value: &str) -> Result<String, StoreError> {
    let row = (settings::key.eq(key), settings::value.eq(value));
    on_backend!(&mut *connection, |c| diesel::insert_into(settings::table)
        .values(row)
        .on_conflict(settings::key)
        .do_nothing()
        .execute(c))?;
    Ok(on_backend!(connection, |c| settings::table.find(key).select(settings::value).first(c))?)
}

/// Forgets the value under `key`.
pub(super) fn remove(connection: &mut Connection, key: &str) -> Result<(), StoreError> {
    on_backend!(connection, |c| diesel::delete(settings::table.find(key)).execute(c))?;
    Ok(())
}
