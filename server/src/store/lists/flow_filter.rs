//! Which flows a list shows.

use std::net::IpAddr;

use crate::domain::{Direction, Micros, RouterId};

/// Which flows, and in which order. `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Seen by this router.
    pub router: Option<RouterId>,
    /// With this device, by its address; behind any router unless `router` says which.
    pub device: Option<IpAddr>,
    /// With this remote host, by its address.
    pub host: Option<IpAddr>,
    /// Whose responder was called by this name.
    pub domain: Option<String>,
    /// In this direction.
    pub direction: Option<Direction>,
    /// Of this IANA protocol number.
    pub protocol: Option<u8>,
    /// With this service port (see [`FlowRecord::service_port`]).
    ///
    /// [`FlowRecord::service_port`]: crate::domain::FlowRecord::service_port
    pub port: Option<u16>,
    /// Only ended ones, or only open ones.
    pub ended: Option<bool>,
    /// Alive at this time or later.
    pub from: Option<Micros>,
    /// Begun at this time or before.
    pub to: Option<Micros>,
    /// What a person typed into the search field.
    pub text: Option<FlowText>,
    /// What comes first.
    pub sort: FlowSort,
}

/// What a person may type into a search field for flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowText {
    /// An address of either end; of any but a remote host's in a window of the newest flows at a time.
    Address(IpAddr),
    /// A service port.
    Port(u16),
    /// An IANA protocol number.
    Protocol(u8),
    /// A part of the responder's name, in lower case: of those names that were seen last, some twenty thousand.
    Name(String),
}

/// What comes first. All but the newest are found among the newest rows alone, some
/// twenty thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowSort {
    /// What was heard of last.
    #[default]
    Newest,
    /// What moved most.
    Bytes,
    /// What moved last.
    LastSeen,
    /// What took longest.
    Duration,
}
