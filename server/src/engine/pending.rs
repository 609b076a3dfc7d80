//! What has been applied and not yet taken: one transaction's worth, merged by key.

use std::{collections::HashMap, net::IpAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::domain::{
    Changes, Counters, CursorMove, DeviceTouch, DnsBucket, DnsResponse, End, FirewallDrop, FlowRecord,
    GapRow, HealthMinute, HostMinuteDelta, HostTouch, HttpBatch, Identity, MINUTE_US, Micros, MinuteDelta,
    NamedFlow, Observed, RawEvent, RouterId, RouterUpdate,
};

/// What one report did to one flow.
#[derive(Debug)]
pub(super) struct FlowTouch {
    pub(super) router: RouterId,
    pub(super) flow_id: u64,
    pub(super) device: Option<IpAddr>,
    pub(super) remote: Option<IpAddr>,
    pub(super) protocol: u8,
    pub(super) port: u16,
    /// Set on the report that made the flow known: the time it counts as begun.
    pub(super) began_at: Option<Micros>,
    pub(super) seen: Micros,
    pub(super) moved: Counters,
    pub(super) moved_at: Micros,
    pub(super) clamped: bool,
    pub(super) end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MinuteKey {
    router: RouterId,
    minute: i64,
    device: Option<IpAddr>,
    protocol: u8,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct HostMinuteKey {
    router: RouterId,
    minute: i64,
    remote: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    first: Micros,
    last: Micros,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) routers: FxHashMap<RouterId, RouterUpdate>,
    pub(super) cursors: FxHashMap<(RouterId, u64), CursorMove>,
    pub(super) open: FxHashSet<(RouterId, u64)>,
    pub(super) closed: Vec<i64>,
    pub(super) finished: Vec<FlowRecord>,
    pub(super) raw: Vec<RawEvent>,
    gaps: HashMap<(RouterId, i16, String), GapRow>,
    devices: HashMap<(RouterId, IpAddr), Span>,
    hosts: HashMap<IpAddr, Span>,
    minutes: HashMap<MinuteKey, (i64, Counters)>,
    host_minutes: HashMap<HostMinuteKey, (i64, Counters)>,
    pub(super) clamped: u64,
    pub(super) drops: Vec<Observed<FirewallDrop>>,
    pub(super) dns: Vec<Observed<DnsResponse>>,
    pub(super) dns_buckets: Vec<Observed<DnsBucket>>,
    pub(super) identities: Vec<Observed<Identity>>,
    pub(super) health: FxHashMap<(RouterId, i64), HealthMinute>,
    pub(super) named: FxHashMap<i64, NamedFlow>,
    pub(super) http_batches: HashMap<(RouterId, [u8; 32]), HttpBatch>,
}

impl Span {
    fn widen(&mut self, first: Micros, last: Micros) {
        self.first = self.first.min(first);
        self.last = self.last.max(last);
    }
}

impl Pending {
    pub(super) fn move_cursor(&mut self, router: RouterId, epoch: u64, from: u64, to: u64) {
        self.cursors.entry((router, epoch)).and_modify(|cursor| cursor.to = to).or_insert(CursorMove {
            router,
            epoch,
            from: Some(from),
            to,
        });
    }

    /// Gaps of one cause and text within one transaction are one gap.
    pub(super) fn gap(&mut self, gap: GapRow) {
        match self.gaps.entry((gap.router, gap.cause, gap.detail.clone())) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.count = known.count.saturating_add(gap.count);
                known.from = known.from.min(gap.from);
                known.to = known.to.max(gap.to);
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(gap);
            }
        }
    }

    pub(super) fn update_router(&mut self, update: RouterUpdate) {
        match self.routers.entry(update.router) {
            std::collections::hash_map::Entry::Occupied(mut known) => known.get_mut().merge(update),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(update);
            }
        }
    }

    pub(super) fn device_seen(&mut self, router: RouterId, address: IpAddr, time: Micros) {
        let span = Span { first: time, last: time };
        self.devices.entry((router, address)).or_insert(span).widen(time, time);
    }

    pub(super) fn flow_touched(&mut self, touch: &FlowTouch) {
        self.clamped += u64::from(touch.clamped);
        let first = touch.began_at.unwrap_or(touch.seen).min(touch.seen);
        let span = Span { first, last: touch.seen };
        if let Some(address) = touch.device {
            self.devices.entry((touch.router, address)).or_insert(span).widen(first, touch.seen);
        }
        if let Some(address) = touch.remote {
            self.hosts.entry(address).or_insert(span).widen(first, touch.seen);
        }
        let key = |time: Micros| MinuteKey {
            router: touch.router,
            minute: time.div_euclid(MINUTE_US),
            device: touch.device,
            protocol: touch.protocol,
            port: touch.port,
        };
        let host_key = |time: Micros| HostMinuteKey {
            router: touch.router,
            minute: time.div_euclid(MINUTE_US),
            remote: touch.remote,
        };
        if let Some(began_at) = touch.began_at {
            self.minutes.entry(key(began_at)).or_default().0 += 1;
            self.host_minutes.entry(host_key(began_at)).or_default().0 += 1;
        }
        if !touch.moved.is_zero() {
            let (_, counters) = self.minutes.entry(key(touch.moved_at)).or_default();
            *counters = counters.plus(touch.moved);
            let (_, counters) = self.host_minutes.entry(host_key(touch.moved_at)).or_default();
            *counters = counters.plus(touch.moved);
        }
    }

    pub(super) fn into_changes(self, open: Vec<FlowRecord>) -> Changes {
        // In one order, so that two servers that share routers cannot wait for one another.
        let mut cursors: Vec<CursorMove> = self.cursors.into_values().collect();
        cursors.sort_unstable_by_key(|moved| (moved.router, moved.epoch));
        Changes {
            routers: self.routers.into_values().collect(),
            cursors,
            devices: self
                .devices
                .into_iter()
                .map(|((router, address), span)| DeviceTouch {
                    router,
                    address,
                    first_seen: span.first,
                    last_seen: span.last,
                })
                .collect(),
            hosts: self
                .hosts
                .into_iter()
                .map(|(address, span)| HostTouch { address, first_seen: span.first, last_seen: span.last })
                .collect(),
            finished: self.finished,
            open,
            closed: self.closed,
            minutes: self
                .minutes
                .into_iter()
                .map(|(key, (flows, counters))| MinuteDelta {
                    router: key.router,
                    minute: key.minute,
                    device: key.device,
                    protocol: key.protocol,
                    port: key.port,
                    flows,
                    counters,
                })
                .collect(),
            host_minutes: self
                .host_minutes
                .into_iter()
                .map(|(key, (flows, counters))| HostMinuteDelta {
                    router: key.router,
                    minute: key.minute,
                    remote: key.remote,
                    flows,
                    counters,
                })
                .collect(),
            gaps: self.gaps.into_values().collect(),
            raw: self.raw,
            drops: self.drops,
            dns: self.dns,
            dns_buckets: self.dns_buckets,
            identities: self.identities,
            health: self.health.into_values().collect(),
            named: self.named.into_values().collect(),
            http_batches: self.http_batches.into_values().collect(),
        }
    }
}
