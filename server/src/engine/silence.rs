//! Routers that have fallen silent: what is over without a word, see [`super::tuples`].

use super::Engine;
use crate::domain::{Micros, RouterId};

impl Engine {
    /// The flows that nothing was heard of for so long that they must be over, by router. Looked for once a minute.
    pub fn gone(&mut self, now: Micros) -> Vec<(RouterId, Vec<u64>)> {
        let gone = |(router, state): (&RouterId, &mut super::router::RouterState)| {
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
}
