//! A batch of the original agent: JSON over HTTP.
//!
//! Pure. The body is gone over once to find its events and once, an event at a time, to read them; each event is
//! translated into the protocol's and checked like one that came over gRPC. What the translation cannot take (a type
//! or a field that nobody knows) is kept as it came.

use netmon_proto::v1::{self, event::Kind};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

use super::{
    Checked, Observation, check_event, is_router_name, json_data, json_flow, json_scan,
    queue::MAX_REJECTIONS, validate::MAX_DETAIL_BYTES,
};
use crate::domain::Micros;

/// More than any agent sends; the queue in front of the writer must take them at once.
const MAX_EVENTS: usize = 32_768;
/// One event. The largest that an agent makes has a hundred hashes, 6 KB.
const MAX_EVENT_BYTES: usize = 65_536;

/// A batch, read and checked.
#[derive(Debug)]
pub struct JsonBatch {
    /// Who sends it.
    pub router: String,
    /// SHA-256 of that and the bytes of "events".
    pub digest: [u8; 32],
    /// What passed.
    pub events: Vec<Checked>,
    /// How many events passed. Some are kept in two ways.
    pub accepted: u64,
    /// The same in the protocol's form, if asked for.
    pub originals: Vec<v1::Event>,
    /// Why the others did not, for the first ten.
    pub rejections: Vec<v1::Rejection>,
    /// How many did not.
    pub rejected: u64,
}

/// Why a body is no batch. None of it is stored.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoBatch {
    /// Its outline is not JSON.
    #[error("the body is not a JSON object with an array \"events\"")]
    Outline,
    /// It stands in it twice.
    #[error("\"{0}\" is there twice, expected once")]
    Twice(&'static str),
    /// The router's name is missing or none.
    #[error("router_id: expected a string, 1 to 64 of A-Z a-z 0-9 . _ : -")]
    Router,
    /// There are too many events.
    #[error("more than {MAX_EVENTS} events, expected smaller batches")]
    TooMany,
}

/// Reads a body that was received at `received`.
///
/// # Errors
/// It is no batch. Events that are wrong are no error: they are rejected by themselves.
pub fn read_batch(body: &[u8], received: Micros, keep_originals: bool) -> Result<JsonBatch, NoBatch> {
    let (mut router, mut events) = (None, None);
    let mut twice = None;
    let is_object = json_scan::object(body, |key, value| {
        let (name, place) = match key {
            b"\"router_id\"" => ("router_id", &mut router),
            b"\"events\"" => ("events", &mut events),
            _ => return,
        };
        if place.replace(value).is_some() {
            twice = Some(name);
        }
    });
    if let Some(name) = twice {
        return Err(NoBatch::Twice(name));
    }
    let (true, Some(events)) = (is_object, events) else { return Err(NoBatch::Outline) };
    let router: Cow<'_, str> = router
        .and_then(|text| serde_json::from_slice(text).ok())
        .filter(|name: &Cow<'_, str>| is_router_name(name))
        .ok_or(NoBatch::Router)?;
    let mut batch = JsonBatch {
        digest: Sha256::new()
            .chain_update(router.as_bytes())
            .chain_update([0])
            .chain_update(events)
            .finalize()
            .into(),
        router: router.into_owned(),
        events: Vec::new(),
        accepted: 0,
        originals: Vec::new(),
        rejections: Vec::new(),
        rejected: 0,
    };
    let mut count = 0;
    let is_array = json_scan::array(events, |event| {
        if count < MAX_EVENTS {
            batch.take(count, event, received, keep_originals);
        }
        count += 1;
    });
    match (is_array, count <= MAX_EVENTS) {
        (false, _) => Err(NoBatch::Outline),
        (true, false) => Err(NoBatch::TooMany),
        (true, true) => Ok(batch),
    }
}

impl JsonBatch {
    fn take(&mut self, index: usize, text: &[u8], received: Micros, keep_original: bool) {
        match read_event(text, received) {
            Ok(Read { checked, also_raw, original }) => {
                self.accepted += 1;
                if also_raw {
                    let what = Observation::Raw(text.into());
                    self.events.push(Checked { time: checked.time, clamped: 0, what });
                }
                self.events.push(checked);
                if keep_original {
                    self.originals.extend(original);
                }
            }
            Err(reason) => {
                self.rejected += 1;
                if self.rejections.len() < MAX_REJECTIONS {
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    let reason = super::printable(&reason, MAX_DETAIL_BYTES);
                    self.rejections.push(v1::Rejection { index, reason });
                }
            }
        }
    }
}

/// An event that passed.
struct Read {
    checked: Checked,
    /// Keep the text as well.
    also_raw: bool,
    original: Option<v1::Event>,
}

/// An event's own members.
#[derive(Default)]
struct Members<'a> {
    kind: Option<&'a [u8]>,
    ts: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    unknown: bool,
}

