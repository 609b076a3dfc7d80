//! What is known of a host or a device from elsewhere: its network and country, its name by reverse DNS, the
//! maker of its network card, what whois says; and what ports are for.
//!
//! Nothing here stands in the way of ingest. [`Networks`], [`vendor`] and [`service`] answer from memory.
//! [`reverse`] asks in the background, slowly, and hands what it learns to the writer. [`whois`] asks when a person does.
//! Nothing but `reverse` and `whois` sends anything, and both can be switched off.

mod networks;
mod ports;
mod reload;
pub mod reverse;
mod vendors;
pub mod whois;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

pub use networks::{Network, Networks};
pub use ports::service;
pub use vendors::{Vendors, vendor};

use crate::store::Elsewhere;

/// How often the files are looked at for a change.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where to look things up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnrichOptions {
    /// Files in MaxMind's format, in the order in which they are asked.
    pub mmdb: Vec<PathBuf>,
    /// A table of makers that goes before the bundled one.
    pub oui: Option<PathBuf>,
    /// How many names a second are asked for by reverse DNS; zero: none.
    pub reverse_dns_per_second: u32,
    /// Where a whois question goes first; `None`: whois is off.
    pub whois_server: Option<String>,
}

/// The tables in memory, shared by all who look things up.
#[derive(Debug)]
pub struct Enrichment {
    /// Networks and countries.
    pub networks: Networks,
    /// Makers of network cards.
    pub vendors: Vendors,
}

impl Enrichment {
    /// Reads the files. One that cannot be read is told of and looked at again later.
    #[must_use]
    pub fn load(options: &EnrichOptions) -> Arc<Self> {
        let loaded =
            Self { networks: Networks::new(&options.mmdb), vendors: Vendors::new(options.oui.as_deref()) };
        loaded.refresh();
        Arc::new(loaded)
    }

    /// Where to look for a text in what is known of a host.
    #[must_use]
    pub fn of_hosts(self: &Arc<Self>) -> Elsewhere {
        let this = Arc::clone(self);
        Elsewhere::new(move |address, text| this.networks.find(address).says(text))
    }

    /// Reads again what has changed on disk.
    pub fn refresh(&self) {
        self.networks.refresh();
        self.vendors.refresh();
    }

    /// Goes on doing so.
    pub async fn follow_files(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let this = Arc::clone(&self);
            // Only a panic ends it early, and that has been logged.
            let _ = tokio::task::spawn_blocking(move || this.refresh()).await;
        }
    }
}

/// Whether the outside world can know anything about this address.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                // RFC 6598: the space of carriers.
                || (a == 100 && (64..128).contains(&b)))
        }
        // RFC 4291: what is given out is 2000::/3; of it 2001:db8::/32 is for documents.
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[..2] != [0x2001, 0xdb8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_asked_about() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("192.168.1.20", false),
            ("100.64.3.4", false),
            ("100.128.3.4", true),
            ("224.0.0.251", false),
            ("255.255.255.255", false),
            ("203.0.113.9", false),
            ("0.0.0.0", false),
            ("2001:4860:4860::8888", true),
            ("2001:db8::1", false),
            ("fd77::20", false),
            ("fe80::1", false),
            ("ff02::fb", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
