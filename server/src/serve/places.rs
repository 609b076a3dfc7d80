//! Who may have a connection: so many in all, and so many of one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places there are.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: usize,
    local: usize,
}

/// A place that nobody has yet.
pub(super) struct FreePlace(OwnedSemaphorePermit);

/// One connection's place, given back when it is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    holder: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// `all` places, of which one address gets at most `per_address`, and one of this machine `local`.
    pub(super) fn new(all: usize, per_address: usize, local: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), taken: Arc::default(), per_address, local }
    }

    /// Waits for a free place. None: there will never be one.
    pub(super) async fn free(&self) -> Option<FreePlace> {
        self.free.clone().acquire_owned().await.ok().map(FreePlace)
    }

    /// Gives the place to this address; None: it has as many as it may.
    pub(super) fn give(&self, place: FreePlace, address: IpAddr) -> Option<Place> {
        let holder = holder(address);
        let most = if holder.is_loopback() { self.local } else { self.per_address };
        let mut taken = lock(&self.taken);
        let count = taken.entry(holder).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { taken: self.taken.clone(), holder, _permit: place.0 })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

/// A panic while it was held has left it whole: nothing happens between two changes of it.
fn lock(taken: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose places an address takes. Of IPv6 it is the /64: whoever has one address of it has all of them. Link-local
/// addresses share one prefix, and each is a neighbour of its own.
fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() && !address.is_unicast_link_local() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
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
        let places = Places::new(9, 2, 4);
        for (own, other) in [
            ("192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:2::1"),
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
    fn one_holder_has_many_spellings() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("fe80::1:2", "fe80::1:2"),
            ("::1", "::1"),
        ] {
            assert_eq!(holder(address.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn this_machine_may_have_more_and_nobody_more_than_all() {
        let places = Places::new(5, 2, 4);
        let local: Vec<_> = (0..9).map_while(|_| take(&places, "127.0.0.1")).collect();
        assert_eq!(local.len(), 4);
        let _last = take(&places, "192.0.2.1").unwrap();
        assert!(take(&places, "192.0.2.2").is_none());
    }
}
