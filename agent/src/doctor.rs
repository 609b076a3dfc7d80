//! `netmon-agent doctor`: looks at this host as the agent would, and says line by line what is right and what
//! is not, with the remedy.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use rustix::fs::{StatVfsMountFlags, statvfs};
use tokio::net::TcpListener;

use crate::{
    config::{Config, DnsLogKind, TransportKind},
    conntrack::{Monitor, MonitorError, sysctl},
    host, identity, metrics, nflog, rights,
    transport::{TransportConfig, Unanswered},
};

/// How far the router's clock may be from the server's.
const SKEW: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Right,
    /// Something is missing, the rest works.
    Poor,
    /// The agent cannot do its work.
    Wrong,
}

/// What was found, one line a check.
#[derive(Debug, Default)]
struct Findings(Vec<(Finding, &'static str, String)>);

impl Findings {
    fn right(&mut self, what: &'static str, text: impl Into<String>) {
        self.0.push((Finding::Right, what, text.into()));
    }

    fn poor(&mut self, what: &'static str, text: impl Into<String>) {
        self.0.push((Finding::Poor, what, text.into()));
    }

    fn wrong(&mut self, what: &'static str, text: impl Into<String>) {
        self.0.push((Finding::Wrong, what, text.into()));
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (finding, what, text) in &self.0 {
            let word = match finding {
                Finding::Right => "ok",
                Finding::Poor => "warning",
                Finding::Wrong => "FAILED",
            };
            writeln!(out, "{word:<8} {what:<10} {text}")?;
        }
        Ok(())
    }
}

/// Makes all checks and prints them. False: something keeps the agent from its work. Needs a tokio runtime.
///
/// # Errors
/// Those of writing to `out`.
pub async fn doctor(config: &Config, mut out: impl Write) -> io::Result<bool> {
    let mut findings = Findings::default();
    let service = other_user(&config.spool_dir, rustix::process::geteuid().as_raw());
    check_rights(&mut findings);
    check_conntrack(config, &mut findings);
    check_nflog(config, &mut findings);
    check_dns_log(config, service, &mut findings);
    check_leases(config, service, &mut findings);
    check_spool(&config.spool_dir, service, &mut findings);
    check_clock(&mut findings);
    check_metrics(config, &mut findings).await;
    check_server(config, &mut findings).await;
    findings.print(&mut out)?;
    Ok(findings.0.iter().all(|(finding, ..)| *finding != Finding::Wrong))
}

/// The owner of the spool, or of the directory that it is made in, where that is not `user`, who asks: root asks, and
/// the service is another user.
fn other_user(spool_dir: &Path, user: u32) -> Option<u32> {
    let owner = spool_dir.ancestors().take(2).find_map(|dir| fs::metadata(dir).ok())?.uid();
    (owner != user).then_some(owner)
}

fn check_rights(findings: &mut Findings) {
    if rights::may_watch() {
        findings.right("rights", "CAP_NET_ADMIN");
    } else {
        findings
            .wrong("rights", "CAP_NET_ADMIN is missing: run as root, or give the service this capability");
    }
    if rights::may_read_all() {
        findings.right("rights", "CAP_DAC_READ_SEARCH");
    } else {
        findings.poor(
            "rights",
            "CAP_DAC_READ_SEARCH is missing: logs and leases that belong to others may be unreadable; give the service this capability, or the files other permissions",
        );
    }
}

fn check_conntrack(config: &Config, findings: &mut Findings) {
    let opened = Monitor::open(config.monitor(), rand::random());
    match &opened {
        Err(error @ MonitorError::Module(_)) => findings.wrong("modules", error.to_string()),
        _ if host::conntrack_fill().is_none() => {
            let remedy = "load nf_conntrack, or have the firewall track connections";
            findings.wrong("modules", format!("nf_conntrack is not there: {remedy}"));
        }
        Ok(_) => findings.right("modules", "nf_conntrack and nf_conntrack_netlink are there"),
        Err(_) => findings
            .poor("modules", "nf_conntrack is there; whether nf_conntrack_netlink is, was not to be learnt"),
    }
    let settings = sysctl::apply(Path::new(sysctl::DIRECTORY), false);
    if settings.is_empty() {
        findings.right("sysctls", "nf_conntrack_acct, _timestamp and _events are 1");
    }
    for warning in settings {
        findings.poor("sysctls", warning);
    }
    match opened {
        Ok(monitor) => {
            findings.right("conntrack", "connections can be watched");
            for warning in monitor.own_warnings() {
                findings.poor("conntrack", warning);
            }
        }
        Err(error) => findings.wrong("conntrack", error.to_string()),
    }
    if let Some((count, most)) = host::conntrack_fill() {
        let text = format!("{count} of at most {most} connections are open");
        if count.saturating_mul(10) >= most.saturating_mul(9) {
            findings.poor("conntrack", format!("{text}: raise net.netfilter.nf_conntrack_max"));
        } else {
            findings.right("conntrack", text);
        }
    }
}

fn check_nflog(config: &Config, findings: &mut Findings) {
    let groups = config.nflog_groups.len() + config.dns_nflog_groups.len();
    if groups == 0 {
        findings.poor("nflog", "no nflog_groups: what the firewall drops is not reported");
        return;
    }
    match nflog::probe() {
        Ok(()) => findings.right("nflog", format!("nfnetlink_log is there, groups to listen to: {groups}")),
        Err(error) => findings.wrong("nflog", error.to_string()),
    }
}

/// A file that was opened here. What the service may do as another user cannot be tried, but its mode tells.
fn check_readable(
    what: &'static str,
    path: &Path,
    about: &Metadata,
    service: Option<u32>,
    findings: &mut Findings,
) {
    let (shown, mode) = (path.display(), about.mode());
    match service {
        Some(user) if mode & 0o004 == 0 && (about.uid() != user || mode & 0o400 == 0) => {
            let group = about.gid();
            if mode & 0o040 != 0 {
                let text = format!(
                    "{shown} can be read as root, and by user {user}, the service, if group {group} is one of its own"
                );
                findings.right(what, text);
            } else {
                let remedy = "have its group read it (chmod g+r), and the service be in that";
                findings.poor(
                    what,
                    format!("{shown} can be read as root, but not by user {user}, the service: {remedy}"),
                );
            }
        }
        _ => findings.right(what, format!("{shown} can be read")),
    }
}

fn check_dns_log(config: &Config, service: Option<u32>, findings: &mut Findings) {
    let path = config.dnsmasq_log_path.as_path();
    let shown = path.display();
    match config.dns_log {
        DnsLogKind::Off if config.dns_nflog_groups.is_empty() => {
            findings.poor("dns", "dns_log is off and there are no dns_nflog_groups: names are not known");
        }
        DnsLogKind::Off => findings.right("dns", "answers are heard as packets"),
        DnsLogKind::Logread => findings.right("dns", "answers are read with logread"),
        DnsLogKind::File => match fs::metadata(path).and_then(|about| File::open(path).map(|_| about)) {
            Ok(about) if about.is_dir() => {
                findings.poor("dns", format!("{shown} is a directory: set dnsmasq_log_path to the log file"));
            }
            Ok(about) => check_readable("dns", path, &about, service, findings),
            Err(error) => {
                let remedy = "have dnsmasq write it (log-queries=extra, log-facility), or set dns_log";
                findings.poor("dns", format!("{shown} cannot be read ({error}): {remedy}"));
            }
        },
    }
}

fn check_leases(config: &Config, service: Option<u32>, findings: &mut Findings) {
    let (paths, chosen) = identity::paths(&config.lease_files);
    let mut readable = 0;
    for path in &paths {
        match File::open(path).and_then(|file| file.metadata()) {
            Ok(about) => {
                readable += 1;
                check_readable("leases", path, &about, service, findings);
            }
            // The usual places are not all in use.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !chosen => {}
            Err(error) => {
                let remedy = "devices are shown without the names of their leases; set lease_files";
                findings.poor("leases", format!("{} cannot be read ({error}): {remedy}", path.display()));
            }
        }
    }
    if readable == 0 && !chosen {
        findings.poor("leases", "none of the usual lease files is there: devices are shown without the names of their leases; set lease_files if this router gives out addresses");
    }
}

fn check_spool(dir: &Path, service: Option<u32>, findings: &mut Findings) {
    if let Some(user) = service {
        let text = format!("{} belongs to user {user}: right if the service runs as that", dir.display());
        return match dir.ancestors().find_map(|dir| statvfs(dir).ok()) {
            Some(disk) if disk.f_flag.contains(StatVfsMountFlags::RDONLY) => {
                let remedy = "mount it writable, or set spool_dir";
                findings.wrong("spool", format!("{} is on a read-only file system: {remedy}", dir.display()));
            }
            Some(disk) if disk.f_blocks > 0 && disk.f_bavail == 0 => {
                findings.poor("spool", format!("{} is on a full disk: make room", dir.display()));
            }
            _ => findings.right("spool", text),
        };
    }
    let probe = dir.join(format!("doctor-{}", std::process::id()));
    // The service makes its spool itself, as the user that it is.
    let made: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(&probe, b"netmon"));
    // It may not be there.
    let _ = fs::remove_file(&probe);
    for dir in made {
        // One that is in use meanwhile stays.
        let _ = fs::remove_dir(dir);
    }
    match written {
        Ok(()) => findings.right("spool", format!("{} can be written", dir.display())),
        Err(error) => {
            let remedy = "events are kept in memory only: set spool_dir, or its permissions";
            findings.wrong("spool", format!("{} cannot be written ({error}): {remedy}", dir.display()));
        }
    }
}

fn check_clock(findings: &mut Findings) {
    if host::now_us() < host::NEVER_SET_US {
        findings.wrong("clock", "the clock was never set: wait for NTP, or set it with date -s");
    } else {
        findings.right("clock", "it is set");
    }
}

async fn check_metrics(config: &Config, findings: &mut Findings) {
    let Some(bind) = config.metrics_bind else { return };
    match TcpListener::bind(bind).await {
        Ok(_) => findings.right("metrics", format!("{bind} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            findings.right("metrics", format!("{bind} is in use, by an agent that runs, it is hoped"));
        }
        Err(error) => findings.poor("metrics", format!("{bind}: {error}{}", metrics::remedy(&error))),
    }
}

async fn check_server(config: &Config, findings: &mut Findings) {
    if config.transport == TransportKind::Http {
        findings.poor("server", "not asked: a server of transport: http is known by its first batch only");
        return;
    }
    let transport = match TransportConfig::new(config) {
        Ok(transport) => transport,
        Err(error) => return findings.wrong("server", error.to_string()),
    };
    for (url, answer) in transport.probe().await {
        match answer {
            Err(Unanswered { token_refused: true, why }) => {
                findings.right("server", format!("{url}: reachable"));
                findings.wrong("token", why);
            }
            Err(Unanswered { why, .. }) => findings.wrong("server", format!("{url}: {why}")),
            Ok(None) => {
                findings.right("server", format!("{url}: reachable, has not heard of this router yet"));
                findings.right("token", format!("accepted by {url}"));
            }
            Ok(Some(router)) => {
                let skew = Duration::from_micros(router.clock_skew_us.unsigned_abs());
                findings.right("server", format!("{url}: reachable, knows this router"));
                findings.right("token", format!("accepted by {url}"));
                if skew > SKEW {
                    let which = if router.clock_skew_us > 0 { "ahead of" } else { "behind" };
                    findings.poor("clock", format!("{skew:.0?} {which} the server's: use NTP on both"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Nobody here.
    const SERVICE: u32 = 4_000_001;

    fn check(dir: &Path, look: impl Fn(&mut Findings), expected: Finding, part: &str) {
        let mut findings = Findings::default();
        look(&mut findings);
        let [(finding, _, text)] = &findings.0[..] else { panic!("{findings:?}") };
        let text = text.replace(&dir.display().to_string(), "DIR");
        assert!(*finding == expected && text.contains(part), "{finding:?} {text}");
    }

    #[test]
    fn the_spool_of_another_user_is_not_tried() {
        let dir = tempfile::tempdir().expect("a directory");
        let owner = fs::metadata(dir.path()).expect("it is there").uid();
        let spool = dir.path().join("spool");
        assert_eq!((other_user(&spool, owner), other_user(&spool, SERVICE)), (None, Some(owner)));
        let theirs = "DIR/spool belongs to user 4000001: right if";
        check(dir.path(), |findings| check_spool(&spool, Some(SERVICE), findings), Finding::Right, theirs);
        let ours = "DIR/not/there can be written";
        let deep = dir.path().join("not/there");
        check(dir.path(), |findings| check_spool(&deep, None, findings), Finding::Right, ours);
        assert_eq!(other_user(&deep, SERVICE), None, "nobody has made anything for it");
        assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 0, "nothing is left behind");
    }

    #[test]
    fn what_root_can_read_is_not_what_the_service_can_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        fs::write(&path, "").expect("written");
        let mut config = Config::new("a", "http://127.0.0.1:1", "x");
        (config.dns_log, config.dnsmasq_log_path) = (DnsLogKind::File, path.clone());
        config.lease_files = vec![path.clone()];
        let owner = fs::metadata(&path).expect("it is there").uid();
        let with_mode = |mode, service, expected, part: &str| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its owner may");
            check(dir.path(), |findings| check_dns_log(&config, service, findings), expected, part);
            check(dir.path(), |findings| check_leases(&config, service, findings), expected, part);
        };
        with_mode(0o600, None, Finding::Right, "DIR/log can be read");
        with_mode(0o604, Some(SERVICE), Finding::Right, "DIR/log can be read");
        with_mode(0o600, Some(owner), Finding::Right, "DIR/log can be read");
        with_mode(
            0o640,
            Some(SERVICE),
            Finding::Right,
            "as root, and by user 4000001, the service, if group",
        );
        with_mode(
            0o600,
            Some(SERVICE),
            Finding::Poor,
            "but not by user 4000001, the service: have its group",
        );
    }
}
