//! Who may have a connection: so many in all, and so many of one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many places one of a kind may have at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) address: usize,
    /// A /64 of IPv6: whoever has one address of it has most often all of them.
    pub(super) network: usize,
    /// This machine itself.
    pub(super) loopback: usize,
}

/// Who holds places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Address(IpAddr),
    Network(Ipv6Addr),
}

/// The places there are.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<Holder, usize>>>,
    shares: Shares,
}

/// A place that nobody has yet.
pub(super) struct FreePlace(OwnedSemaphorePermit);

/// One connection's place, given back when it is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<HashMap<Holder, usize>>>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// `all` places, and how many of them one may have.
    pub(super) fn new(all: usize, shares: Shares) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), taken: Arc::default(), shares }
    }

    /// Waits for a free place. None: there will never be one.
    pub(super) async fn free(&self) -> Option<FreePlace> {
        self.free.clone().acquire_owned().await.ok().map(FreePlace)
    }

    /// Gives the place to this address; None: it has as many as it may.
    pub(super) fn give(&self, place: FreePlace, address: IpAddr) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let is_full = |holder: Holder| {
            let most = match holder {
                Holder::Address(address) if address.is_loopback() => self.shares.loopback,
                Holder::Address(_) => self.shares.address,
                Holder::Network(_) => self.shares.network,
            };
            taken.get(&holder).is_some_and(|count| *count >= most)
        };
        if holders(address).any(is_full) {
            return None;
        }
        for holder in holders(address) {
            *taken.entry(holder).or_default() += 1;
        }
        Some(Place { taken: self.taken.clone(), address, _permit: place.0 })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        for holder in holders(self.address) {
            if let Some(count) = taken.get_mut(&holder) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&holder);
                }
            }
        }
    }
}

/// A panic while it was held has left it whole: nothing happens between two changes of it.
fn lock(taken: &Mutex<HashMap<Holder, usize>>) -> MutexGuard<'_, HashMap<Holder, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who holds the place of a connection from this address. Link-local addresses share one prefix, and each is a neighbour
/// of its own.
fn holders(address: IpAddr) -> impl Iterator<Item = Holder> {
    let address = address.to_canonical();
    let network = match address {
        IpAddr::V6(address) if !address.is_loopback() && !address.is_unicast_link_local() => {
            Some(Holder::Network(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))))
        }
        _ => None,
    };
    std::iter::once(Holder::Address(address)).chain(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Places, address: &str) -> Option<Place> {
        let free = places.free.clone().try_acquire_owned().ok()?;
        places.give(FreePlace(free), address.parse().unwrap())
    }

    #[test]
    fn an_address_gets_so_many_and_another_one_its_own() {
        let places = Places::new(9, Shares { address: 2, network: 3, loopback: 4 });
        for (own, other) in [
            ("192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1::2"),
            ("fe80::1", "fe80::2"),
            ("192.0.2.1", "::1"),
        ] {
            let held: Vec<_> = (0..3).map_while(|_| take(&places, own)).collect();
            assert_eq!(held.len(), 2, "{own}");
            assert!(take(&places, other).is_some(), "{other} beside {own}");
            drop(held);
            assert!(take(&places, own).is_some(), "{own} after its connections");
        }
        assert!(lock(&places.taken).is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn a_network_of_ipv6_gets_so_many_whatever_its_addresses() {
        let places = Places::new(9, Shares { address: 2, network: 3, loopback: 4 });
        let held: Vec<_> = (1..9).map_while(|host| take(&places, &format!("2001:db8:0:1::{host}"))).collect();
        assert_eq!(held.len(), 3);
        assert!(take(&places, "2001:db8:0:2::1").is_some());
        let neighbours: Vec<_> = (1..9).map_while(|host| take(&places, &format!("fe80::{host}"))).collect();
        assert_eq!(neighbours.len(), 6, "all that are left");
    }

    #[test]
    fn one_holder_has_many_spellings() {
        let first = |address: &str| holders(address.parse().unwrap()).next();
        assert_eq!(first("::ffff:192.0.2.1"), first("192.0.2.1"));
        assert_eq!(first("::ffff:127.0.0.1"), first("127.0.0.1"));
        assert_eq!(holders("::1".parse().unwrap()).count(), 1);
    }

    #[test]
    fn this_machine_may_have_more_and_nobody_more_than_all() {
        let places = Places::new(5, Shares { address: 2, network: 3, loopback: 4 });
        let local: Vec<_> = (0..9).map_while(|_| take(&places, "127.0.0.1")).collect();
        assert_eq!(local.len(), 4);
        let _last = take(&places, "192.0.2.1").unwrap();
        assert!(take(&places, "192.0.2.2").is_none());
    }
}
