//! What firewall rules log, by netlink (NFLOG): dropped packets, and DNS responses.
//!
//! A rule that says `log group 10` hands a copy of the packet to whoever bound that group. Any number of
//! groups share one socket. The kernel collects packets for a tenth of a second and hands them over many at a
//! time, so that a flood costs few wake-ups.
//!
//! [`decode_log`] and [`parse_packet`] are pure: bytes in, values out. `guard` limits what one source can
//! make us report. What is lost is known exactly, because the kernel numbers the packets of a group.

mod answers;
mod dns;
#[cfg(test)]
mod dns_tests;
mod drops;
mod ears;
mod groups;
mod guard;
mod interfaces;
mod message;
mod packet;
mod request;
mod sequences;
mod state;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, rc::Rc};

use netmon_proto::v1::Event;

use crate::{
    decode::{Envelopes, Frame},
    flows::Moment,
    parts::Outlet,
};
pub use dns::{Reading, Unreported, read_message};
use drops::Drops;
use ears::Ears;
use groups::GroupSocket;
use interfaces::Names;
pub use message::{Family, LogMessage, decode_log};
pub use packet::{Fragment, Packet, parse_packet};
pub(crate) use state::NflogState;

/// Rules that log to it are unlikely. One that another program holds shows as much.
const PROBED_GROUP: u16 = 64_023;

/// What this part is told.
#[derive(Debug, Clone)]
pub(crate) struct NflogConfig {
    /// Groups that bring dropped packets.
    pub(crate) groups: Vec<u16>,
    /// Groups that bring DNS responses.
    pub(crate) dns_groups: Vec<u16>,
    /// How many dropped packets a second are reported of one source, in the long run.
    pub(crate) source_rate: u32,
}

/// Listens until the agent stops.
pub(crate) async fn run(
    config: NflogConfig,
    outlet: Outlet,
    state: Rc<RefCell<NflogState>>,
) -> anyhow::Result<()> {
    let mut ears = Ears::open(&config, state)?;
    let result = ears.listen(&outlet).await;
    let mut last: Vec<Event> = Vec::new();
    ears.finish(&mut last);
    outlet.send(last).await;
    result
}

/// Binds a group for a moment, as the service does: that loads the kernel's module where it is not loaded yet,
/// and shows whether we may. Needs a tokio runtime.
pub(crate) fn probe() -> anyhow::Result<()> {
    Ok(GroupSocket::open(&[PROBED_GROUP], ears::DROPS).map(drop)?)
}

/// What would be reported of one datagram, on a host whose interfaces have no names. For tests and fuzzing:
/// the part itself reads sockets.
pub fn report_datagram(datagram: &[u8], is_dns: bool) -> Vec<Event> {
    let (mut state, mut events) = (NflogState::default(), Vec::new());
    let now = Moment { unix_us: 1, uptime_ms: 1 };
    let mut drops = Drops::new(1000);
    for frame in Envelopes::new(datagram) {
        let Ok(Frame::Message { message_type, payload, .. }) = frame else { continue };
        match decode_log(message_type, payload) {
            Ok(message) if is_dns => answers::take(&message, now, &mut state, &mut events),
            Ok(message) => drops.take(&message, &Names::default(), now, &mut state, &mut events),
            Err(_) => {}
        }
    }
    events
}
