//! The parts beside conntrack: each hears something of its own, in a task of its own.
//!
//! A part is an async function that hands events to its [`Outlet`] and keeps counters and standing warnings
//! in a state that outlives it. When it fails, or panics, it is started again after a growing pause; that is
//! counted, logged and said in the heartbeat. The pipeline goes on meanwhile, and so do the other parts.
//!
//! The channel between the parts and the pipeline is bounded: where the pipeline is busy, parts wait, and
//! what they then miss is lost where it is counted, in the kernel's buffers.

mod supervise;

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use netmon_proto::v1::Event;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use crate::metrics::Figure;
use supervise::{Health, supervise};

/// Hand-overs that may wait for the pipeline, of all parts together.
const WAITING: usize = 8;

/// What a part shows of itself.
pub(crate) trait State {
    /// Appends its metrics.
    fn figures(&self, out: &mut Vec<Figure>);
    /// Appends what stands in its way now, one sentence each with the remedy.
    fn warnings(&self, out: &mut Vec<String>);
}

/// Where a part hands over what it has heard.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    events: mpsc::Sender<Vec<Event>>,
    stop: watch::Receiver<bool>,
}

impl Outlet {
    /// Hands events over for the spool, in order. Waits while the pipeline has enough.
    pub(crate) async fn send(&self, events: Vec<Event>) {
        if !events.is_empty() {
            // Without a pipeline the agent has ended, and nobody counts any more.
            let _ = self.events.send(events).await;
        }
    }

    /// Resolves when the agent is stopping: send what is left, and return.
    pub(crate) async fn stopping(&self) {
        // An error says that whoever could tell has gone.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}

/// One part as the pipeline sees it.
struct Part {
    state: Rc<RefCell<dyn State>>,
    health: Rc<RefCell<Health>>,
}

/// All parts that run. To be used within a `LocalSet`.
pub(crate) struct Parts {
    list: Vec<Part>,
    outlet: Outlet,
    events: mpsc::Receiver<Vec<Event>>,
    stop: watch::Sender<bool>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("running", &self.list.len()).finish_non_exhaustive()
    }
}

impl Parts {
    pub(crate) fn new() -> Self {
        let (sender, events) = mpsc::channel(WAITING);
        let (stop, stopped) = watch::channel(false);
        Self { list: Vec::new(), outlet: Outlet { events: sender, stop: stopped }, events, stop }
    }

    /// Starts a part under a supervisor. `run` is called again whenever it has failed.
    pub(crate) fn start<S, R, F>(&mut self, name: &'static str, mut run: R)
    where
        S: State + Default + 'static,
        R: FnMut(Outlet, Rc<RefCell<S>>) -> F + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        let state = Rc::new(RefCell::new(S::default()));
        let health = Rc::new(RefCell::new(Health::new(name)));
        self.list.push(Part { state: Rc::<RefCell<S>>::clone(&state), health: Rc::clone(&health) });
        let outlet = self.outlet.clone();
        let start = move |outlet: &Outlet| run(outlet.clone(), Rc::clone(&state));
        tokio::task::spawn_local(supervise(health, outlet, start));
    }

    /// What a part has handed over. Waits for ever where there is no part. Cancel safe.
    pub(crate) async fn next(&mut self) -> Vec<Event> {
        match self.events.recv().await {
            Some(events) => events,
            // An outlet is held here, so the channel does not close.
            None => std::future::pending().await,
        }
    }

    /// Has every part stop, and hands on what they still have, at most until `limit`.
    pub(crate) async fn finish(self, limit: Instant, mut take: impl FnMut(Vec<Event>)) {
        let Self { outlet, mut events, stop, .. } = self;
        drop(outlet);
        // Where no part runs nobody listens.
        let _ = stop.send(true);
        while let Ok(Some(handed)) = timeout_at(limit, events.recv()).await {
            take(handed);
        }
    }

    /// Appends the metrics of all parts. `others` are restarts of what has a supervisor of its own.
    pub(crate) fn figures(&self, others: &[(&'static str, u64)], out: &mut Vec<Figure>) {
        let restarts = self.list.iter().map(|part| {
            let health = part.health.borrow();
            (health.name(), health.restarts())
        });
        let restarts = restarts.chain(others.iter().copied());
        let restarts = restarts.map(|(name, count)| ([("part", name.to_owned())], count));
        out.push(Figure::counters("part_restarts", "Times a part failed and was started again", restarts));
        for part in &self.list {
            part.state.borrow().figures(out);
        }
    }

    /// Appends the warnings of all parts.
    pub(crate) fn warnings(&self, out: &mut Vec<String>) {
        for part in &self.list {
            out.extend(part.health.borrow().warning());
            part.state.borrow().warnings(out);
        }
    }
}

/// How long stopping may wait for the parts.
pub(crate) const FINISH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[derive(Default)]
    struct Runs(u64);

    impl State for Runs {
        fn figures(&self, out: &mut Vec<Figure>) {
            out.push(Figure::counter("runs", "Runs", self.0));
        }

        fn warnings(&self, out: &mut Vec<String>) {
            out.push(format!("run {}", self.0));
        }
    }

    fn event(time_us: i64) -> Event {
        Event { time_us, kind: None }
    }

    /// Fails in every run but the third, which goes on until it is told to stop.
    async fn run(outlet: Outlet, state: Rc<RefCell<Runs>>) -> anyhow::Result<()> {
        state.borrow_mut().0 += 1;
        let runs = state.borrow().0;
        outlet.send(vec![event(runs as i64)]).await;
        match runs {
            1 => anyhow::bail!("no such group"),
            2 => panic!("a defect"),
            _ => outlet.stopping().await,
        }
        outlet.send(vec![event(9)]).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_is_started_again_and_says_its_last_words() {
        let story = async {
            let mut parts = Parts::new();
            parts.start("test", run);
            let mut times = Vec::new();
            for _ in 0..3 {
                times.extend(parts.next().await.iter().map(|event| event.time_us));
            }
            let mut warnings = Vec::new();
            parts.warnings(&mut warnings);
            assert_eq!(warnings, ["run 3"], "what works is not complained about");
            let mut figures = Vec::new();
            parts.figures(&[("metrics", 3)], &mut figures);
            let page = crate::metrics::render(figures);
            assert!(page.contains("part_restarts_total{part=\"test\"} 2\n"), "{page}");
            assert!(page.contains("part_restarts_total{part=\"metrics\"} 3\n"), "{page}");
            let limit = Instant::now() + FINISH;
            parts.finish(limit, |events| times.extend(events.iter().map(|event| event.time_us))).await;
            assert_eq!(times, [1, 2, 3, 9]);
        };
        LocalSet::new().run_until(story).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_run_is_told_of() {
        let story = async {
            let mut parts = Parts::new();
            parts.start("test", |_, _: Rc<RefCell<Runs>>| async { anyhow::bail!("no such group") });
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut warnings = Vec::new();
            parts.warnings(&mut warnings);
            assert_eq!(warnings[0], "test does not run: no such group");
        };
        LocalSet::new().run_until(story).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_does_not_hold_up_the_end() {
        let story = async {
            let mut parts = Parts::new();
            parts.start("test", |_, _: Rc<RefCell<Runs>>| std::future::pending());
            let limit = Instant::now() + FINISH;
            parts.finish(limit, |_| panic!("nothing to take")).await;
        };
        LocalSet::new().run_until(story).await;
    }
}
