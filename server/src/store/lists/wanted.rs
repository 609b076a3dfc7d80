//! A filter of flows with its addresses turned into ids, and the ways into the table that it leaves.

use std::net::IpAddr;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::super::StoreError;
use super::super::address::Address;
use super::super::connection::{Connection, on_backend};
use super::super::devices;
use super::super::schema::{domains, remote_hosts};
use super::{FlowFilter, FlowSort, FlowText, WINDOW};

/// What a flow must have.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) router: Option<i64>,
    /// One of these; a device has several addresses, and an address may belong to a device of each router.
    pub(super) devices: Option<Vec<i64>>,
    pub(super) host: Option<i64>,
    pub(super) domain: Option<i64>,
    pub(super) direction: Option<i16>,
    pub(super) protocols: Vec<i16>,
    pub(super) ports: Vec<i32>,
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    pub(super) either: Option<Either>,
    /// Whose responder has one of these names.
    pub(super) names: Option<Vec<i64>>,
    pub(super) sort: FlowSort,
}

/// With an address at either end: one of these devices, or one of these hosts, or an end that has it.
#[derive(Debug)]
pub(super) struct Either {
    pub(super) devices: Vec<i64>,
    pub(super) hosts: Vec<i64>,
    /// No index knows a device whose flow is another one's. `None`: a remote host's flows are all its own.
    pub(super) end: Option<Address>,
}

/// The rows of one key of an index, in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    All,
    Device(i64),
    Host(i64),
    Domain(i64),
    /// One that is not in [`COMMON_PORTS`].
    Port(i32),
}

/// Ports whose flows are so many that they have no index (migration 0005): a window of the newest holds enough.
const COMMON_PORTS: [i32; 3] = [0, 53, 443];

/// So many names at most are looked for one by one along the index; of more, a window of the newest flows holds enough.
const MOST_KEYS: usize = 100;

/// Names that a text may stand for.
const MOST_NAMES: usize = 1_000;

impl Wanted {
    /// `None`: no flow can match, since nothing has that address.
    pub(super) fn look_up(
        connection: &mut Connection,
        filter: &FlowFilter,
    ) -> Result<Option<Self>, StoreError> {
        let mut wanted = Self {
            router: filter.router.map(|router| router.0),
            devices: None,
            host: None,
            domain: None,
            direction: filter.direction.map(|direction| direction as i16),
            protocols: filter.protocol.map(i16::from).into_iter().collect(),
            ports: filter.port.map(i32::from).into_iter().collect(),
            from: filter.from,
            to: filter.to,
            either: None,
            names: None,
            sort: filter.sort,
        };
        if let Some(address) = filter.device {
            let found = devices::with_address(connection, address.into())?;
            if found.is_empty() {
                return Ok(None);
            }
            wanted.devices = Some(found);
        }
        if let Some(address) = filter.host {
            wanted.host = host_id(connection, address)?;
            if wanted.host.is_none() {
                return Ok(None);
            }
        }
        if let Some(name) = &filter.domain {
            wanted.domain = on_backend!(&mut *connection, |c| domains::table
                .filter(domains::name.eq(name))
                .select(domains::id)
                .first(c)
                .optional())?;
            if wanted.domain.is_none() {
                return Ok(None);
            }
        }
        match &filter.text {
            None => {}
            Some(FlowText::Port(port)) => wanted.ports.push(i32::from(*port)),
            Some(FlowText::Protocol(protocol)) => wanted.protocols.push(i16::from(*protocol)),
            Some(FlowText::Name(part)) => {
                let names = names_with(connection, part)?;
                if names.is_empty() {
                    return Ok(None);
                }
                wanted.names = Some(names);
            }
            Some(FlowText::Address(address)) => {
                let address = *address;
                let devices = devices::with_address(connection, address.into())?;
                let hosts: Vec<i64> = host_id(connection, address)?.into_iter().collect();
                let is_host = devices.is_empty() && !hosts.is_empty();
                let end = (!is_host).then(|| address.into());
                wanted.either = Some(Either { devices, hosts, end });
            }
        }
        Ok(Some(wanted))
    }

    /// Every set of keys that holds all flows that match. There is always one.
    pub(super) fn ways(&self) -> Vec<Vec<Key>> {
        let mut ways = Vec::new();
        if let Some(devices) = &self.devices {
            ways.push(devices.iter().map(|id| Key::Device(*id)).collect());
        }
        if let Some(host) = self.host {
            ways.push(vec![Key::Host(host)]);
        }
        if let Some(domain) = self.domain {
            ways.push(vec![Key::Domain(domain)]);
        }
        if let Some(port) = self.ports.first().filter(|port| !COMMON_PORTS.contains(port)) {
            ways.push(vec![Key::Port(*port)]);
        }
        if let Some(Either { devices, hosts, end: None }) = &self.either {
            let devices = devices.iter().map(|id| Key::Device(*id));
            ways.push(devices.chain(hosts.iter().map(|id| Key::Host(*id))).collect());
        }
        if let Some(names) = self.names.as_ref().filter(|names| names.len() <= MOST_KEYS) {
            ways.push(names.iter().map(|id| Key::Domain(*id)).collect());
        }
        if ways.is_empty() {
            ways.push(vec![Key::All]);
        }
        ways
    }

    /// Whether a way that answers so many of the conditions leaves rows out or in another order: then only a
    /// window of its rows is looked at.
    pub(super) fn needs_window(&self, answered: usize) -> bool {
        let conditions = [
            self.router.is_some(),
            self.devices.is_some(),
            self.host.is_some(),
            self.domain.is_some(),
            self.direction.is_some(),
            self.from.is_some(),
            self.to.is_some(),
            self.either.is_some(),
            self.names.is_some(),
        ];
        let conditions = conditions.into_iter().filter(|asked| *asked).count();
        self.sort != FlowSort::Newest || conditions + self.protocols.len() + self.ports.len() > answered
    }
}

/// The ids of names that hold this text, the last asked for first, no more than [`MOST_NAMES`], among a window of them.
/// The time does not narrow them: what is connected for long was asked for long ago.
fn names_with(connection: &mut Connection, part: &str) -> Result<Vec<i64>, StoreError> {
    #[derive(QueryableByName)]
    struct Named {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let (position, place) = match connection {
        Connection::Sqlite(_) => ("instr", "?"),
        Connection::Postgres(_) => ("strpos", "$1"),
    };
    let query = format!(
        "SELECT id FROM (SELECT id, name FROM domains ORDER BY last_seen_us DESC, id DESC LIMIT {WINDOW}) AS latest \
         WHERE {position}(name, {place}) > 0 LIMIT {MOST_NAMES}",
    );
    let rows: Vec<Named> =
        on_backend!(connection, |c| diesel::sql_query(query).bind::<Text, _>(part).load(c))?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// One per router that has a device of this address.
pub(super) fn host_id(connection: &mut Connection, address: IpAddr) -> Result<Option<i64>, StoreError> {
    let address = Address::from(address);
    Ok(on_backend!(connection, |c| remote_hosts::table
        .filter(remote_hosts::address.eq(address))
        .select(remote_hosts::id)
        .first(c)
        .optional())?)
}
