//! The sockets, and the road from what they bring to events.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use anyhow::Context;
use netmon_proto::v1::{Event, GapCause};
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    NflogConfig, NflogState, answers,
    drops::Drops,
    groups::{GroupSocket, Heard},
    interfaces::Interfaces,
    message::{LogMessage, decode_log},
    request::Mode,
    sequences::Sequences,
};
use crate::{
    decode::{Envelopes, Frame},
    flows::{Moment, gap},
    host,
    parts::Outlet,
};

/// Events of one turn, give or take those of one datagram.
const TURN_EVENTS: usize = 1024;
/// Datagrams of one turn, where they make no events.
const TURN_DATAGRAMS: usize = 256;
/// How often the flood guard accounts for what no report will tell of.
const SETTLE: Duration = Duration::from_secs(1);
/// The first pause and the longest before groups are asked for again that could not be bound.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// What reading the last packets may take at the end.
const FINISH: Duration = Duration::from_millis(500);

/// All headers: those of IPv6 with a few extensions, and of TCP.
pub(super) const DROPS: Mode = Mode { copy_bytes: 160, wait_centiseconds: 10, datagram_bytes: 16 * 1024 };
/// The whole packet, and soon: its names explain flows that begin now.
const ANSWERS: Mode = Mode { copy_bytes: 0xffff, wait_centiseconds: 2, datagram_bytes: 32 * 1024 };

/// See the module.
pub(super) struct Ears {
    drop_groups: Option<GroupSocket>,
    dns_groups: Option<GroupSocket>,
    drops: Drops,
    interfaces: Interfaces,
    sequences: Sequences,
    started: Instant,
    retry_at: Instant,
    retry_pause: Duration,
    state: Rc<RefCell<NflogState>>,
}

impl Ears {
    pub(super) fn open(config: &NflogConfig, state: Rc<RefCell<NflogState>>) -> anyhow::Result<Self> {
        // Names first: a packet that is heard can be told of.
        let interfaces = Interfaces::open().context("cannot watch interfaces")?;
        state.borrow_mut().not_heard.clear();
        let ears = Self {
            drop_groups: GroupSocket::open(&config.groups, DROPS)?,
            dns_groups: GroupSocket::open(&config.dns_groups, ANSWERS)?,
            drops: Drops::new(config.source_rate),
            interfaces,
            sequences: Sequences::default(),
            started: Instant::now(),
            retry_at: Instant::now() + RETRY[0],
            retry_pause: RETRY[0],
            state,
        };
        ears.tell_what_is_not_heard();
        Ok(ears)
    }

