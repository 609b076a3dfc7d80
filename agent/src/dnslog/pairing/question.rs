//! A question that waits for its answer.

use std::net::IpAddr;

use netmon_proto::v1::{DnsAnswer, DnsResponse};

use super::super::{name::reversed, rr_type};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// dnsmasq said nothing more about it: it is to be answered at once, or together with one before.
    Asked,
    /// A resolver was asked.
    Forwarded,
    /// The client has its answer; dnsmasq asks again for itself.
    Refreshing,
}

#[derive(Debug)]
pub(super) struct Question {
    /// Later ones have larger ids.
    pub(super) id: u64,
    pub(super) at_ms: u64,
    pub(super) pid: u32,
    pub(super) serial: Option<u32>,
    pub(super) client: IpAddr,
    pub(super) port: u16,
    pub(super) name: String,
    pub(super) rr_type: u16,
    /// PTR questions: the address that answers give as their name.
    pub(super) address: Option<IpAddr>,
    pub(super) stage: Stage,
    /// Who was asked; of several, the first.
    pub(super) server: Option<IpAddr>,
}

impl Question {
    /// The address that a question for a PTR record is about.
    pub(super) fn address_of(name: &str, rr_type: u16) -> Option<IpAddr> {
        if rr_type == rr_type::PTR { reversed(name) } else { None }
    }

    /// Whether answers of this name are for it.
    pub(super) fn is_about(&self, name: &str) -> bool {
        self.name == name || self.address.is_some_and(|own| name.parse() == Ok(own))
    }

    pub(super) fn response(self, cached: bool, rcode: u32, mut answers: Vec<DnsAnswer>) -> DnsResponse {
        if self.rr_type == rr_type::PTR {
            // The log gives the address as the name, which no record has.
            for answer in answers.iter_mut().filter(|answer| answer.r#type == u32::from(rr_type::PTR)) {
                answer.name.clone_from(&self.name);
            }
        }
        DnsResponse {
            client_ip: octets(self.client),
            name: self.name,
            r#type: self.rr_type.into(),
            rcode,
            answers,
            resolver_ip: self.server.filter(|_| !cached).map(octets).unwrap_or_default(),
            cached,
        }
    }
}

pub(super) fn octets(address: IpAddr) -> bytes::Bytes {
    match address {
        IpAddr::V4(address) => bytes::Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes::Bytes::copy_from_slice(&address.octets()),
    }
}
