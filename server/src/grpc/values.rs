//! What fields of the console's requests stand for. Each says what it expected.

use std::fmt::Display;
use std::net::IpAddr;

use netmon_proto::v1;
use tonic::Status;

use crate::{
    domain::{Direction, Micros, RouterId},
    store::{DeviceSort, DnsSort, DropSort, FlowSort, HostSort, Reader, RouterSort, StoreError},
};

/// Longer than any name in the DNS.
const MAX_TEXT: usize = 300;

pub(super) fn wrong(field: &str, value: impl Display, expected: &str) -> Status {
    Status::invalid_argument(format!("{field}: {value} was given, expected {expected}"))
}

pub(super) fn failed(error: StoreError) -> Status {
    Status::unavailable(error.to_string())
}

/// The id of a router that is named.
pub(super) fn router(reader: &Reader, name: &str) -> Result<Option<RouterId>, Status> {
    let Some(name) = self::name("router_id", name)? else { return Ok(None) };
    match reader.router_id(&name).map_err(failed)? {
        None => Err(wrong("router_id", name, "a router that has reported")),
        known => Ok(known),
    }
}

pub(super) fn address(field: &str, text: &str) -> Result<Option<IpAddr>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| wrong(field, format!("{text:?}"), "an IPv4 or IPv6 address"))
}

/// A name that is told apart by case; `None`: it is empty.
pub(super) fn name(field: &str, text: &str) -> Result<Option<String>, Status> {
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        let expected = format!("at most {MAX_TEXT} bytes without control characters");
        return Err(wrong(field, format!("{} bytes", text.len()), &expected));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// A text to look for in any case.
pub(super) fn text(field: &str, text: &str) -> Result<Option<String>, Status> {
    Ok(name(field, text)?.map(|text| text.to_lowercase()))
}

pub(super) fn number<T: TryFrom<u32>>(field: &str, value: Option<u32>) -> Result<Option<T>, Status> {
    let limit = (1_u64 << (8 * size_of::<T>())) - 1;
    value
        .map(|value| T::try_from(value).map_err(|_| wrong(field, value, &format!("0 to {limit}"))))
        .transpose()
}

pub(super) fn time(time: Micros) -> Option<Micros> {
    Some(time).filter(|time| *time != 0)
}

pub(super) fn direction(number: i32) -> Result<Option<Direction>, Status> {
    Ok(Some(match v1::Direction::try_from(number) {
        Ok(v1::Direction::Unspecified) => return Ok(None),
        Ok(v1::Direction::Out) => Direction::Out,
        Ok(v1::Direction::In) => Direction::In,
        Ok(v1::Direction::Lan) => Direction::Lan,
        Ok(v1::Direction::Local) => Direction::Local,
        Ok(v1::Direction::Forward) => Direction::Forward,
        Err(_) => return Err(wrong("direction", number, "a netmon.v1.Direction")),
    }))
}

/// The order that a number of an enum stands for. Its first value is the list's own order, the others have their names.
macro_rules! orders {
    ($($name:ident: $enum:ident => $sort:ident { $($value:ident),* })*) => {
        $(pub(super) fn $name(number: i32) -> Result<$sort, Status> {
            match v1::$enum::try_from(number) {
                Ok(v1::$enum::Unspecified) => Ok($sort::default()),
                $(Ok(v1::$enum::$value) => Ok($sort::$value),)*
                Err(_) => Err(wrong("order", number, concat!("a netmon.v1.", stringify!($enum)))),
            }
        })*
    };
}

orders! {
    device_order: DeviceOrder => DeviceSort { LastSeen }
    flow_order: FlowOrder => FlowSort { Bytes, LastSeen, Duration }
    dns_order: DnsOrder => DnsSort { Oldest, Name, Client }
    drop_order: DropOrder => DropSort { Oldest, Source, Port, LeftOut }
    host_order: HostOrder => HostSort { LastSeen }
    domain_order: DomainOrder => HostSort { LastSeen }
    router_order: RouterOrder => RouterSort { LastHeard, Lag }
}
