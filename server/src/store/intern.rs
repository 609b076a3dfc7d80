//! Devices and remote hosts: their row ids, and when they were seen.
//!
//! The ids are kept in memory, so a commit asks the database about new addresses only. What is kept must be
//! forgotten when the transaction that found it fails: see [`Interned::clear`].

use std::collections::HashMap;
use std::net::IpAddr;

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::upsert::excluded;

use super::StoreError;
use super::address::Address;
use super::connection::{Connection, on_backend};
use super::schema::{devices, remote_hosts};
use crate::domain::{Changes, FlowRecord, MINUTE_US, Micros, RouterId};

/// `last_seen_us` is written only when it moves on by this much: most commits then write no dimension at all.
const SEEN_STEP_US: Micros = 60_000_000;

/// More addresses than this in memory and all are forgotten: about 20 MB.
const MOST_KEPT: usize = 200_000;

/// Rows of one multi-row statement.
const CHUNK: usize = 250;

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Micros,
    last: Micros,
}

impl Seen {
    fn merge(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// What the database has.
#[derive(Clone, Copy, Debug)]
struct Stored {
    id: i64,
    seen: Seen,
}

impl Stored {
    fn needs_write(&self, seen: Seen) -> bool {
        seen.first < self.seen.first || seen.last >= self.seen.last + SEEN_STEP_US
    }
}

type DeviceKey = (RouterId, IpAddr);

/// Row ids by address. The maps keep the standard library's keyed hash: strangers choose the addresses.
#[derive(Debug, Default)]
pub(super) struct Interned {
    devices: HashMap<DeviceKey, Stored>,
    hosts: HashMap<IpAddr, Stored>,
}

/// What a commit has to find out or to write.
#[derive(Default)]
struct Wanted {
    devices: HashMap<DeviceKey, Seen>,
    hosts: HashMap<IpAddr, Seen>,
}

impl Interned {
    /// Forgets everything. Needed after a transaction that failed: its ids may belong to nothing.
    pub(super) fn clear(&mut self) {
        self.devices.clear();
        self.hosts.clear();
    }

    /// Makes every address in `changes` known, and writes when they were seen.
    pub(super) fn resolve(
        &mut self,
        connection: &mut Connection,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        if self.devices.len() > MOST_KEPT {
            self.devices.clear();
        }
        if self.hosts.len() > MOST_KEPT {
            self.hosts.clear();
        }
        let wanted = self.wanted(changes);
        self.write_devices(connection, wanted.devices)?;
        self.write_hosts(connection, wanted.hosts)
    }

    /// The ids of a flow's device and remote host, after [`Self::resolve`].
    pub(super) fn ids(&self, flow: &FlowRecord) -> (Option<i64>, Option<i64>) {
        let device = flow.device.and_then(|address| self.device(flow.router, address));
        let host = flow.remote.and_then(|address| self.hosts.get(&address)).map(|stored| stored.id);
        (device, host)
    }

    /// The id of a device, after [`Self::resolve`].
    pub(super) fn device(&self, router: RouterId, address: IpAddr) -> Option<i64> {
        self.devices.get(&(router, address)).map(|stored| stored.id)
    }

    fn wanted(&self, changes: &Changes) -> Wanted {
        let mut wanted = Wanted::default();
        for touch in &changes.devices {
            let seen = Seen { first: touch.first_seen, last: touch.last_seen };
            self.want_device(&mut wanted, (touch.router, touch.address), seen, true);
        }
        for touch in &changes.hosts {
            let seen = Seen { first: touch.first_seen, last: touch.last_seen };
            self.want_host(&mut wanted, touch.address, seen, true);
        }
        // What is mentioned without being touched (a flow ended because it was not heard of any more) must have
        // an id as well, but says nothing new about when it was seen.
        for flow in changes.finished.iter().chain(&changes.open) {
            let seen = Seen { first: flow.first_seen, last: flow.last_seen };
            if let Some(address) = flow.device {
                self.want_device(&mut wanted, (flow.router, address), seen, false);
            }
            if let Some(address) = flow.remote {
                self.want_host(&mut wanted, address, seen, false);
            }
        }
        for delta in &changes.minutes {
            if let Some(address) = delta.device {
                let at = delta.minute.saturating_mul(MINUTE_US);
                self.want_device(&mut wanted, (delta.router, address), Seen { first: at, last: at }, false);
            }
        }
        wanted
    }

    fn want_device(&self, wanted: &mut Wanted, key: DeviceKey, seen: Seen, touched: bool) {
        match self.devices.get(&key) {
            Some(stored) if !(touched && stored.needs_write(seen)) => {}
            _ => wanted.devices.entry(key).or_insert(seen).merge(seen),
        }
    }

    fn want_host(&self, wanted: &mut Wanted, address: IpAddr, seen: Seen, touched: bool) {
        match self.hosts.get(&address) {
            Some(stored) if !(touched && stored.needs_write(seen)) => {}
            _ => wanted.hosts.entry(address).or_insert(seen).merge(seen),
        }
    }
}

#[derive(Insertable)]
#[diesel(table_name = devices, treat_none_as_default_value = false)]
struct NewDevice {
    router_id: i64,
    address: Address,
    first_seen_us: i64,
    last_seen_us: i64,
}

#[derive(Insertable)]
#[diesel(table_name = remote_hosts, treat_none_as_default_value = false)]
struct NewHost {
    address: Address,
    first_seen_us: i64,
    last_seen_us: i64,
}

/// Keeps the earlier first and the later last of what is stored and what is new.
macro_rules! widen {
    ($table:ident) => {
        (
            $table::first_seen_us.eq(case_when(
                excluded($table::first_seen_us).lt($table::first_seen_us),
                excluded($table::first_seen_us),
            )
            .otherwise($table::first_seen_us)),
            $table::last_seen_us.eq(case_when(
                excluded($table::last_seen_us).gt($table::last_seen_us),
                excluded($table::last_seen_us),
            )
            .otherwise($table::last_seen_us)),
        )
    };
}

impl Interned {
    /// In the order of the key, so that two servers that write the same rows cannot block each other for ever.
    fn write_devices(
        &mut self,
        connection: &mut Connection,
        wanted: HashMap<DeviceKey, Seen>,
    ) -> Result<(), StoreError> {
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_unstable_by_key(|(key, _)| *key);
        for chunk in wanted.chunks(CHUNK) {
            let rows: Vec<NewDevice> = chunk
                .iter()
                .map(|((router, address), seen)| NewDevice {
                    router_id: router.0,
                    address: (*address).into(),
                    first_seen_us: seen.first,
                    last_seen_us: seen.last,
                })
                .collect();
            let stored: Vec<(i64, i64, Address, i64, i64)> =
                on_backend!(&mut *connection, |c| diesel::insert_into(devices::table)
                    .values(&rows)
                    .on_conflict((devices::router_id, devices::address))
                    .do_update()
                    .set(widen!(devices))
                    .returning(devices::all_columns)
                    .get_results(c))?;
            for (id, router, address, first, last) in stored {
                let key = (RouterId(router), address.into());
                self.devices.insert(key, Stored { id, seen: Seen { first, last } });
            }
        }
        Ok(())
    }

    /// In the order of the key, as above.
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
                    .returning(remote_hosts::all_columns)
                    .get_results(c))?;
            for (id, address, first, last) in stored {
                self.hosts.insert(address.into(), Stored { id, seen: Seen { first, last } });
            }
        }
        Ok(())
    }
}
