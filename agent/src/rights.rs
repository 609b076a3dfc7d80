//! What this process may do: what it needs, and how it gives up the rest.
//!
//! Watching conntrack and NFLOG and setting their sysctls takes CAP_NET_ADMIN. CAP_DAC_READ_SEARCH lets the
//! agent read logs and leases that belong to other users. Nothing else is needed, not even by root.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::DAC_READ_SEARCH);

/// Gives up, for this thread and those that it starts, every capability but the two above, and the way to
/// get them back by running another program.
///
/// # Errors
/// Those of prctl(2) and capset(2).
pub fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    let kept = capabilities(None)?.permitted.intersection(KEPT);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// Whether this process may administrate the network, as far as its capabilities tell.
pub fn may_watch() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// Whether it may read every file, as far as its capabilities tell.
pub fn may_read_all() -> bool {
    capabilities(None).is_ok_and(|sets| {
        sets.effective.intersects(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_gone() {
        // Capabilities belong to a thread; this one is done for afterwards.
        let thread = std::thread::spawn(|| {
            let before = capabilities(None)?.permitted;
            give_up()?;
            let after = capabilities(None)?;
            assert_eq!(after.permitted, before.intersection(KEPT));
            assert_eq!(after.effective, after.permitted);
            assert!(rustix::thread::no_new_privs()?);
            io::Result::Ok(())
        });
        thread.join().expect("no panic").expect("allowed");
    }
}
