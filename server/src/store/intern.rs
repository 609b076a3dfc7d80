//! Devices, remote hosts, domains and labels: their row ids, and when they were seen.
//!
//! The ids are kept in memory, so a commit asks the database about new ones only. What is kept must be forgotten when
//! the transaction that found it fails: see [`Interned::clear`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use diesel::prelude::*;

use super::address::Address;
use super::connection::{Connection, on_backend};
use super::devices::{DeviceKey, Devices};
use super::flow_row::FlowIds;
use super::schema::{domains, labels, remote_hosts};
use super::text::clean;
use super::wanted::Wanted;
use super::{StoreError, identities};
use crate::domain::{Changes, FlowRecord, Micros, RouterId};

/// `last_seen_us` is written only when it moves on by this much: most commits then write no dimension at all.
const SEEN_STEP_US: Micros = 60_000_000;

/// More of a kind than this in memory and all of it is forgotten: about 20 MB.
pub(super) const MOST_KEPT: usize = 200_000;

/// Rows of one multi-row statement.
pub(super) const CHUNK: usize = 250;

#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) first: Micros,
    pub(super) last: Micros,
}

impl Seen {
    pub(super) fn merge(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// What the database has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) seen: Seen,
}

impl Stored {
    pub(super) fn needs_write(&self, seen: Seen) -> bool {
        seen.first < self.seen.first || seen.last >= self.seen.last + SEEN_STEP_US
    }
}

/// Row ids. The maps keep the standard library's keyed hash: strangers choose the keys.
#[derive(Debug, Default)]
pub(super) struct Interned {
    pub(super) devices: Devices,
    pub(super) hosts: HashMap<IpAddr, Stored>,
    pub(super) domains: HashMap<String, Stored>,
    pub(super) labels: HashMap<String, i64>,
}

#[derive(Insertable)]
#[diesel(table_name = remote_hosts, treat_none_as_default_value = false)]
struct NewHost {
    address: Address,
    first_seen_us: i64,
    last_seen_us: i64,
}

#[derive(Insertable)]
#[diesel(table_name = domains, treat_none_as_default_value = false)]
struct NewDomain<'a> {
    name: &'a str,
    first_seen_us: i64,
    last_seen_us: i64,
}

/// Keeps the earlier first and the later last of what is stored and what is new.
macro_rules! widen {
    ($table:ident) => {
        (
            $table::first_seen_us.eq(diesel::dsl::case_when(
                diesel::upsert::excluded($table::first_seen_us).lt($table::first_seen_us),
                diesel::upsert::excluded($table::first_seen_us),
            )
            .otherwise($table::first_seen_us)),
            $table::last_seen_us.eq(diesel::dsl::case_when(
                diesel::upsert::excluded($table::last_seen_us).gt($table::last_seen_us),
                diesel::upsert::excluded($table::last_seen_us),
            )
            .otherwise($table::last_seen_us)),
        )
    };
}
pub(super) use widen;

impl Interned {
    /// Forgets everything. Needed after a transaction that failed: its ids may belong to nothing.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Makes everything in `changes` known, and writes when it was seen.
    pub(super) fn resolve(
        &mut self,
        connection: &mut Connection,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        self.devices.trim();
        if self.hosts.len() > MOST_KEPT {
            self.hosts.clear();
        }
        if self.domains.len() > MOST_KEPT {
            self.domains.clear();
        }
        if self.labels.len() > MOST_KEPT {
            self.labels.clear();
        }
        let mut wanted = Wanted::of(self, changes);
        // First who is who by MAC, so that an address that is new today becomes no device of its own.
        identities::write_with_mac(connection, &mut self.devices, &changes.identities)?;
        self.devices.resolve(connection, std::mem::take(&mut wanted.devices))?;
        identities::write_without_mac(connection, &self.devices, &changes.identities)?;
        self.resolve_ends_of_drops(connection, changes, &mut wanted)?;
        self.write_hosts(connection, wanted.hosts)?;
        self.write_domains(connection, wanted.domains)?;
        self.write_labels(connection, wanted.labels)
    }

    /// The ids of what a flow is about, after [`Self::resolve`].
    pub(super) fn ids(&self, flow: &FlowRecord) -> FlowIds {
        let domain = flow.name.as_ref().and_then(|name| name.domain.as_deref());
        FlowIds {
            device: flow.device.and_then(|address| self.device(flow.router, address)),
            host: flow.remote.and_then(|address| self.host(address)),
            domain: domain.and_then(|domain| self.domain(domain)),
        }
    }

    /// The id of a device, after [`Self::resolve`].
    pub(super) fn device(&self, router: RouterId, address: IpAddr) -> Option<i64> {
        self.devices.id(router, address)
    }

