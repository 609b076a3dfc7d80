//! The program's own words and exit codes.

use std::{
    path::Path,
    process::{Command, Output},
};

fn agent(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netmon-agent")).args(args).output().expect("started")
}

fn check(args: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = agent(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(code), stdout.to_owned(), stderr.to_owned())
    );
}

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("agent.yaml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn version_and_help_are_on_stdout() {
    check(&["--version"], 0, concat!("netmon-agent ", env!("CARGO_PKG_VERSION"), "\n"), "");
    let help = agent(&["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--check-config"));
}

#[test]
fn a_right_file_is_ok() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = write(dir.path(), "router_id: home\nserver_url: http://127.0.0.1:1\nauth_token: x\n");
    for option in ["--config", "-config"] {
        check(&[option, &path, "--check-config"], 0, &format!("{path}: ok\n"), "");
    }
}

#[test]
fn mistakes_are_one_line_each_and_exit_code_2() {
    let dir = tempfile::tempdir().expect("a directory");
    let path =
        write(dir.path(), "router_id: home\nauth_token: t0psecret\nlan_subnets: [1.2.3.4]\nserver: x\n");
    let expected = format!(
        "{path}:3: lan_subnets: expected a network such as 192.168.1.0/24 or fd00::/64, found \"1.2.3.4\"\n\
         {path}:4: server: unknown key; did you mean server_url?\n\
         {path}: server_url: missing; expected a URL such as http://192.168.1.2:3000\n"
    );
    check(&["--config", &path, "--check-config"], 2, "", &expected);
    check(&["--config", &path], 2, "", &expected);
}

#[test]
fn unknown_options_and_missing_files_are_exit_code_2() {
    check(&["--frobnicate"], 2, "", "invalid option '--frobnicate'; see netmon-agent --help\n");
    let expected = "/does/not/exist.yaml: cannot read it: No such file or directory (os error 2)\n";
    check(&["--config", "/does/not/exist.yaml"], 2, "", expected);
}

/// Runs the agent with a manager's socket; the manager is this test.
struct Managed {
    agent: std::process::Child,
    manager: std::os::unix::net::UnixDatagram,
}

impl Managed {
    fn start(dir: &Path, config: &str) -> Self {
        let socket = dir.join("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&socket).expect("bound");
        manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("set");
        let agent = Command::new(env!("CARGO_BIN_EXE_netmon-agent"))
            .args(["--config", config])
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "200000")
            .env_remove("WATCHDOG_PID")
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        Self { agent, manager }
    }

    fn hear(&self) -> String {
        let mut text = [0; 256];
        // A child that ends meanwhile interrupts the call.
        let len = loop {
            match self.manager.recv(&mut text) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result.expect("a word within the time limit"),
            }
        };
        String::from_utf8_lossy(&text[..len]).trim().to_owned()
    }

    fn hear_until(&self, word: &str) {
        while self.hear() != word {}
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.agent.id().to_string()]).status();
        assert!(killed.expect("started").success());
    }

    /// Ends it and gives what it logged.
    fn end(mut self) -> String {
        self.signal("TERM");
        self.hear_until("STOPPING=1");
        assert!(self.agent.wait().expect("ended").success());
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.agent.stderr.take().expect("piped"), &mut log).expect("text");
        log
    }
}

#[test]
fn a_service_manager_hears_of_the_agent_and_reloads_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!(
        "router_id: home\nserver_url: http://127.0.0.1:1\nauth_token: x\nmetrics_bind: ''\ndns_log: off\nset_sysctls: false\nspool_dir: {}\n",
        dir.path().join("spool").display()
    );
    let path = write(dir.path(), &text);
    let managed = Managed::start(dir.path(), &path);
    managed.hear_until("READY=1");
    managed.hear_until("WATCHDOG=1");
    // A file with a mistake changes nothing; the next one takes effect.
    write(dir.path(), "router_id: home\n");
    managed.signal("HUP");
    managed.hear_until("WATCHDOG=1");
    managed.hear_until("WATCHDOG=1");
    write(dir.path(), &format!("{text}report_interval: 20s\n"));
    managed.signal("HUP");
    managed.hear_until("WATCHDOG=1");
    managed.hear_until("WATCHDOG=1");
    let log = managed.end();
    let refused = log.find("the configuration stays as it was").unwrap_or_else(|| panic!("{log}"));
    assert!(log[refused..].contains("auth_token: missing"), "{log}");
    assert!(log[refused..].contains("works by the new configuration"), "{log}");
}

#[test]
fn the_doctor_names_what_is_wrong_and_the_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = write(
        dir.path(),
        "router_id: home\nserver_url: http://127.0.0.1:1\nauth_token: t0psecret\nmetrics_bind: ''\nset_sysctls: false\n\
         nflog_groups: [1]\ndnsmasq_log_path: /does/not/exist\nlease_files: [/does/not/exist]\nspool_dir: /proc/spool\n",
    );
    let output = agent(&["doctor", "--config", &path]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "warning  dns        /does/not/exist cannot be read (No such file or directory (os error 2)): have dnsmasq write it",
        "warning  leases     /does/not/exist cannot be read",
        "FAILED   spool      /proc/spool cannot be written (No such file or directory (os error 2)): ",
        "FAILED   server     http://127.0.0.1:1: cannot connect: Connection refused",
        "ok       clock      it is set",
    ] {
        assert!(text.lines().any(|got| got.starts_with(line)), "{line} is not in\n{text}");
    }
    assert!(!text.contains("t0psecret"));
}
