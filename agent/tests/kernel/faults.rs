//! The program among faults: it lives, says what is wrong (in heartbeats, in metrics, at /healthz), and goes on
//! when the fault is over.
//!
//! | fault | shown by |
//! | --- | --- |
//! | server refuses | `the_next_server_is_tried_when_one_is_gone`, `a_server_that_comes_back_gets_the_rest` (transport) |
//! | server hangs | `a_server_that_never_answers_is_left`, `..._never_acknowledges_is_left`, `a_port_that_accepts_and_says_nothing_is_left` (transport) |
//! | server returns rubbish | `rubbish_is_a_failure`, `something_else_on_the_port_is_a_failure` (transport) |
//! | server returns 401 | `a_wrong_token_loses_nothing` (transport), `a_token_that_is_refused_is_told_of` |
//! | the server's name does not resolve | `a_name_that_does_not_resolve_is_tried_again` |
//! | disk full under the spool | `a_full_disk_under_the_spool_is_told_of_and_counted` |
//! | spool directory removed | `a_spool_that_is_removed_is_made_again` |
//! | file unreadable | `a_file_that_may_not_be_read_is_told_of` |
//! | interface removed | `an_interface_that_is_removed_is_forgotten`, `an_interface_made_anew_makes_no_huge_difference` (health) |
//! | conntrack answers with an error | `without_its_right_conntrack_is_told_of_and_the_rest_goes_on`, `who_may_not_watch_is_told_so` (cases), `a_kernel_without_the_module_is_told_of_by_its_names` (open.rs), `a_source_that_cannot_be_opened_is_told_of_and_tried_again` (pipeline) |
//! | an NFLOG group held by another program | `a_taken_group_does_not_silence_the_others`, `an_overrun_while_a_group_is_asked_for_is_no_failure` (groups), `a_group_of_another_program_is_waited_for` (nflog) |
//!
//! Where no file is named the test is here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use netmon_proto::v1::{Event, FlowPhase, GapCause, event::Kind};
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    collector::{Kept, Running, TOKEN, TestServer},
    support::{
        inject::{Injector, Source, source},
        must,
    },
};

/// By name.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("a_token_that_is_refused_is_told_of", refused_token),
    ("a_name_that_does_not_resolve_is_tried_again", unresolved),
    ("a_full_disk_under_the_spool_is_told_of_and_counted", full_disk),
    ("a_spool_that_is_removed_is_made_again", removed_spool),
    ("a_file_that_may_not_be_read_is_told_of", unreadable),
    ("an_interface_that_is_removed_is_forgotten", removed_interface),
    ("without_its_right_conntrack_is_told_of_and_the_rest_goes_on", not_allowed),
];

const LIMIT: Duration = Duration::from_secs(30);
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9109);

/// A running agent, killed when dropped.
pub(super) struct Agent(pub(super) Child);

impl Agent {
    pub(super) fn start(dir: &Path, url: &str, settings: &str) -> Self {
        Self::start_with(dir, url, settings, "+all")
    }

    /// `rights` are those of setpriv's bounding set.
    fn start_with(dir: &Path, url: &str, settings: &str, rights: &str) -> Self {
        let path = dir.join("agent.yaml");
        let text = format!(
            "router_id: faulty\nserver_url: {url}\nmetrics_bind: {METRICS}\nheartbeat_interval: 1s\n\
             health_interval: 1s\nspool_dir: {}\n{settings}\n",
            dir.join("spool").display()
        );
        fs::write(&path, text).expect("written");
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", rights, env!("CARGO_BIN_EXE_netmon-agent"), "--config"]).arg(&path);
        Self(command.env("NETMON_LOG", "warn").spawn().expect("the agent"))
    }

    /// Waits until `/healthz` says so: status and text.
    pub(super) fn until_health(&mut self, what: &str, is_so: impl Fn(u16, &str) -> bool) {
        self.until(what, "/healthz", |status, text| is_so(status, text));
    }

