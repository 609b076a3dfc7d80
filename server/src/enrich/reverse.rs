//! Names of remote hosts by reverse DNS, asked for in the background, one at a time and slowly.
//!
//! The answers are kept, those without a name too, and asked for again when they are old. What answers is the
//! resolver of this machine.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use dns_lookup::LookupErrorKind;
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{debug, warn};

use super::is_public;
use crate::{
    clock::Clock,
    domain::{HostName, Micros},
    ingest::Ingest,
    store::{Reader, StoreError},
};

/// Hosts taken from the database at a time.
const BATCH: usize = 50;
/// When there is nothing to ask.
const PAUSE: Duration = Duration::from_secs(15);

const HOUR_US: Micros = 3_600_000_000;
const NAMED_FOR_US: Micros = 7 * 24 * HOUR_US;
const NAMELESS_FOR_US: Micros = 24 * HOUR_US;
const FAILED_FOR_US: Micros = HOUR_US;
/// Addresses that nobody outside knows are not asked about; they are looked at again, as it were, in a year.
const NEVER_US: Micros = 365 * 24 * HOUR_US;

/// The longest name that DNS knows.
const MOST_BYTES: usize = 253;

/// What a resolver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This name.
    Name(String),
    /// There is none.
    Nameless,
    /// It could not be found out.
    Failed,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct ReverseStats {
    /// Addresses that were asked about.
    pub asked: AtomicU64,
    /// Of them, those whose name could not be found out.
    pub failed: AtomicU64,
}

/// Asks on, `per_second` at most, until the server stops.
pub async fn run(
    per_second: u32,
    resolve: impl Fn(IpAddr) -> Answer + Send + 'static,
    ingest: Ingest,
    reader: Reader,
    clock: Arc<dyn Clock>,
    stats: Arc<ReverseStats>,
) {
    let questions = match resolver(resolve) {
        Ok(questions) => questions,
        Err(error) => return warn!(%error, "reverse DNS is off: its thread cannot be started"),
    };
    let mut pace = interval(Duration::from_secs(1) / per_second.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (reading, now) = (reader.clone(), clock.now());
        let due = tokio::task::spawn_blocking(move || reading.hosts_to_name(now, BATCH)).await;
        let due = match due {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                debug!(%error, "no hosts to name");
                Vec::new()
            }
            // It panicked; that has been logged.
            Err(_) => return,
        };
        if due.is_empty() {
            sleep(PAUSE).await;
            continue;
        }
        let mut names = Vec::with_capacity(due.len());
        for (host, address) in due {
            let (name, failed, keep_us) = if is_public(address) {
                pace.tick().await;
                stats.asked.fetch_add(1, Ordering::Relaxed);
                match ask(&questions, address).await {
                    Some(Answer::Name(name)) => (Some(name), false, NAMED_FOR_US),
                    Some(Answer::Nameless) => (None, false, NAMELESS_FOR_US),
                    Some(Answer::Failed) => {
                        stats.failed.fetch_add(1, Ordering::Relaxed);
                        (None, true, FAILED_FOR_US)
                    }
                    None => return warn!("reverse DNS is off: its thread has ended"),
                }
            } else {
                (None, false, NEVER_US)
            };
            let asked = clock.now();
            names.push(HostName { host, name, failed, asked, due: asked + keep_us });
        }
        match ingest.chore(move |writer| writer.put_host_names(&names)).await {
            Ok(()) => {}
            // They are asked again when the database is back.
            Err(StoreError::Unavailable(why)) => {
                debug!(why, "names of hosts were not kept");
                sleep(PAUSE).await;
            }
            Err(error) => {
                warn!(%error, "names of hosts could not be kept");
                sleep(PAUSE).await;
            }
        }
    }
}

type Question = (IpAddr, oneshot::Sender<Answer>);

/// A thread of its own, that nobody waits for: a question may take half a minute, and the end of the server
/// must not.
fn resolver(resolve: impl Fn(IpAddr) -> Answer + Send + 'static) -> std::io::Result<mpsc::Sender<Question>> {
    let (questions, asked) = mpsc::channel::<Question>();
    thread::Builder::new().name("reverse-dns".to_owned()).spawn(move || {
        for (address, reply) in asked {
            // Whoever asked may have gone.
            drop(reply.send(resolve(address)));
        }
    })?;
    Ok(questions)
}

async fn ask(questions: &mpsc::Sender<Question>, address: IpAddr) -> Option<Answer> {
    let (reply, answer) = oneshot::channel();
    questions.send((address, reply)).ok()?;
    answer.await.ok()
}

/// What this machine's resolver says.
#[must_use]
pub fn by_system(address: IpAddr) -> Answer {
    match dns_lookup::lookup_addr(&address) {
        Ok(name) => tidy(&name).map_or(Answer::Nameless, Answer::Name),
        Err(error) if matches!(error.kind(), LookupErrorKind::NoName) => Answer::Nameless,
        Err(_) => Answer::Failed,
    }
}

