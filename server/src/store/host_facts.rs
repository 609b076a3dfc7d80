//! What jobs in the background learn about remote hosts: names by reverse DNS, answers of whois.

use std::collections::HashMap;
use std::net::IpAddr;

use diesel::prelude::*;
use diesel::upsert::excluded;

use super::address::Address;
use super::connection::{Connection, on_backend};
use super::schema::{host_names, host_whois, remote_hosts};
use super::text::clean;
use super::{Reader, StoreError, Writer};
use crate::domain::{HostName, Micros};

#[derive(Insertable)]
#[diesel(table_name = host_names, treat_none_as_default_value = false)]
struct NewHostName<'a> {
    host_id: i64,
    name: Option<&'a str>,
    asked_us: i64,
    due_us: i64,
}

impl Reader {
    /// Hosts whose names are to be asked for: those that never were, the oldest first, then those whose
    /// answers are old.
    pub fn hosts_to_name(&self, now: Micros, limit: usize) -> Result<Vec<(i64, IpAddr)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.with(|connection| {
            // Ids only grow and hosts are named in their order, so what was never asked is behind the last.
            let last: Option<i64> = on_backend!(&mut *connection, |c| host_names::table
                .select(diesel::dsl::max(host_names::host_id))
                .first(c))?;
            let mut due: Vec<(i64, Address)> = on_backend!(&mut *connection, |c| remote_hosts::table
                .filter(remote_hosts::id.gt(last.unwrap_or(0)))
                .order(remote_hosts::id)
                .limit(limit)
                .select((remote_hosts::id, remote_hosts::address))
                .load(c))?;
            let room = limit - i64::try_from(due.len()).unwrap_or(limit);
            if room > 0 {
                let old: Vec<(i64, Address)> = on_backend!(connection, |c| host_names::table
                    .inner_join(remote_hosts::table.on(host_names::host_id.eq(remote_hosts::id)))
                    .filter(host_names::due_us.le(now))
                    .order(host_names::due_us)
                    .limit(room)
                    .select((remote_hosts::id, remote_hosts::address))
                    .load(c))?;
                due.extend(old);
            }
            Ok(due.into_iter().map(|(id, address)| (id, address.into())).collect())
        })
    }

    /// The names of these hosts, of those that have one.
    pub fn host_names(&self, hosts: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
        self.with(|connection| names(connection, hosts))
    }

    /// What whois last said of this address, and when.
    pub fn whois(&self, address: IpAddr) -> Result<Option<(String, Micros)>, StoreError> {
        self.with(|connection| {
            Ok(on_backend!(connection, |c| host_whois::table
                .inner_join(remote_hosts::table.on(host_whois::host_id.eq(remote_hosts::id)))
                .filter(remote_hosts::address.eq(Address::from(address)))
                .select((host_whois::answer, host_whois::asked_us))
                .first(c)
                .optional())?)
        })
    }
}

/// The names of these hosts, of those that have one.
pub(super) fn names(connection: &mut Connection, hosts: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
    if hosts.is_empty() {
        // For no ids diesel asks for `1 = 0`, which follows no index.
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, Option<String>)> = on_backend!(connection, |c| host_names::table
        .filter(host_names::host_id.eq_any(hosts))
        .select((host_names::host_id, host_names::name))
        .load(c))?;
    Ok(rows.into_iter().filter_map(|(id, name)| Some((id, name?))).collect())
}

impl Writer {
    /// Keeps what was learnt about names.
    pub fn put_host_names(&mut self, names: &[HostName]) -> Result<(), StoreError> {
        let (failed, answered): (Vec<_>, Vec<_>) = names.iter().partition(|host| host.failed);
        let (answered, failed) = (rows(&answered), rows(&failed));
        self.with_connection(|connection| {
            connection.write(|connection| upsert_names(connection, &answered, &failed))
        })
    }

    /// Keeps what whois said of this address. False: no such host was ever seen.
    pub fn put_whois(&mut self, address: IpAddr, answer: &str, now: Micros) -> Result<bool, StoreError> {
        self.with_connection(|connection| {
            connection.write(|connection| {
                let host: Option<i64> = on_backend!(&mut *connection, |c| remote_hosts::table
                    .filter(remote_hosts::address.eq(Address::from(address)))
                    .select(remote_hosts::id)
                    .first(c)
                    .optional())?;
                let Some(host) = host else { return Ok(false) };
                let answer = &*clean(answer);
                let said = (host_whois::answer.eq(answer), host_whois::asked_us.eq(now));
                on_backend!(connection, |c| diesel::insert_into(host_whois::table)
                    .values((host_whois::host_id.eq(host), said))
                    .on_conflict(host_whois::host_id)
                    .do_update()
                    .set(said)
                    .execute(c))?;
                Ok(true)
            })
        })
    }
}

fn rows<'a>(names: &[&'a HostName]) -> Vec<NewHostName<'a>> {
    names
        .iter()
        .map(|host| NewHostName {
            host_id: host.host,
            name: host.name.as_deref(),
            asked_us: host.asked,
            due_us: host.due,
        })
        .collect()
}

/// An answer replaces the one before; a question that failed only puts off the next one.
fn upsert_names(
    connection: &mut Connection,
    answered: &[NewHostName<'_>],
    failed: &[NewHostName<'_>],
) -> Result<(), StoreError> {
    let times = (
        host_names::asked_us.eq(excluded(host_names::asked_us)),
        host_names::due_us.eq(excluded(host_names::due_us)),
    );
    if !answered.is_empty() {
        on_backend!(&mut *connection, |c| diesel::insert_into(host_names::table)
            .values(answered)
            .on_conflict(host_names::host_id)
            .do_update()
            .set((host_names::name.eq(excluded(host_names::name)), times))
            .execute(c))?;
    }
    if !failed.is_empty() {
        on_backend!(connection, |c| diesel::insert_into(host_names::table)
            .values(failed)
            .on_conflict(host_names::host_id)
            .do_update()
            .set(times)
            .execute(c))?;
    }
    Ok(())
}
