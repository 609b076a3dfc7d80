//! How flows end: as an agent tells it, without a word, and where a router has fallen silent (see [`super::tuples`]).

use netmon_proto::v1::GapCause;

use super::{Engine, live::Recent, pending::Pending, router::RouterState};
use crate::domain::{End, GapRow, Micros, RouterId};

impl Engine {
    /// The flows that nothing was heard of for so long that they must be over, by router. Looked for once a minute.
    pub fn gone(&mut self, now: Micros) -> Vec<(RouterId, Vec<u64>)> {
        let gone = |(router, state): (&RouterId, &mut RouterState)| {
            let flows = state.tuples.gone(&state.open, now);
            (!flows.is_empty()).then_some((*router, flows))
        };
        self.routers.iter_mut().filter_map(gone).collect()
    }

    /// Ends flows that [`Engine::gone`] told of.
    pub fn end_gone(&mut self, router: RouterId, flows: Vec<u64>, now: Micros) {
        let Some(state) = self.routers.get_mut(&router) else { return };
        Self::count_write(state, &mut self.pending, router);
        for flow_id in flows {
            Self::end_unseen(state, &mut self.pending, &mut self.recent, flow_id, now);
        }
    }

    pub(super) fn end_unseen(
        state: &mut RouterState,
        pending: &mut Pending,
        recent: &mut Recent,
        flow_id: u64,
        time: Micros,
    ) {
        let Some(entry) = state.open.get(&flow_id) else { return };
        pending.gap(GapRow {
            router: entry.record.router,
            cause: GapCause::FlowEndUnseen as i16,
            count: 1,
            from: entry.record.last_seen.min(time),
            to: time,
            detail: "flows that ended while nobody watched: what they moved last is not known".to_owned(),
        });
        Self::close(state, pending, recent, flow_id, End::Unseen, time);
    }

    pub(super) fn close(
        state: &mut RouterState,
        pending: &mut Pending,
        recent: &mut Recent,
        flow_id: u64,
        end: End,
        time: Micros,
    ) {
        let Some(entry) = state.remove(flow_id, end) else { return };
        pending.open.remove(&(entry.record.router, flow_id));
        if entry.stored {
            pending.closed.push(entry.record.id.0);
        }
        recent.push(&state.name, entry.record.clone(), time);
        pending.finished.push(entry.record);
    }
}
