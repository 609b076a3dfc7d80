//! Five-tuples that are used twice without a pause. The kernel gives the second entry the place in memory, and so
//! the id, of the first, and some are both made while the agent reads the kernel's table: it then knows the second
//! by its row before it hears the end of the first.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::conversation::{Carrier, Close, Conversation};
use crate::lab::Lab;
use crate::namespaces::{LAN_V6, Place, SERVICE_PORT, WAN_V6};
use crate::outside::Site;

/// The agent reads the kernel's table every two seconds: at least once while this lasts.
const TIME: Duration = Duration::from_millis(2_500);
/// The first of the ports that are used twice.
const FIRST_PORT: u16 = 21_000;
/// How many must have been used at the least, for the test to have tested anything.
const PORTS: u16 = 100;

/// Issue: counted once.
pub(crate) fn each_is_a_flow_of_its_own(site: &Site) -> anyhow::Result<()> {
    let mut lab = Lab::start(site)?;
    let ports = Place::Lan.within(|| -> anyhow::Result<u16> {
        let until = Instant::now() + TIME;
        let mut port = FIRST_PORT;
        while Instant::now() < until {
            for _ in 0..2 {
                let (from, to) = (SocketAddr::new(LAN_V6[0], port), SocketAddr::new(WAN_V6[0], SERVICE_PORT));
                let mut conversation = Conversation::open(Carrier::Tcp, from, to)?;
                conversation.round(100, 100)?;
                conversation.close(Close::Reset)?;
            }
            port += 1;
        }
        Ok(port - FIRST_PORT)
    })?;
    ensure!(ports >= PORTS, "only {ports} ports in {TIME:?}");
    let account = lab.agree()?;
    lab.agree_on_totals()?;
    ensure!(account.unseen + account.absent == 0, "flows were lost: {account:?}");
    println!("{} flows ended, each there once", account.watched());
    lab.stop_agent()
}