    /// Hands over what is heard until the agent stops.
    pub(super) async fn listen(&mut self, outlet: &Outlet) -> anyhow::Result<()> {
        let mut ticks = interval(SETTLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy = false;
        loop {
            let mut events = Vec::new();
            if busy {
                // Whoever runs on the same thread gets a turn between two full ones.
                yield_now().await;
            } else {
                tokio::select! {
                    // What is due comes before what is always there in a flood.
                    biased;
                    () = outlet.stopping() => return Ok(()),
                    _ = ticks.tick() => self.settle(&mut events),
                    () = readable(self.drop_groups.as_ref()) => {}
                    () = readable(self.dns_groups.as_ref()) => {}
                    () = self.interfaces.readable() => {}
                }
            }
            let turned = self.turn(&mut events);
            outlet.send(events).await;
            busy = turned.context("cannot read what the firewall logged")?;
        }
    }

    /// Reads what there is, up to a bound. True when some may be left.
    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        self.interfaces.follow()?;
        let now = self.now();
        let Self { drop_groups, dns_groups, drops, interfaces, sequences, state, .. } = self;
        let mut state = state.borrow_mut();
        let known = state.not_understood();
        let mut busy = false;
        if let Some(socket) = drop_groups {
            let mut take = |message: &LogMessage<'_>, interfaces: &Interfaces, state: &mut NflogState| {
                drops.take(message, &interfaces.names, now, state, events);
                events.len()
            };
            busy |= read(socket, interfaces, sequences, &mut state, &mut take)?;
        }
        if let Some(socket) = dns_groups {
            let mut take = |message: &LogMessage<'_>, _: &Interfaces, state: &mut NflogState| {
                answers::take(message, now, state, events);
                events.len()
            };
            busy |= read(socket, interfaces, sequences, &mut state, &mut take)?;
        }
        sequences.report(now, &mut state, events);
        let [packets, responses] = state.not_understood();
        let gaps = [
            (packets - known[0], "logged packets not understood"),
            (responses - known[1], "DNS responses not understood, or only in part in one packet"),
        ];
        for (count, detail) in gaps.into_iter().filter(|(count, _)| *count > 0) {
            events.push(gap(GapCause::Decode, count, 0, now.unix_us, detail));
        }
        Ok(busy)
    }

    fn settle(&mut self, events: &mut Vec<Event>) {
        self.drops.settle(self.now(), events);
        self.state.borrow_mut().sources = self.drops.sources();
        if Instant::now() >= self.retry_at {
            for socket in [&mut self.drop_groups, &mut self.dns_groups].into_iter().flatten() {
                socket.retry();
            }
            self.tell_what_is_not_heard();
            self.retry_pause = (self.retry_pause * 2).min(RETRY[1]);
            self.retry_at = Instant::now() + self.retry_pause;
        }
    }

    fn tell_what_is_not_heard(&self) {
        let sockets = [&self.drop_groups, &self.dns_groups].into_iter().flatten();
        self.state.borrow_mut().not_heard = sockets.flat_map(GroupSocket::warnings).collect();
    }

    /// The last thing before the end.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) {
        for socket in [&self.drop_groups, &self.dns_groups].into_iter().flatten() {
            socket.let_go();
        }
        let limit = Instant::now() + FINISH;
        loop {
            match self.turn(events) {
                Ok(true) if Instant::now() < limit => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "the last packets that were logged could not be read");
                    break;
                }
            }
        }
        let now = self.now();
        self.drops.settle_all(now, events);
        self.sequences.report_unexplained(now, events);
    }

    fn now(&self) -> Moment {
        let uptime_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { unix_us: host::now_us(), uptime_ms }
    }
}

async fn readable(socket: Option<&GroupSocket>) {
    match socket {
        Some(socket) => socket.readable().await,
        None => std::future::pending().await,
    }
}

/// Reads a socket until it is empty or `take`, which gives the number of events in hand, has enough. True
/// when something may be left.
fn read(
    socket: &mut GroupSocket,
    interfaces: &mut Interfaces,
    sequences: &mut Sequences,
    state: &mut NflogState,
    take: &mut impl FnMut(&LogMessage<'_>, &Interfaces, &mut NflogState) -> usize,
) -> io::Result<bool> {
    let mut in_hand = 0;
    for _ in 0..TURN_DATAGRAMS {
        if in_hand >= TURN_EVENTS {
            break;
        }
        let datagram = match socket.read()? {
            Heard::Datagram(datagram) => datagram,
            Heard::Silence => return Ok(false),
            Heard::Overrun => {
                state.overruns += 1;
                sequences.overrun();
                continue;
            }
            Heard::Garbled => {
                state.parse_errors += 1;
                continue;
            }
        };
        // An interface was told of before a packet of it was logged.
        interfaces.follow()?;
        for frame in Envelopes::new(datagram) {
            let (message_type, payload) = match frame {
                Ok(Frame::Message { message_type, payload, .. }) => (message_type, payload),
                // The end of a datagram with several packets, or the answer to letting a group go.
                Ok(Frame::Done { .. } | Frame::Error(_)) => continue,
                Err(_) => {
                    state.parse_errors += 1;
                    continue;
                }
            };
            match decode_log(message_type, payload) {
                Ok(message) => {
                    if let Some(sequence) = message.sequence {
                        sequences.heard(message.group, sequence);
                    }
                    in_hand = take(&message, interfaces, state);
                }
                Err(error) => {
                    tracing::debug!(%error, message_type, "NFLOG message not understood");
                    state.parse_errors += 1;
                }
            }
        }
    }
    Ok(true)
}
