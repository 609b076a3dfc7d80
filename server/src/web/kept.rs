//! A value that costs something to get, kept for a moment.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

/// A value and until when it is kept. It is got by one at a time, however many ask.
#[derive(Debug)]
pub(super) struct Kept<T> {
    last: Arc<Mutex<Option<(Instant, T)>>>,
    /// For how long a value is kept that took so long to get.
    lasts: fn(Duration) -> Duration,
}

impl<T: Clone + Send + 'static> Kept<T> {
    pub(super) fn new(lasts: fn(Duration) -> Duration) -> Self {
        Self { last: Arc::default(), lasts }
    }

    /// The value of a moment ago, or a new one. Who gives up waiting does not stop the getting, and nobody begins
    /// another one before it is done.
    pub(super) async fn get(&self, get: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut last = self.last.clone().lock_owned().await;
        if let Some((until, value)) = &*last
            && Instant::now() < *until
        {
            return Some(value.clone());
        }
        let (lasts, began) = (self.lasts, Instant::now());
        let getting = tokio::spawn(async move {
            let value = get.await;
            *last = Some((Instant::now() + lasts(began.elapsed()), value.clone()));
            value
        });
        getting.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{
        task::JoinSet,
        time::{sleep, timeout},
    };

    use super::*;

    const LASTS: Duration = Duration::from_secs(3);
    const SECOND: Duration = Duration::from_secs(1);

    fn counted(count: &Arc<AtomicUsize>, takes: Duration) -> impl Future<Output = usize> + use<> {
        let count = count.clone();
        async move {
            let number = 1 + count.fetch_add(1, Ordering::Relaxed);
            sleep(takes).await;
            number
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_get_what_one_has_read() {
        let (kept, count) = (Arc::new(Kept::new(|_| LASTS)), Arc::new(AtomicUsize::new(0)));
        for expected in [1, 2] {
            let mut asking = JoinSet::new();
            for _ in 0..100 {
                let (kept, count) = (kept.clone(), count.clone());
                asking.spawn(async move { kept.get(counted(&count, SECOND)).await });
            }
            assert_eq!(asking.join_all().await, vec![Some(expected); 100]);
            sleep(LASTS).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_does_not_make_another_one_begin() {
        let (kept, count) = (Kept::new(|_| LASTS), Arc::new(AtomicUsize::new(0)));
        for _ in 0..9 {
            assert!(timeout(SECOND, kept.get(counted(&count, 10 * SECOND))).await.is_err());
        }
        assert_eq!(kept.get(counted(&count, SECOND)).await, Some(1));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