/// Whoever owns the address writes the name: only what a host name may hold is one.
fn tidy(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!name.is_empty() && name.len() <= MOST_BYTES && name.bytes().all(is_good)).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, atomic::AtomicI64},
        time::Instant,
    };

    use super::*;
    use crate::{
        clock::SystemClock,
        domain::{Changes, HostTouch},
        ingest,
        store::{DatabaseUrl, Store},
    };

    #[test]
    fn a_name_is_a_name() {
        assert_eq!(tidy("Dns.Google."), Some("dns.google".to_owned()));
        assert_eq!(tidy("<script>alert(1)</script>"), None);
        assert_eq!(tidy("."), None);
        assert_eq!(tidy(&"a".repeat(254)), None);
    }

    #[test]
    fn the_systems_resolver_answers() {
        assert_eq!(by_system("127.0.0.1".parse().unwrap()), Answer::Name("localhost".to_owned()));
    }

    /// A clock that stands where it is put.
    struct SetClock(AtomicI64);

    impl Clock for SetClock {
        fn now(&self) -> Micros {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A database with these hosts, and what was asked of a resolver that knows some of them.
    struct Asking {
        ingest: Ingest,
        thread: Option<thread::JoinHandle<()>>,
        reader: Reader,
        clock: Arc<SetClock>,
        stats: Arc<ReverseStats>,
        _dir: tempfile::TempDir,
    }

    impl Asking {
        fn about(hosts: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&DatabaseUrl::Sqlite(dir.path().join("netmon.db"))).unwrap();
            let mut writer = store.writer().unwrap();
            let clock = Arc::new(SetClock(AtomicI64::new(SystemClock.now())));
            let (first_seen, last_seen) = (clock.now(), clock.now());
            let touch =
                |address: &&str| HostTouch { address: address.parse().unwrap(), first_seen, last_seen };
            let hosts = hosts.iter().map(touch).collect();
            writer.commit(&Changes { hosts, ..Changes::default() }).unwrap();
            let (ingest, thread) = ingest::start(writer, clock.clone()).unwrap();
            let (reader, stats) = (store.reader(), Arc::default());
            Self { ingest, thread: Some(thread), reader, clock, stats, _dir: dir }
        }

        /// Asks until nothing is due. Gives what was asked about, and when.
        async fn asked(&self, per_second: u32) -> Vec<(String, Instant)> {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&asked);
            let resolve = move |address: IpAddr| {
                noted.lock().unwrap().push((address.to_string(), Instant::now()));
                match address.to_string().as_str() {
                    "8.8.8.8" => Answer::Name("dns.google".to_owned()),
                    "9.9.9.9" => Answer::Failed,
                    _ => Answer::Nameless,
                }
            };
            let (ingest, reader, stats) = (self.ingest.clone(), self.reader.clone(), Arc::clone(&self.stats));
            let asking = tokio::spawn(run(per_second, resolve, ingest, reader, self.clock.clone(), stats));
            let until = Instant::now() + Duration::from_secs(20);
            while !self.reader.hosts_to_name(self.clock.now(), 10).unwrap().is_empty() {
                assert!(Instant::now() < until, "hosts are due for ever");
                sleep(Duration::from_millis(5)).await;
            }
            asking.abort();
            let asked = asked.lock().unwrap();
            asked.clone()
        }

        async fn asked_after(&self, hours: i64) -> Vec<String> {
            self.clock.0.fetch_add(hours * HOUR_US, Ordering::Relaxed);
            let mut asked: Vec<String> = self.asked(100).await.into_iter().map(|(host, _)| host).collect();
            asked.sort();
            asked
        }
    }

    impl Drop for Asking {
        fn drop(&mut self) {
            self.ingest.close();
            self.thread.take().unwrap().join().unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_as_long_as_it_is_worth() {
        let asking = Asking::about(&["8.8.8.8", "192.168.1.1", "1.1.1.1", "9.9.9.9"]);
        assert_eq!(asking.asked_after(0).await, ["1.1.1.1", "8.8.8.8", "9.9.9.9"], "no private ones");
        let names = asking.reader.host_names(&[1, 2, 3, 4]).unwrap();
        assert_eq!(names.into_values().collect::<Vec<_>>(), ["dns.google"]);
        let counted =
            || (asking.stats.asked.load(Ordering::Relaxed), asking.stats.failed.load(Ordering::Relaxed));
        assert_eq!(counted(), (3, 1));
        // What could not be found out is asked again after an hour, what has no name after a day, a name after a week.
        assert!(asking.asked_after(0).await.is_empty());
        assert_eq!(asking.asked_after(2).await, ["9.9.9.9"]);
        assert_eq!(asking.asked_after(23).await, ["1.1.1.1", "9.9.9.9"]);
        assert_eq!(asking.asked_after(6 * 24).await, ["1.1.1.1", "8.8.8.8", "9.9.9.9"]);
        assert_eq!(counted(), (9, 4));
    }

    #[tokio::test]
    async fn questions_keep_their_distance() {
        let hosts = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", "192.168.1.1"];
        let times: Vec<Instant> =
            Asking::about(&hosts).asked(20).await.into_iter().map(|(_, at)| at).collect();
        assert_eq!(times.len(), 5);
        // Four times 50 ms, less what the first may have been late on a busy machine.
        let took = *times.last().unwrap() - times[0];
        assert!(took >= Duration::from_millis(150), "{took:?}");
    }
}