impl<'a> Members<'a> {
    fn of(text: &'a [u8]) -> Result<Self, String> {
        let mut members = Self::default();
        let mut twice = false;
        let is_object = json_scan::object(text, |key, value| {
            let place = match key {
                b"\"type\"" => &mut members.kind,
                b"\"ts\"" => &mut members.ts,
                b"\"data\"" => &mut members.data,
                _ => {
                    members.unknown = true;
                    return;
                }
            };
            twice |= place.replace(value).is_some();
        });
        match (is_object, twice) {
            (false, _) => Err("the event is not a JSON object".to_owned()),
            (true, true) => Err("a field of the event is there twice, expected once".to_owned()),
            (true, false) => Ok(members),
        }
    }
}

fn read_event(text: &[u8], received: Micros) -> Result<Read, String> {
    if text.len() > MAX_EVENT_BYTES {
        return Err(format!("the event has {} bytes, expected at most {MAX_EVENT_BYTES}", text.len()));
    }
    let Members { kind, ts, data, mut unknown } = Members::of(text)?;
    let string = |name: &str, text: Option<&'_ [u8]>| -> Result<String, String> {
        let text = text.ok_or_else(|| format!("{name} is missing"))?;
        serde_json::from_slice(text).map_err(|error| format!("{name}: {error}"))
    };
    let kind = string("type", kind)?;
    let time_us = json_data::time(&string("ts", ts)?).map_err(|error| format!("ts: {error}"))?;
    let mut data = Data { text: data.unwrap_or(b"{}"), unknown: &mut unknown };
    let kind = match kind.as_str() {
        "flow" => Kind::Flow(data.read::<json_flow::Flow<'_>>()?.translate(time_us)?),
        "firewall_drop" => Kind::FirewallDrop(data.read::<json_data::Drop<'_>>()?.translate()?),
        "dns_response" => Kind::DnsResponse(data.read::<json_data::Response<'_>>()?.translate()?),
        "dns_bucket" => Kind::DnsBucket(data.read::<json_data::Bucket<'_>>()?.translate()?),
        "host_identity" => {
            let identity = data.read::<json_data::Identity<'_>>()?.translate()?;
            // There is no other place for the hashes.
            unknown |= !identity.recent_name_hashes.is_empty();
            Kind::HostIdentity(identity)
        }
        "heartbeat" => {
            data.read::<json_data::Heartbeat>()?;
            Kind::Heartbeat(v1::Heartbeat::default())
        }
        _ => return kept(text, time_us, received),
    };
    let original = v1::Event { time_us, kind: Some(kind) };
    let mut checked = check_event(original.clone(), received).map_err(|refusal| refusal.to_string())?;
    // These events have neither ids of flows nor types of ICMP.
    match &mut checked.what {
        Observation::Flow(report) => (report.flow_id, report.icmp) = (0, None),
        Observation::Drop(drop) => drop.icmp = None,
        Observation::Heartbeat(_) => checked.what = Observation::Alive,
        _ => {}
    }
    if unknown {
        well_formed(text)?;
    }
    Ok(Read { checked, also_raw: unknown, original: Some(original) })
}

/// An event of a type that nobody knows.
fn kept(text: &[u8], time_us: Micros, received: Micros) -> Result<Read, String> {
    well_formed(text)?;
    let alive = v1::Event { time_us, kind: Some(Kind::Heartbeat(v1::Heartbeat::default())) };
    let checked = check_event(alive, received).map_err(|refusal| refusal.to_string())?;
    let checked = Checked { what: Observation::Raw(text.into()), ..checked };
    Ok(Read { checked, also_raw: false, original: None })
}

/// What is kept as it came must be JSON that others can read: valid, and not nested without end.
fn well_formed(text: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<serde_json::Value>(text).map(|_| ()).map_err(|error| error.to_string())
}

/// The data of an event.
struct Data<'a, 'b> {
    text: &'a [u8],
    unknown: &'b mut bool,
}

impl<'a> Data<'a, '_> {
    /// Reads it, and notes whether it has fields that its type does not know.
    fn read<T: Deserialize<'a>>(&mut self) -> Result<T, String> {
        // An array would do as well, its items in the order of the fields: no agent sends one.
        if !self.text.starts_with(b"{") {
            return Err("data: expected an object".to_owned());
        }
        let mut reader = serde_json::Deserializer::from_slice(self.text);
        let value = serde_ignored::deserialize(&mut reader, |_| *self.unknown = true)
            .map_err(|error| format!("data: {error}"))?;
        reader.end().map_err(|error| format!("data: {error}"))?;
        Ok(value)
    }
}
