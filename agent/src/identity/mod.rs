//! Who is who: which device has which addresses and what it is called, for the server to show names.
//!
//! Three things are put together: the leases of DHCP servers ([`leases`] reads their files), the kernel's
//! neighbour tables ([`neighbours`]), and the router's own addresses. [`devices`] joins them and says what
//! changed. Changes are told a second after the first of them, so that a network that comes up is told of at
//! once and not device by device; everything is told again at an interval.

pub mod devices;
mod files;
pub mod leases;
pub mod neighbours;

use std::{cell::RefCell, io, path::PathBuf, rc::Rc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::{
    addresses::{HostAddresses, LanConfig},
    conntrack::AddressWatch,
    host,
    metrics::Figure,
    parts::{Outlet, State},
};
use devices::{Book, Sources};
use files::LeaseFiles;
pub(crate) use files::paths;
use leases::Lease;
use neighbours::{NeighbourWatch, Neighbours, News};

/// From the first change to its telling, and between two hand-overs.
const PAUSE: Duration = Duration::from_secs(1);
/// Devices of one hand-over. Whoever invents devices at will gets no more than that told in a second.
const MOST_AT_ONCE: usize = 256;

/// What this part is told.
#[derive(Debug, Clone)]
pub(crate) struct IdentityConfig {
    pub(crate) interval: Duration,
    pub(crate) lease_files: Vec<PathBuf>,
    pub(crate) lan: LanConfig,
}

/// What it shows of itself.
#[derive(Debug, Default)]
pub(crate) struct IdentityState {
    devices: usize,
    neighbours: usize,
    leases: usize,
    told: u64,
    malformed: u64,
    names_refused: u64,
    left_out: u64,
    neighbours_left_out: u64,
    /// Something was left out of the last picture.
    full: bool,
    warnings: Vec<String>,
}

impl State for IdentityState {
    fn figures(&self, out: &mut Vec<Figure>) {
        out.push(Figure::gauge("identity_devices", "Devices that are known", self.devices as f64));
        out.push(Figure::gauge(
            "identity_neighbours",
            "Neighbours that answer, of all interfaces",
            self.neighbours as f64,
        ));
        out.push(Figure::gauge("identity_leases", "Leases in the files", self.leases as f64));
        out.push(Figure::counter("identity_events", "Devices told of", self.told));
        out.push(Figure::counter(
            "lease_parse_errors",
            "Lines of lease files in no known form",
            self.malformed,
        ));
        out.push(Figure::counter(
            "lease_names_refused",
            "Names in lease files that are no host names",
            self.names_refused,
        ));
        out.push(Figure::counter(
            "identity_left_out",
            "Neighbours, leases, devices and addresses for which there was no room",
            self.left_out + self.neighbours_left_out,
        ));
    }

    fn warnings(&self, out: &mut Vec<String>) {
        out.extend(self.warnings.iter().cloned());
        if self.full {
            out.push(format!(
                "more than {} devices or leases, or a device with very many addresses: some are left out; check what the LAN is (lan_interfaces)",
                devices::MOST_DEVICES
            ));
        }
    }
}

/// Watches until the agent stops.
pub(crate) async fn run(
    config: IdentityConfig,
    outlet: Outlet,
    state: Rc<RefCell<IdentityState>>,
) -> anyhow::Result<()> {
    let mut who = WhoIsWho::open(config, Rc::clone(&state))?;
    let mut full = interval(who.config.interval);
    full.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_told = None::<Instant>;
    loop {
        let due = who.due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let due = last_told.map_or(due, |last| due.max(last + PAUSE));
        tokio::select! {
            () = outlet.stopping() => {
                // What is pending is known already, and worth a last word.
                if who.due.is_some() {
                    let events = who.tell()?;
                    outlet.send(events).await;
                }
                return Ok(());
            }
            () = who.neighbours_watch.readable() => who.follow_neighbours()?,
            () = who.addresses_watch.readable() => who.follow_addresses()?,
            () = who.files.readable() => who.follow_files()?,
            _ = full.tick() => who.read_all(),
            () = sleep_until(due), if who.due.is_some() => {
                let events = who.tell()?;
                last_told = Some(Instant::now());
                outlet.send(events).await;
            }
        }
    }
}

#[derive(Debug)]
struct WhoIsWho {
    config: IdentityConfig,
    router_name: String,
    state: Rc<RefCell<IdentityState>>,
    addresses_watch: AddressWatch,
    neighbours_watch: NeighbourWatch,
    files: LeaseFiles,
    buffer: Vec<u8>,
    host: HostAddresses,
    neighbours: Neighbours,
    leases: Option<Vec<Lease>>,
    book: Book,
    /// What has to be read before the next telling.
    addresses_stale: bool,
    neighbours_stale: bool,
    leases_stale: bool,
    all: bool,
    /// When something is to be told, or looked at.
    due: Option<Instant>,
}

impl WhoIsWho {
    /// Watches are opened before anything is read, so that no change falls between the two.
    fn open(config: IdentityConfig, state: Rc<RefCell<IdentityState>>) -> io::Result<Self> {
        let addresses_watch = AddressWatch::open(config.lan.needs_routes())?;
        let neighbours_watch = NeighbourWatch::open()?;
        let files = LeaseFiles::new(&config.lease_files);
        Ok(Self {
            config,
            router_name: host::facts().hostname,
            state,
            addresses_watch,
            neighbours_watch,
            files,
            buffer: Vec::new(),
            host: HostAddresses::default(),
            neighbours: Neighbours::default(),
            leases: None,
            book: Book::default(),
            addresses_stale: true,
            neighbours_stale: true,
            leases_stale: true,
            all: true,
            due: None,
        })
    }

    fn change(&mut self, after: Duration) {
        let then = Instant::now() + after;
        self.due = Some(self.due.map_or(then, |due| due.min(then)));
    }

    fn follow_neighbours(&mut self) -> io::Result<()> {
        match self.neighbours_watch.follow(&mut self.neighbours, host::now_us())? {
            News::Nothing => return Ok(()),
            News::Changes => {}
            News::Lost => self.neighbours_stale = true,
        }
        self.change(PAUSE);
        Ok(())
    }

    fn follow_addresses(&mut self) -> io::Result<()> {
        self.buffer.resize(8192, 0);
        if self.addresses_watch.has_news(&mut self.buffer)? {
            self.addresses_stale = true;
            self.change(PAUSE);
        }
        Ok(())
    }

    fn follow_files(&mut self) -> io::Result<()> {
        if self.files.has_news()? {
            self.leases_stale = true;
            self.change(PAUSE);
        }
        Ok(())
    }

    /// Everything anew, whatever was heard.
    fn read_all(&mut self) {
        (self.addresses_stale, self.neighbours_stale, self.leases_stale) = (true, true, true);
        self.all = true;
        self.due = Some(Instant::now());
    }

    /// Reads what is out of date, and gives what is to be told now.
    fn tell(&mut self) -> io::Result<Vec<netmon_proto::v1::Event>> {
        let now_us = host::now_us();
        if std::mem::take(&mut self.addresses_stale) {
            self.host = self.addresses_watch.read_all(&mut self.buffer)?;
        }
        if std::mem::take(&mut self.neighbours_stale) {
            self.neighbours = neighbours::read_all(&self.neighbours, now_us)?;
        }
        if std::mem::take(&mut self.leases_stale) {
            self.read_leases(now_us);
        }
        let picture = devices::gather(
            Sources {
                router_name: &self.router_name,
                lan: &self.config.lan,
                host: &self.host,
                neighbours: &self.neighbours,
                leases: self.leases.as_deref().unwrap_or_default(),
            },
            now_us,
        );
        let (left_out, next_expiry_us) = (picture.left_out, picture.next_expiry_us);
        self.book.compare(picture);
        if std::mem::take(&mut self.all) {
            self.book.all_due();
        }
        let events = self.book.take(MOST_AT_ONCE, now_us);
        let until_expiry = next_expiry_us.map(|us| Duration::from_micros(us.abs_diff(now_us)));
        let after = if self.book.is_due() { Some(PAUSE) } else { until_expiry };
        // A day at most: the wall clock may be set meanwhile, and a timer has its limits.
        self.due = after.map(|after| Instant::now() + after.min(Duration::from_secs(86_400)));
        self.show(events.len(), left_out);
        Ok(events)
    }

    fn read_leases(&mut self, now_us: i64) {
        let mut reading = self.files.read();
        // Before the first look the file's own time has to do.
        if let Some(before) = &self.leases {
            leases::carry_over(before, &mut reading.leases, now_us);
        }
        let mut state = self.state.borrow_mut();
        state.leases = reading.leases.len();
        state.malformed += reading.malformed;
        state.names_refused += reading.names_refused;
        state.left_out += reading.left_out;
        state.warnings = reading.warnings;
        self.leases = Some(reading.leases);
    }

    fn show(&self, told: usize, left_out: u64) {
        let mut state = self.state.borrow_mut();
        state.devices = self.book.devices();
        state.neighbours = self.neighbours.len();
        state.told += told as u64;
        state.left_out += left_out;
        state.neighbours_left_out = self.neighbours.left_out;
        state.full = left_out > 0
            || self.neighbours.len() >= neighbours::MOST_NEIGHBOURS
            || state.leases >= leases::MOST_LEASES;
    }
}
