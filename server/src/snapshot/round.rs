//! One snapshot after the other, into the database by the road of all events.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;
use tracing::warn;

use super::listing::Listing;
use super::{Compared, Table};
use crate::clock::Clock;
use crate::domain::{FlowRecord, RouterId, is_by_tuple};
use crate::ingest::{self, BatchWork, Ingest, Observation, Reply, check_events};
use crate::store::{Store, Writer};

/// Events of one batch.
const BATCH_EVENTS: usize = 4_096;

/// Snapshots of one router.
pub struct Snapshots {
    ingest: Ingest,
    writer: JoinHandle<()>,
    clock: Arc<dyn Clock>,
    router: String,
    id: RouterId,
    /// `None`: a snapshot was not stored whole, so what is stored has to be read again.
    table: Option<Table>,
}

/// Under this key stands when the last snapshot of a router was stored; empty: none was yet.
fn mark(router: &str) -> String {
    format!("snapshots_of {router}")
}

/// An agent that tells of connections as they come gives them ids.
fn is_of_a_snapshot(flow: &FlowRecord) -> bool {
    is_by_tuple(flow.flow_id)
}

impl Snapshots {
    /// Makes ready to take snapshots of this router.
    ///
    /// # Errors
    /// The database cannot be used, or the router is one that an agent tells of: its flows would count twice.
    pub fn start(store: &Store, router: &str, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        if !ingest::is_router_name(router) {
            bail!("--router {router:?}: expected 1 to 64 of A-Z a-z 0-9 . _ : -");
        }
        let mut writer = store.writer()?;
        let known = store.reader().routers()?.iter().any(|row| row.name == router);
        if known && writer.setting(&mark(router))?.is_none() {
            return Err(told_by_agent(router));
        }
        writer.begin_day(clock.now())?;
        let id = writer.attach_router(router, clock.now())?.id;
        writer.setting_or_insert(&mark(router), "")?;
        let (ingest, writer) = ingest::start(writer, Arc::clone(&clock))?;
        Ok(Self { ingest, writer, clock, router: router.to_owned(), id, table: None })
    }

    /// Stores a snapshot.
    ///
    /// # Errors
    /// An agent tells of this router by now, or the database cannot be used. What was stored of the snapshot stays, and
    /// the next one goes on from it.
    pub async fn take(&mut self, listing: Listing) -> anyhow::Result<Compared> {
        if let Some(refusal) = &listing.refusal {
            let refused = listing.refused;
            warn!(refused, "{refusal}; lines were not understood, so that no flow counts as gone");
        }
        let (id, key, name, now) = (self.id, mark(&self.router), self.router.clone(), self.clock.now());
        let stored = self.table.is_none();
        let look = move |writer: &mut Writer| {
            let told = writer.is_told_by_agent(id)?;
            let earlier = writer.setting(&key)?.is_some_and(|time| !time.is_empty());
            let open = if stored { writer.attach_router(&name, now)?.open } else { Vec::new() };
            Ok((told, earlier, open))
        };
        let (told, earlier, open) = self.ingest.chore(look).await?;
        if told {
            return Err(told_by_agent(&self.router));
        }
        let mut table = self.table.take().unwrap_or_else(|| {
            let open: Vec<FlowRecord> = open.into_iter().filter(is_of_a_snapshot).collect();
            Table::restored(&open, earlier)
        });
        let complete = listing.is_complete();
        let (events, compared) = table.take(listing.flows, complete, now);
        for events in events.chunks(BATCH_EVENTS) {
            self.store(events.to_vec()).await?;
        }
        let key = mark(&self.router);
        self.ingest.chore(move |writer| writer.set_setting(&key, &now.to_string())).await?;
        self.table = Some(table);
        Ok(compared)
    }

    async fn store(&self, events: Vec<netmon_proto::v1::Event>) -> anyhow::Result<()> {
        let permit = self.ingest.room_for(events.len()).await?;
        let mut checked = check_events(events, self.clock.now(), false);
        for event in &mut checked.events {
            // No agent made an id: the engine finds the flow by its five-tuple.
            if let Observation::Flow(report) = &mut event.what {
                report.flow_id = 0;
            }
        }
        let (reply, answer) = oneshot::channel();
        self.ingest.submit(BatchWork {
            router: None,
            router_name: self.router.as_str().into(),
            epoch: 0,
            sequence: 0,
            lost_before: 0,
            lost_events: 0,
            lost_cause: 0,
            digest: None,
            accepted: checked.events.len() as u64,
            events: checked.events,
            originals: Vec::new(),
            rejections: checked.rejections,
            rejected: checked.rejected,
            permit,
            reply: Reply::Call(reply),
        })?;
        answer.await.context("the writer has stopped")??;
        Ok(())
    }

    /// Ends the writer.
    ///
    /// # Errors
    /// It had failed.
    pub fn finish(self) -> anyhow::Result<()> {
        self.ingest.close();
        self.writer.join().map_err(|_| anyhow::anyhow!("the writer had failed"))
    }
}

fn told_by_agent(router: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "router {router:?} is told of by an agent, and a snapshot of it would count its flows twice: \
         name another router with --router"
    )
}
