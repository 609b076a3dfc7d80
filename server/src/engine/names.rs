//! Which name a device had for the address that it talks to.
//!
//! The evidence is the device's own answers: what it asked for, when, and how long the answer was valid. All times are
//! those of the observations, so that it does not matter in which order answers and flows arrive. Memory is bounded
//! per device and per router; what is forgotten costs a name, never a wrong one.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use crate::domain::{DnsData, DnsResponse, FlowName, Identity, KnownAnswer, Mac, Micros, NameReason};

/// Answers remembered for one address of one device.
const ANSWERS: usize = 8;
/// Addresses remembered for one device.
const ADDRESSES: usize = 1024;
/// Devices remembered behind one router.
const DEVICES: usize = 1024;
/// Addresses of which it is remembered that anyone asked for them.
const ASKED: usize = 65_536;
/// Flows that a late answer may still name.
const RECENT: usize = 8192;

const SECOND_US: Micros = 1_000_000;
/// How long an answer counts as valid where its source does not tell (a log): what most names have.
const UNKNOWN_TTL_US: Micros = 300 * SECOND_US;
/// Programs go on with an address long after its TTL. Beyond an hour it is less likely, beyond a day it is no evidence.
const STALE_US: Micros = 3_600 * SECOND_US;
const FORGOTTEN_US: Micros = 24 * STALE_US;
/// How long after a flow's beginning an answer may still be the reason for it: logs are stamped late, and some
/// programs ask again what they know.
const AFTER_US: Micros = 60 * SECOND_US;

/// Percent, by reason.
const ONLY: u8 = 95;
const SEVERAL: [u8; 3] = [60, 45, 30];
const OLDER: u8 = 50;
const MUCH_OLDER: u8 = 30;
const AFTER: u8 = 40;

/// Who a device is, for its answers: over IPv4 it may ask for what it then uses over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Mac(Mac),
    Address(IpAddr),
}

/// One answer that led to an address.
#[derive(Clone, Debug)]
struct Answer {
    domain: Arc<str>,
    at: Micros,
    valid_until: Micros,
}

#[derive(Debug, Default)]
struct Asked {
    by_address: HashMap<IpAddr, VecDeque<Answer>>,
    /// The addresses, the one that was first answered first.
    order: VecDeque<IpAddr>,
}

/// A flow that began not long ago.
#[derive(Clone, Debug)]
pub(super) struct RecentFlow {
    pub(super) row: i64,
    pub(super) flow_id: u64,
    pub(super) device: IpAddr,
    pub(super) responder: IpAddr,
    pub(super) first_seen: Micros,
    pub(super) last_seen: Micros,
    pub(super) name: Option<FlowName>,
}

/// One router's names.
#[derive(Debug, Default)]
pub(super) struct Names {
    holders: HashMap<IpAddr, Mac>,
    devices: HashMap<Who, Asked>,
    /// The devices, the one that was first heard of first.
    order: VecDeque<Who>,
    /// Who asked for an address; none: more than one did.
    asked: HashMap<IpAddr, Option<Who>>,
    recent: VecDeque<RecentFlow>,
    /// Addresses that were answered since the flows were last looked through, and when at first.
    fresh: HashMap<IpAddr, Micros>,
}

impl Names {
    fn who(&self, address: IpAddr) -> Who {
        self.holders.get(&address).map_or(Who::Address(address), |mac| Who::Mac(*mac))
    }

    /// Learns which addresses a MAC holds. What was asked from an address before goes on to count for the device.
    pub(super) fn identified(&mut self, identity: &Identity) {
        let Some(mac) = identity.mac else { return };
        for address in &identity.addresses {
            self.hold(*address, mac);
        }
    }

    pub(super) fn hold(&mut self, client: IpAddr, mac: Mac) {
        if self.holders.len() >= ASKED {
            self.holders.clear();
        }
        let before = self.holders.insert(client, mac);
        if before.is_none()
            && let Some(asked) = self.devices.remove(&Who::Address(client))
        {
            self.order.retain(|who| *who != Who::Address(client));
            for (address, answers) in asked.by_address {
                if let Some(asker) = self.asked.get_mut(&address)
                    && *asker == Some(Who::Address(client))
                {
                    *asker = Some(Who::Mac(mac));
                }
                for answer in answers {
                    self.remember(Who::Mac(mac), address, answer);
                }
            }
        }
    }

    /// Takes an answer as evidence.
    pub(super) fn answered(&mut self, time: Micros, response: &DnsResponse) {
        if response.rcode != 0 {
            return;
        }
        let ttl_s = response.answers.iter().filter_map(|answer| answer.ttl_s).min();
        let domain: Arc<str> = response.name.as_str().into();
        let who = self.who(response.client);
        for answer in &response.answers {
            if let DnsData::Address(address) = answer.data {
                let answer = Answer::new(domain.clone(), time, ttl_s);
                self.remember(who, address, answer);
                self.fresh.entry(address).and_modify(|at| *at = time.min(*at)).or_insert(time);
            }
        }
    }

    /// Takes what the database knew, oldest first.
    pub(super) fn restore(&mut self, answers: Vec<KnownAnswer>) {
        for KnownAnswer { time, client, mac, domain, address, ttl_s } in answers {
            let who = mac.map_or_else(|| self.who(client), Who::Mac);
            self.remember(who, address, Answer::new(domain.into(), time, ttl_s));
        }
    }

