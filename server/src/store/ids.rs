//! Row ids, handed out in blocks from `id_blocks`.

use diesel::prelude::*;

use super::StoreError;
use super::connection::{Connection, on_backend};
use super::schema::id_blocks;

/// The names of the blocks: what the ids are for.
pub(super) const FLOW: &str = "flow";
pub(super) const DNS_QUERY: &str = "dns_query";
pub(super) const FIREWALL_DROP: &str = "firewall_drop";
pub(super) const RAW_EVENT: &str = "raw_event";

/// Takes `count` ids that nobody else gets, and gives the first of them. Within a transaction: when it fails, they are
/// given to the next who asks.
pub(super) fn take(connection: &mut Connection, name: &str, count: usize) -> Result<i64, StoreError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let next: i64 = on_backend!(connection, |c| diesel::update(id_blocks::table.find(name))
        .set(id_blocks::next_id.eq(id_blocks::next_id + count))
        .returning(id_blocks::next_id)
        .get_result(c))?;
    Ok(next - count)
}