    /// Waits until a counter or gauge is so.
    pub(super) fn until_metric(&mut self, name: &str, is_so: impl Fn(f64) -> bool) {
        self.until(name, "/metrics", |_, text| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            line.is_some_and(&is_so)
        });
    }

    fn until(&mut self, what: &str, path: &str, is_so: impl Fn(u16, &str) -> bool) {
        let limit = Instant::now() + LIMIT;
        let mut last = None;
        while Instant::now() < limit {
            assert!(self.0.try_wait().expect("a child").is_none(), "the agent ended");
            if let Some((status, text)) = ask(path) {
                if is_so(status, &text) {
                    return;
                }
                last = Some((status, text));
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not happen: {last:?}");
    }

    /// Until it has reported the table for the first time.
    fn until_it_watches(&mut self) {
        self.until_metric("conntrack_dumps_total", |dumps| dumps >= 1.0);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(METRICS).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The server, which may be away.
pub(super) struct Far {
    runtime: Runtime,
    server: TestServer,
    running: Option<Running>,
    address: SocketAddr,
}

impl Far {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = TestServer::default();
        let running = runtime.block_on(server.start());
        let address = running.address;
        Self { runtime, server, running: Some(running), address }
    }

    fn away() -> Self {
        let mut far = Self::new();
        let running = far.running.take().expect("running");
        far.runtime.block_on(running.stop());
        far
    }

    fn come_back(&mut self) {
        self.running = Some(self.runtime.block_on(self.server.start_at(self.address)));
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn until(&self, what: &str, is_so: impl Fn(&Kept) -> bool) {
        let waited = self.runtime.block_on(async { timeout(LIMIT, self.server.until(is_so)).await });
        assert!(waited.is_ok(), "{what} did not happen");
    }
}

pub(super) fn token() -> String {
    format!("auth_token: {TOKEN}")
}

/// Makes and removes entries with these numbers.
fn flows(numbers: std::ops::Range<u32>) {
    let mut injector = Injector::open().expect("an injector");
    // A few at a time, so that there are several batches.
    for first in numbers.clone().step_by(100) {
        for number in first..(first + 100).min(numbers.end) {
            injector.create(source(number), 600);
            injector.delete(source(number));
        }
        injector.send();
        thread::sleep(Duration::from_millis(20));
    }
}

/// How often the end of each was told.
fn ends(events: &[Event]) -> BTreeMap<Source, u32> {
    let mut ends = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for event in events {
        let Some(Kind::Flow(flow)) = &event.kind else { continue };
        if flow.phase() == FlowPhase::End && flow.dst_ip[..] == [198, 51, 100, 1] {
            assert!(ids.insert(flow.flow_id), "told twice: {flow:?}");
            let address = <[u8; 4]>::try_from(&flow.src_ip[..]).expect("IPv4");
            *ends.entry((address, flow.src_port as u16)).or_default() += 1;
        }
    }
    ends
}

fn all_ended(events: &[Event], mut numbers: std::ops::Range<u32>) -> bool {
    let ends = ends(events);
    numbers.all(|number| ends.get(&source(number)) == Some(&1))
}

/// What gaps and explanations of holes count, of these causes.
fn counted(kept: &Kept, causes: &[GapCause]) -> u64 {
    let gaps = kept.events.iter().filter_map(|event| match &event.kind {
        Some(Kind::Gap(gap)) if causes.contains(&gap.cause()) => Some(gap.count),
        _ => None,
    });
    let holes = kept.explained.iter().map(|batch| batch.lost_events);
    gaps.chain(holes).sum()
}

pub(super) fn warned(event: &Event, of: &str) -> bool {
    matches!(&event.kind, Some(Kind::Heartbeat(beat)) if beat.warnings.iter().any(|warning| warning.contains(of)))
}

/// File systems of our own to mount, and to lose with the process.
fn own_mounts() {
    // SAFETY: takes a number, and gives this process a copy of its mounts.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    must("mount --make-rprivate /");
}

fn refused_token() {
    let far = Far::new();
    let dir = tempfile::tempdir().expect("a directory");
    let mut agent = Agent::start(dir.path(), &far.url(), "auth_token: guess");
    agent.until_health("the refusal", |_, text| text.contains("the server refused the token"));
    agent.until_metric("http_send_errors_total{code=\"unauthenticated\"}", |count| count >= 1.0);
    assert!(far.server.kept().events.is_empty());
    // The right one, and SIGHUP.
    let path = dir.path().join("agent.yaml");
    let text = fs::read_to_string(&path).expect("its configuration").replace("guess", TOKEN);
    fs::write(&path, text).expect("written");
    must(&format!("kill -s HUP {}", agent.0.id()));
    far.until("everything", |kept| !kept.events.is_empty());
    agent.until_health("health", |status, text| status == 200 && !text.contains("token"));
}

fn unresolved() {
    own_mounts();
    let far = Far::new();
    let dir = tempfile::tempdir().expect("a directory");
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").expect("written");
    must(&format!("mount --bind {} /etc/hosts", hosts.display()));
    let url = format!("http://netmon-server.invalid:{}", far.address.port());
    let mut agent = Agent::start(dir.path(), &url, &token());
    agent.until_health("the failure", |_, text| text.contains("nothing reaches the server: "));
    agent.until("a failure counted", "/metrics", |_, text| {
        ["connect", "timeout"]
            .iter()
            .any(|code| text.contains(&format!("http_send_errors_total{{code=\"{code}\"}}")))
    });
    // In place: the mount is of this file.
    fs::write(&hosts, "127.0.0.1 localhost netmon-server.invalid\n").expect("written");
    far.until("everything", |kept| !kept.events.is_empty());
    agent.until_health("health", |status, text| status == 200 && !text.contains("nothing reaches"));
}

fn full_disk() {
    own_mounts();
    let mut far = Far::away();
    let dir = tempfile::tempdir().expect("a directory");
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).expect("made");
    must(&format!("mount -t tmpfs -o size=128k tmpfs {}", spool.display()));
    let mut agent = Agent::start(dir.path(), &far.url(), &format!("{}\nqueue_depth: 50", token()));
    agent.until_it_watches();
    flows(0..4000);
    let of = "the spool cannot be written: make room in spool_dir";
    agent.until_health("the warning", |status, text| status == 503 && text.contains(of));
    agent.until_metric("spool_write_errors_total", |count| count >= 1.0);

    far.come_back();
    agent.until_health("recovery", |status, text| status == 200 && !text.contains(of));
    flows(4000..4100);
    far.until("the rest", |kept| all_ended(&kept.events, 4000..4100));
    let kept = far.server.kept();
    let known = ends(&kept.events);
    let missing = (0..4000).filter(|number| !known.contains_key(&source(*number))).count() as u64;
    let lost = counted(&kept, &[GapCause::SpoolWrite]);
    assert!(missing > 0 && missing <= lost, "{missing} ends are missing, {lost} events are counted as lost");
}

fn removed_spool() {
    let mut far = Far::away();
    let dir = tempfile::tempdir().expect("a directory");
    let mut agent = Agent::start(dir.path(), &far.url(), &token());
    agent.until_it_watches();
    flows(0..200);
    agent.until_metric("spool_batches", |batches| batches >= 2.0);
    fs::remove_dir_all(dir.path().join("spool")).expect("removed");
    flows(200..400);
    far.come_back();
    flows(400..600);
    far.until("what came after the server's return", |kept| all_ended(&kept.events, 400..600));
    assert!(dir.path().join("spool").is_dir(), "it is made again");
    let kept = far.server.kept();
    let known = ends(&kept.events);
    let missing = (0..400).filter(|number| !known.contains_key(&source(*number))).count() as u64;
    let lost = counted(&kept, &[GapCause::SpoolWrite, GapCause::SpoolCorrupt]);
    assert!(missing <= lost, "{missing} ends are missing, {lost} events are counted as lost");
    agent.until_health("health", |status, _| status == 200);
}

fn unreadable() {
    let far = Far::new();
    let dir = tempfile::tempdir().expect("a directory");
    let leases = dir.path().join("leases");
    fs::write(&leases, "0 02:00:00:00:00:77 10.77.0.77 tv *\n").expect("written");
    must(&format!("chmod 000 {}", leases.display()));
    let settings = format!("{}\nlease_files: [{}]", token(), leases.display());
    let mut agent = Agent::start_with(dir.path(), &far.url(), &settings, "-all,+net_admin");
    let of = format!("{} cannot be read (Permission denied", leases.display());
    agent.until_health("the warning", |status, text| {
        status == 200 && text.contains(&of) && text.contains("CAP_DAC_READ_SEARCH")
    });
    far.until("the warning in a heartbeat", |kept| kept.events.iter().any(|event| warned(event, &of)));
    flows(0..10);
    far.until("flows", |kept| all_ended(&kept.events, 0..10));

    must(&format!("chmod 400 {}", leases.display()));
    far.until("the name", |kept| {
        kept.events.iter().any(|event| match &event.kind {
            Some(Kind::HostIdentity(identity)) => identity.host_name == "tv",
            _ => false,
        })
    });
    agent.until_health("health", |status, text| status == 200 && !text.contains(&of));
}

fn removed_interface() {
    let far = Far::new();
    let dir = tempfile::tempdir().expect("a directory");
    must("ip link add lan0 type veth peer name lan1");
    must("ip addr add 10.1.255.1/16 dev lan0");
    must("ip link set lan0 up");
    let mut agent = Agent::start(dir.path(), &far.url(), &token());
    let addresses = |kept: &Kept| {
        let mut told = kept.events.iter().rev().filter_map(|event| match &event.kind {
            Some(Kind::HostIdentity(identity)) if identity.interface == "lan0" => {
                Some(identity.addresses.len())
            }
            _ => None,
        });
        told.next()
    };
    let is_there = |kept: &Kept| {
        let mut told = kept.events.iter().rev().filter_map(|event| match &event.kind {
            Some(Kind::RouterHealth(health)) => {
                Some(health.interfaces.iter().any(|interface| interface.name == "lan0"))
            }
            _ => None,
        });
        told.next() == Some(true)
    };
    far.until("the interface", |kept| is_there(kept) && addresses(kept).is_some_and(|count| count > 0));
    must("ip link delete lan0");
    far.until("its end", |kept| !is_there(kept) && addresses(kept) == Some(0));
    agent.until_health("the warning", |status, text| {
        status == 200 && text.contains("no subnet counts as LAN")
    });
    flows(0..10);
    far.until("flows", |kept| all_ended(&kept.events, 0..10));
}

fn not_allowed() {
    let far = Far::new();
    let dir = tempfile::tempdir().expect("a directory");
    must("ip link add lan0 type veth peer name lan1");
    must("ip addr add 10.1.255.1/16 dev lan0");
    let mut agent = Agent::start_with(dir.path(), &far.url(), &token(), "-all");
    let of = "connections are not watched: not allowed to watch conntrack: run as root or with CAP_NET_ADMIN";
    agent.until_health("the warning", |status, text| status == 503 && text.contains(of));
    agent.until_metric("part_restarts_total{part=\"conntrack\"}", |count| count >= 1.0);
    far.until("the other parts", |kept| {
        let has = |is: fn(&Kind) -> bool| kept.events.iter().any(|event| event.kind.as_ref().is_some_and(is));
        has(|kind| matches!(kind, Kind::RouterHealth(_)))
            && has(|kind| matches!(kind, Kind::HostIdentity(_)))
            && kept.events.iter().any(|event| warned(event, of))
    });
}
