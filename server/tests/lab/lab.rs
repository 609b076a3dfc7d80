//! A lab with both programs running in it.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, ensure};

use crate::api::{self, Flow};
use crate::compare::{self, Agreement, Unwatched};
use crate::ctnetlink::{self, FlowKey};
use crate::daemon::{Agent, PROXY_PORT, SERVER_PORT, Server, TOKEN};
use crate::ledger::Ledger;
use crate::namespaces::{self, Place, ROUTER_MGMT, SERVER};
use crate::outside::Site;
use crate::proxy::Proxy;
use crate::traffic::Services;
use crate::wait;

/// For the server to have heard of everything: the agent looks at its table every two seconds, and after a
/// fault it waits before it tries again.
const CATCH_UP: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Lab {
    /// The kernel's account.
    pub(crate) ledger: Ledger,
    /// When no agent was watching.
    pub(crate) unwatched: Unwatched,
    directory: PathBuf,
    /// Where the agent is told that the server is.
    agents_port: u16,
    agent: Option<Agent>,
    server: Option<Server>,
}

impl Lab {
    /// Networks, services, ledger, server and agent, all of them running. Accounting is left for the agent
    /// to turn on.
    pub(crate) fn start(site: &Site) -> anyhow::Result<Self> {
        Self::lay_out(site)?.running(SERVER_PORT)
    }

    /// The same, with a way from agent to server that can be meddled with.
    pub(crate) fn start_with_proxy(site: &Site) -> anyhow::Result<(Self, Proxy)> {
        let lab = Self::lay_out(site)?;
        let proxy = Proxy::start()?;
        Ok((lab.running(PROXY_PORT)?, proxy))
    }

    fn lay_out(site: &Site) -> anyhow::Result<Self> {
        namespaces::lay_out()?;
        let ledger = Ledger::open()?;
        Services::start()?;
        let (directory, unwatched) = (site.directory.clone(), Unwatched::default());
        Ok(Self { ledger, unwatched, directory, agents_port: 0, agent: None, server: None })
    }

    fn running(mut self, agents_port: u16) -> anyhow::Result<Self> {
        self.agents_port = agents_port;
        self.start_server()?;
        self.start_agent(UNIX_EPOCH)?;
        Ok(self)
    }

    /// Kills the server.
    pub(crate) fn kill_server(&mut self) -> anyhow::Result<()> {
        self.server.take().ok_or_else(|| anyhow!("no server is running"))?.kill()
    }

    /// Starts it again on its database.
    pub(crate) fn start_server(&mut self) -> anyhow::Result<()> {
        self.start_server_with(TOKEN)
    }

    /// The same with another token, which ends everyone's login.
    pub(crate) fn start_server_with(&mut self, token: &str) -> anyhow::Result<()> {
        self.server = Some(Server::start(&self.directory, token)?);
        Ok(())
    }

    /// Kills the agent.
    pub(crate) fn kill_agent(&mut self) -> anyhow::Result<()> {
        self.agent.take().ok_or_else(|| anyhow!("no agent is running"))?.kill()
    }

    /// Starts the agent, waits until it watches, and notes the time without one.
    pub(crate) fn start_agent(&mut self, unwatched_since: SystemTime) -> anyhow::Result<()> {
        let start = SystemTime::now();
        let mut agent = Agent::start(&self.directory, self.agents_port)?;
        let watching = wait::until_ok("the agent watches", CATCH_UP, || {
            agent.check_alive()?;
            watches_since(start)
        });
        self.unwatched.add(unwatched_since, SystemTime::now());
        self.agent = Some(agent);
        watching
    }

    /// Stops the agent in order.
    pub(crate) fn stop_agent(&mut self) -> anyhow::Result<()> {
        self.agent.take().ok_or_else(|| anyhow!("no agent is running"))?.stop()
    }

    /// Lets time pass; what ends meanwhile ends in time, whether an agent looks at the table or not.
    pub(crate) fn pass(&self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            ctnetlink::dump(Place::Router)?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until the server's account is the kernel's. All connections that are open must be silent, but
    /// for the agent's own: those move as long as there is anything to tell.
    pub(crate) fn agree(&self) -> anyhow::Result<Agreement> {
        wait::until_ok("the server's account is the kernel's", CATCH_UP, || self.agreement_now())
    }

    /// Compares the server's account with the kernel's as they are now.
    pub(crate) fn agreement_now(&self) -> anyhow::Result<Agreement> {
        // This also brings overdue ends about.
        let table = ctnetlink::dump(Place::Router)?;
        compare::flows(&self.ledger.ended()?, &table, &api::flows()?, &self.unwatched, is_agents_own)
    }

    /// Waits until the server's sums are those of its flows.
    pub(crate) fn agree_on_totals(&self) -> anyhow::Result<api::Sums> {
        wait::until_ok("the server's sums are those of its flows", CATCH_UP, || {
            let before = api::totals()?;
            let flows = api::flows()?;
            ensure!(before == api::totals()?, "the sums move all the time");
            compare::totals(&flows, before)?;
            Ok(before.flows)
        })
    }
}

/// The agent's connections to the server.
fn is_agents_own(key: FlowKey) -> bool {
    (key.protocol, key.src, key.dst) == (6, ROUTER_MGMT, SERVER)
}

/// The agent hears of its own connection only if it was subscribed when it opened it, and the server hears of
/// that only through it.
fn watches_since(start: SystemTime) -> anyhow::Result<()> {
    let start_us = start.duration_since(UNIX_EPOCH)?.as_micros() as i64;
    let is_new = |flow: &Flow| is_agents_own(flow.key) && flow.first_seen_us >= start_us;
    ensure!(api::flows()?.iter().any(is_new), "no connection of the agent is known to the server");
    Ok(())
}
