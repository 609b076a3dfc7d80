//! Opening a monitor, in the order that matters: whether we may, settings, subscription, addresses.

use std::{io, path::Path, sync::Arc, time::Duration};

use netlink_sys::protocols::NETLINK_NETFILTER;
use tokio::time::Instant;

use super::{
    Monitor, MonitorConfig, MonitorError, MonitorStats,
    config::failed,
    dump, request,
    route::AddressWatch,
    socket::{self, Datagrams, NetlinkSocket, ReceiveBuffer},
    sysctl, unix_us,
    watchdog::Watchdog,
};
use crate::{
    addresses::{AddressBook, LanConfig},
    decode::{Envelopes, Frame},
    flows::{FlowTable, MAX_FLOWS},
};

const NFNLGRP_CONNTRACK_NEW: u32 = 1;
const NFNLGRP_CONNTRACK_DESTROY: u32 = 3;
/// Between two reads of the event socket, where its buffer is at least [`LINGER_BYTES`].
const LINGER: Duration = Duration::from_millis(10);
const LINGER_BYTES: usize = 2 * 1024 * 1024;

impl Monitor {
    /// Opens the sockets, sets sysctls, subscribes, and reads the host's addresses. `run_tag` is the high
    /// half of this run's flow ids. To be called within a tokio runtime.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn open(config: MonitorConfig, run_tag: u32) -> Result<Monitor, MonitorError> {
        probe()?;
        // What is not as it should be then is told by `Monitor::warnings`, as long as it lasts.
        sysctl::apply(Path::new(sysctl::DIRECTORY), config.set_sysctls);
        let mut warnings = Vec::new();

        let events =
            NetlinkSocket::open(NETLINK_NETFILTER).map_err(failed("cannot open a netlink socket"))?;
        let room =
            events.set_receive_buffer(config.read_buffer_bytes).map_err(failed("cannot set SO_RCVBUF"))?;
        if let Some(warning) = small_buffer(room, config.read_buffer_bytes) {
            warnings.push(warning);
        }
        let events = Arc::new(events);
        let watchdog = if config.reliable {
            let watchdog = Watchdog::start(Arc::clone(&events));
            Some(watchdog.map_err(failed("cannot start the watchdog thread"))?)
        } else {
            warnings
                .push("reliable delivery is off: ends of connections are lost when the agent is slow".into());
            None
        };
        for group in [NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY] {
            events.join(group).map_err(failed("cannot subscribe to conntrack events"))?;
        }
        let watch_start_us = unix_us();

        let lan = LanConfig {
            lan_interfaces: config.lan_interfaces,
            wan_interfaces: config.wan_interfaces,
            lan_subnets: config.lan_subnets,
        };
        let mut buffer = vec![0; dump::PIECE_BYTES];
        let addresses = AddressWatch::open(lan.needs_routes()).map_err(failed("cannot watch addresses"))?;
        let host = addresses.read_all(&mut buffer).map_err(failed("cannot read the host's addresses"))?;
        let book = AddressBook::new(&lan, &host);

        let now = Instant::now();
        Ok(Monitor {
            events: socket::watch(events).map_err(failed("cannot register a socket"))?,
            datagrams: Datagrams::default(),
            addresses,
            buffer,
            no_lan: book.knows_no_lan(),
            table: FlowTable::new(run_tag, watch_start_us, MAX_FLOWS, book),
            dump: None,
            next_dump: now,
            last_dump: now,
            addresses_due: None,
            linger_until: now,
            linger: if room.bytes >= LINGER_BYTES { LINGER } else { Duration::ZERO },
            busy: true,
            watchdog,
            overruns: 0,
            decode_errors: 0,
            drained_us: watch_start_us,
            lan,
            report_interval: config.report_interval,
            started: now,
            stats: MonitorStats::default(),
            warnings,
        })
    }
}

const PROBE: &str = "cannot ask for the size of the conntrack table";

/// Asks for the table's size, which makes the kernel load its module and shows whether we may.
fn probe() -> Result<(), MonitorError> {
    let socket = NetlinkSocket::open(NETLINK_NETFILTER).map_err(failed("cannot open a netlink socket"))?;
    socket.request(&request::conntrack_size()).map_err(failed(PROBE))?;
    let mut buffer = [0; 1024];
    let answer = socket.receive(&mut buffer).map_err(failed(PROBE))?.unwrap_or_default();
    verdict(Envelopes::new(answer).next().and_then(Result::ok))
}

/// What the first answer says. EINVAL is nfnetlink's word for a subsystem that no module offers.
fn verdict(answer: Option<Frame<'_>>) -> Result<(), MonitorError> {
    match answer {
        Some(Frame::Error(errno @ libc::EINVAL)) => {
            Err(MonitorError::Module(io::Error::from_raw_os_error(errno)))
        }
        Some(Frame::Error(errno)) if errno != 0 => Err(failed(PROBE)(io::Error::from_raw_os_error(errno))),
        _ => Ok(()),
    }
}

fn small_buffer(room: ReceiveBuffer, asked: usize) -> Option<String> {
    // The kernel doubles what was asked for.
    (room.bytes < asked.saturating_mul(2)).then(|| {
        format!(
            "the event socket's buffer is {} bytes instead of {}: raise net.core.rmem_max, or run with CAP_NET_ADMIN",
            room.bytes / 2,
            asked
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_module_is_told_of_by_its_names() {
        let said = |errno| verdict(Some(Frame::Error(errno))).map_err(|error| error.to_string());
        let missing = said(libc::EINVAL).expect_err("to be refused");
        for name in ["nf_conntrack_netlink", "kmod-nf-conntrack-netlink"] {
            assert!(missing.contains(name), "{missing}");
        }
        assert!(said(libc::EPERM).expect_err("to be refused").contains("CAP_NET_ADMIN"));
        assert!(said(libc::ENOMEM).expect_err("to be refused").starts_with(PROBE));
        assert_eq!(said(0), Ok(()));
        assert!(verdict(None).is_ok());
    }
}
