//! ulogd2 in the same storm: conntrack and NFLOG to a JSON file, a record per NEW, DESTROY and packet.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    TICK, process_cpu, process_memory,
    support::inject::{Injector, source},
};

/// A program whose CPU time does not grow for so long has done its work.
const SILENCE: Duration = Duration::from_secs(1);

/// Gives its CPU time. `None`: it is not installed.
pub(crate) fn measure(name: &str, ends: u32, packets: u32, storm: fn()) -> Option<f64> {
    let plugins = plugins()?;
    let directory = tempfile::tempdir().expect("a directory");
    let (connections, logged) = (directory.path().join("ct.json"), directory.path().join("log.json"));
    let config = directory.path().join("ulogd.conf");
    fs::write(&config, text(&plugins, &connections, &logged)).expect("a configuration");
    let mut command = Command::new("ulogd");
    command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let mut ulogd = command.spawn().ok()?;
    until_it_listens(&mut ulogd, &connections);
    let before = process_cpu(ulogd.id());
    let started = Instant::now();
    storm();
    let stormed = started.elapsed();
    let mut last = (process_cpu(ulogd.id()), Instant::now());
    while last.1.elapsed() < SILENCE {
        let now = process_cpu(ulogd.id());
        if now > last.0 {
            last = (now, Instant::now());
        }
        thread::sleep(TICK);
    }
    let cpu = last.0 - before;
    let memory = process_memory(ulogd.id(), "VmHWM");
    let ended = Command::new("kill").arg(ulogd.id().to_string()).status().expect("kill");
    assert!(ended.success());
    ulogd.wait().expect("its end");
    // 4 is NFCT_T_DESTROY of libnetfilter_conntrack.
    let heard = count(&connections, "\"ct.event\": 4").min(u64::from(ends));
    println!(
        "{name:6} ulogd   {cpu:6.3} CPU-s = {:5.3} per 100,000 ends; {heard} of {ends} ends and {} of {packets} \
         packets written; memory at most {memory}; the storm took {:.1} s",
        cpu * 100_000.0 / f64::from(ends),
        count(&logged, "{"),
        stormed.as_secs_f64()
    );
    Some(cpu)
}

fn plugins() -> Option<PathBuf> {
    let libraries = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("ulogd"));
    libraries.into_iter().find(|path| path.join("ulogd_output_JSON.so").exists())
}

fn text(plugins: &Path, connections: &Path, logged: &Path) -> String {
    let names =
        ["inpflow_NFCT", "inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR", "output_JSON"];
    let loaded: String =
        names.iter().map(|name| format!("plugin=\"{}/ulogd_{name}.so\"\n", plugins.display())).collect();
    format!(
        "[global]\nlogfile=\"/dev/null\"\nloglevel=8\n{loaded}\
         stack=ct1:NFCT,ip2str1:IP2STR,json1:JSON\n\
         stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,json2:JSON\n\
         stack=log2:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,json2:JSON\n\
         [ct1]\nnetlink_socket_buffer_size=4194304\nnetlink_socket_buffer_maxsize=4194304\nreliable=1\n\
         hash_enable=0\nevent_mask=0x5\n\
         [log1]\ngroup=10\n[log2]\ngroup=20\n\
         [json1]\nsync=0\nfile=\"{}\"\n[json2]\nsync=0\nfile=\"{}\"\n",
        connections.display(),
        logged.display()
    )
}

/// Makes and removes entries until some are written.
fn until_it_listens(ulogd: &mut Child, connections: &Path) {
    let limit = Instant::now() + Duration::from_secs(20);
    let mut injector = Injector::open().expect("an injector");
    while fs::metadata(connections).map_or(0, |about| about.len()) == 0 {
        assert!(ulogd.try_wait().expect("a child").is_none(), "ulogd does not start with this configuration");
        assert!(Instant::now() < limit, "ulogd hears nothing");
        for number in 0..100 {
            injector.create(source(number), 600);
            injector.delete(source(number));
        }
        injector.send();
        thread::sleep(Duration::from_millis(100));
    }
}

fn count(path: &Path, what: &str) -> u64 {
    let Ok(file) = fs::File::open(path) else { return 0 };
    BufReader::new(file).lines().map_while(Result::ok).filter(|line| line.contains(what)).count() as u64
}
