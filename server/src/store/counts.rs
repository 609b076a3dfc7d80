//! How long the short lists are.

use diesel::prelude::*;

use super::{
    StoreError,
    connection::on_backend,
    reader::Reader,
    rows::Count,
    schema::{devices, gaps, remote_hosts},
};

/// Counts a table's rows up to a limit, by its primary key.
macro_rules! count_rows {
    ($reader:expr, $table:ident, $limit:expr) => {{
        let one_more = i64::from($limit) + 1;
        $reader.with(|connection| {
            let ids: Vec<i64> =
                on_backend!(connection, |c| $table::table.select($table::id).limit(one_more).load(c))?;
            let limit = u64::from($limit);
            let total = ids.len() as u64;
            Ok(Count { total: total.min(limit), capped: total > limit })
        })
    }};
}

impl Reader {
    /// How many devices there are, counted up to `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count_devices(&self, limit: u32) -> Result<Count, StoreError> {
        count_rows!(self, devices, limit)
    }

    /// How many remote hosts there are, counted up to `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count_hosts(&self, limit: u32) -> Result<Count, StoreError> {
        count_rows!(self, remote_hosts, limit)
    }

    /// How many gaps there are, counted up to `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count_gaps(&self, limit: u32) -> Result<Count, StoreError> {
        count_rows!(self, gaps, limit)
    }
}
