//! Takes old rows away beside ingest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use crate::{
    clock::Clock,
    ingest::Ingest,
    store::{Retention, Step, StoreError, Sweep, Swept, Writer},
};

/// After the start, and between two sweeps.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(15 * 60);
/// The same where there is a cap, which what comes in between exceeds.
const EVERY_CAPPED: Duration = Duration::from_secs(60);

/// After a step the writer is left alone for so many times as long as the step took, and so long at least.
const PAUSE: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// Sweeps until it is aborted. `own` is a connection for it alone; without one the steps go between the writer's
/// commits.
pub async fn retention(ingest: Ingest, mut own: Option<Writer>, retention: Retention, clock: Arc<dyn Clock>) {
    let mut pause = FIRST;
    let mut was_beyond = false;
    loop {
        tokio::time::sleep(pause).await;
        pause = if retention.max_size_bytes > 0 { EVERY_CAPPED } else { EVERY };
        match sweep(&ingest, &mut own, retention.sweep(clock.now())).await {
            Ok(Swept { removed, beyond }) => {
                if removed > 0 {
                    info!(removed, "rows that were kept long enough are gone");
                }
                if beyond > 0 && !was_beyond {
                    warn!(bytes_too_many = beyond, "{}", Swept::BEYOND);
                }
                was_beyond = beyond > 0;
            }
            Err(error) => warn!(%error, "old rows stay for now: the next sweep tries again"),
        }
    }
}

pub(super) async fn sweep(
    ingest: &Ingest,
    own: &mut Option<Writer>,
    mut sweep: Sweep,
) -> Result<Swept, StoreError> {
    loop {
        let step = move |writer: &mut Writer| {
            let began = Instant::now();
            let result = sweep.step(writer);
            (sweep, result, began.elapsed())
        };
        let (back, result, took) = match own.take() {
            None => ingest.chore(|writer| Ok(step(writer))).await?,
            Some(mut writer) => {
                let done = tokio::task::spawn_blocking(move || {
                    let done = step(&mut writer);
                    (writer, done)
                });
                let (writer, done) =
                    done.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                *own = Some(writer);
                done
            }
        };
        sweep = back;
        match result? {
            Step::More => tokio::time::sleep((took * PAUSE).max(PAUSE_MIN)).await,
            Step::Done(swept) => return Ok(swept),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, time::Instant};

    use super::*;
    use crate::{
        clock::SystemClock,
        domain::Micros,
        ingest,
        store::{DatabaseUrl, Store},
    };

    /// Tells when it is asked, which is once a sweep.
    struct Asked(mpsc::UnboundedSender<Instant>);

    impl Clock for Asked {
        fn now(&self) -> Micros {
            self.0.send(Instant::now()).unwrap();
            SystemClock.now()
        }
    }

    /// How long after the start the first sweep begins, and each of the next two after the one before.
    async fn pauses(max_size_bytes: u64, has_own: bool) -> [Duration; 3] {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DatabaseUrl::Sqlite(directory.path().join("netmon.db"))).unwrap();
        let (ingest, thread) = ingest::start(store.writer().unwrap(), Arc::new(SystemClock)).unwrap();
        let own = has_own.then(|| store.writer().unwrap());
        let (sender, mut asked) = mpsc::unbounded_channel();
        let kept = Retention { max_size_bytes, ..Retention::default() };
        let mut before = Instant::now();
        let job = tokio::spawn(retention(ingest.clone(), own, kept, Arc::new(Asked(sender))));
        let mut pauses = [Duration::ZERO; 3];
        for pause in &mut pauses {
            let at = asked.recv().await.unwrap();
            *pause = at - before;
            before = at;
        }
        job.abort();
        ingest.close();
        thread.join().unwrap();
        pauses
    }

    #[tokio::test(start_paused = true)]
    async fn a_capped_database_is_swept_each_minute_another_each_quarter_of_an_hour() {
        // A sweep takes some time itself, on a slow machine more.
        for (max_size_bytes, at_least, at_most) in [(1 << 40, 60, 120), (0, 900, 960)] {
            for has_own in [false, true] {
                let [first, second, third] =
                    pauses(max_size_bytes, has_own).await.map(|pause| pause.as_secs());
                assert_eq!(first, 5);
                let expected = at_least..=at_most;
                assert!(expected.contains(&second) && expected.contains(&third), "{second} s, {third} s");
            }
        }
    }
}