    /// The id of a remote host, after [`Self::resolve`].
    pub(super) fn host(&self, address: IpAddr) -> Option<i64> {
        self.hosts.get(&address).map(|stored| stored.id)
    }

    /// The id of a domain, after [`Self::resolve`].
    pub(super) fn domain(&self, name: &str) -> Option<i64> {
        self.domains.get(name).map(|stored| stored.id)
    }

    /// The id of a label, after [`Self::resolve`].
    pub(super) fn label(&self, text: &str) -> Option<i64> {
        self.labels.get(text).copied()
    }

    /// A drop does not say which of its ends is in the LAN. One that holds a device's address is; the others are
    /// remote hosts, except those that are no host at all.
    fn resolve_ends_of_drops(
        &mut self,
        connection: &mut Connection,
        changes: &Changes,
        wanted: &mut Wanted<'_>,
    ) -> Result<(), StoreError> {
        let unknown: HashSet<DeviceKey> = changes
            .drops
            .iter()
            .flat_map(|drop| [drop.what.src, drop.what.dst].map(|address| (drop.router, address)))
            .filter(|(_, address)| !self.hosts.contains_key(address))
            .collect();
        self.devices.look_up(connection, unknown)?;
        for drop in &changes.drops {
            let (src, dst) = drop.what.outside_ends();
            for address in src.into_iter().chain(dst) {
                if self.device(drop.router, address).is_none() && is_host(address) {
                    let seen = Seen { first: drop.time, last: drop.time };
                    wanted.host(self, address, seen, true);
                }
            }
        }
        Ok(())
    }

    /// In the order of the key, so that two servers that write the same rows cannot block each other for ever.
    fn write_hosts(
        &mut self,
        connection: &mut Connection,
        wanted: HashMap<IpAddr, Seen>,
    ) -> Result<(), StoreError> {
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_unstable_by_key(|(address, _)| *address);
        for chunk in wanted.chunks(CHUNK) {
            let rows: Vec<NewHost> = chunk
                .iter()
                .map(|(address, seen)| NewHost {
                    address: (*address).into(),
                    first_seen_us: seen.first,
                    last_seen_us: seen.last,
                })
                .collect();
            let stored: Vec<(i64, Address, i64, i64)> =
                on_backend!(&mut *connection, |c| diesel::insert_into(remote_hosts::table)
                    .values(&rows)
                    .on_conflict(remote_hosts::address)
                    .do_update()
                    .set(widen!(remote_hosts))
                    .returning((
                        remote_hosts::id,
                        remote_hosts::address,
                        remote_hosts::first_seen_us,
                        remote_hosts::last_seen_us,
                    ))
                    .get_results(c))?;
            for (id, address, first, last) in stored {
                self.hosts.insert(address.into(), Stored { id, seen: Seen { first, last } });
            }
        }
        Ok(())
    }

    /// In the order of the key, as above.
    fn write_domains(
        &mut self,
        connection: &mut Connection,
        wanted: HashMap<&str, Seen>,
    ) -> Result<(), StoreError> {
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_unstable_by_key(|(name, _)| *name);
        for chunk in wanted.chunks(CHUNK) {
            let rows: Vec<NewDomain<'_>> = chunk
                .iter()
                .map(|(name, seen)| NewDomain { name, first_seen_us: seen.first, last_seen_us: seen.last })
                .collect();
            let stored: Vec<(i64, String, i64, i64)> =
                on_backend!(&mut *connection, |c| diesel::insert_into(domains::table)
                    .values(&rows)
                    .on_conflict(domains::name)
                    .do_update()
                    .set(widen!(domains))
                    .returning((domains::id, domains::name, domains::first_seen_us, domains::last_seen_us,))
                    .get_results(c))?;
            for (id, name, first, last) in stored {
                self.domains.insert(name, Stored { id, seen: Seen { first, last } });
            }
        }
        Ok(())
    }

    fn write_labels(&mut self, connection: &mut Connection, wanted: HashSet<&str>) -> Result<(), StoreError> {
        let mut wanted: Vec<&str> = wanted.into_iter().collect();
        wanted.sort_unstable();
        for text in wanted {
            let stored = clean(text);
            let id: i64 = on_backend!(&mut *connection, |c| diesel::insert_into(labels::table)
                .values(labels::text.eq(&*stored))
                .on_conflict(labels::text)
                .do_update()
                .set(labels::text.eq(&*stored))
                .returning(labels::id)
                .get_result(c))?;
            self.labels.insert(text.to_owned(), id);
        }
        Ok(())
    }
}

/// Whether an address is one host's: not a group's, and not "any".
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_multicast() || address.is_unspecified() || broadcast)
}