    fn remember(&mut self, who: Who, address: IpAddr, answer: Answer) {
        if self.asked.len() >= ASKED {
            self.asked.clear();
        }
        self.asked
            .entry(address)
            .and_modify(|known| {
                if *known != Some(who) {
                    *known = None;
                }
            })
            .or_insert(Some(who));
        if !self.devices.contains_key(&who) {
            if self.devices.len() >= DEVICES
                && let Some(oldest) = self.order.pop_front()
            {
                self.devices.remove(&oldest);
            }
            self.order.push_back(who);
        }
        let device = self.devices.entry(who).or_default();
        if !device.by_address.contains_key(&address) {
            if device.by_address.len() >= ADDRESSES
                && let Some(oldest) = device.order.pop_front()
            {
                device.by_address.remove(&oldest);
            }
            device.order.push_back(address);
        }
        let answers = device.by_address.entry(address).or_default();
        // In the order of their times: an answer may arrive late.
        let place = answers.partition_point(|known| known.at <= answer.at);
        answers.insert(place, answer);
        if answers.len() > ANSWERS {
            make_room(answers);
        }
    }

    /// The name that a device had for an address at the beginning of a flow.
    pub(super) fn name_of(&self, device: IpAddr, responder: IpAddr, began: Micros) -> Option<FlowName> {
        if self.devices.is_empty() {
            return None;
        }
        let who = self.who(device);
        let answers = self.devices.get(&who).and_then(|asked| asked.by_address.get(&responder));
        if let Some(name) = answers.and_then(|answers| judge(answers, began)) {
            return Some(name);
        }
        match self.asked.get(&responder) {
            Some(asker) if *asker != Some(who) => {
                Some(FlowName { domain: None, confidence: 0, reason: NameReason::OtherDeviceOnly })
            }
            _ => None,
        }
    }

    /// A flow began that an answer may name later.
    pub(super) fn began(&mut self, flow: RecentFlow) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(flow);
    }

    /// A flow goes on under another id of the agent.
    pub(super) fn renumbered(&mut self, row: i64, flow_id: u64) {
        if let Some(flow) = self.recent.iter_mut().rev().find(|flow| flow.row == row) {
            flow.flow_id = flow_id;
        }
    }

    /// The flows that have a name, or a better one, since new answers came. What is known of each is remembered, so that
    /// it is told once.
    pub(super) fn take_named(&mut self) -> Vec<RecentFlow> {
        if self.fresh.is_empty() {
            return Vec::new();
        }
        let fresh = std::mem::take(&mut self.fresh);
        let mut recent = std::mem::take(&mut self.recent);
        let mut named = Vec::new();
        // A name by valid answers does not depend on what was asked later, and some of its answers may be forgotten.
        let may_gain = |flow: &RecentFlow| {
            let settled = flow.name.as_ref().is_some_and(FlowName::is_by_valid);
            fresh.get(&flow.responder).is_some_and(|at| !settled || *at <= flow.first_seen)
        };
        for flow in recent.iter_mut().filter(|flow| may_gain(flow)) {
            let name = self.name_of(flow.device, flow.responder, flow.first_seen);
            if name.as_ref().is_some_and(|name| name.is_better_than(flow.name.as_ref())) {
                flow.name = name;
                named.push(flow.clone());
            }
        }
        self.recent = recent;
        named
    }
}

impl Answer {
    fn new(domain: Arc<str>, at: Micros, ttl_s: Option<u32>) -> Self {
        let valid = ttl_s.map_or(UNKNOWN_TTL_US, |ttl| Micros::from(ttl) * SECOND_US);
        Self { domain, at, valid_until: at.saturating_add(valid) }
    }
}

/// Forgets one answer, and rather one that was repeated than the only one of its domain.
fn make_room(answers: &mut VecDeque<Answer>) {
    // Asked again before it had expired, and nothing else between: the two are one answer that was valid longer.
    let joined = |place: &usize| {
        let (one, next) = (&answers[*place], &answers[*place + 1]);
        one.domain == next.domain && next.at <= one.valid_until
    };
    if let Some(place) = (0..answers.len() - 1).find(joined) {
        if let Some(next) = answers.remove(place + 1) {
            answers[place].valid_until = next.valid_until.max(answers[place].valid_until);
        }
        return;
    }
    let repeated =
        |place: &usize| answers.range(*place + 1..).any(|later| later.domain == answers[*place].domain);
    answers.remove((0..answers.len()).find(repeated).unwrap_or(0));
}

/// Judges the answers of one device for one address, in the order of their times.
fn judge(answers: &VecDeque<Answer>, began: Micros) -> Option<FlowName> {
    let named = |answer: &Answer, confidence, reason| {
        Some(FlowName { domain: Some(answer.domain.clone()), confidence, reason })
    };
    let before = answers.partition_point(|answer| answer.at <= began);
    let mut valid: Vec<&Answer> = Vec::new();
    for answer in answers.range(..before).rev().filter(|answer| answer.valid_until >= began) {
        if !valid.iter().any(|known| known.domain == answer.domain) {
            valid.push(answer);
        }
    }
    match valid.as_slice() {
        [only] => return named(only, ONLY, NameReason::OnlyCandidate),
        [newest, others @ ..] => {
            let confidence = SEVERAL[(others.len() - 1).min(SEVERAL.len() - 1)];
            return named(newest, confidence, NameReason::SeveralCandidates);
        }
        [] => {}
    }
    if let Some(last) = before.checked_sub(1).and_then(|place| answers.get(place)) {
        let age = began - last.valid_until;
        if age <= FORGOTTEN_US {
            let confidence = if age <= STALE_US { OLDER } else { MUCH_OLDER };
            return named(last, confidence, NameReason::OlderThanTtl);
        }
    }
    let after = answers.get(before).filter(|answer| answer.at <= began + AFTER_US)?;
    named(after, AFTER, NameReason::AnswerAfterFlow)
}
