//! The real server as a child.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

pub(crate) const TOKEN: &str = "bench";

pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) data: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::on(tempfile::tempdir().expect("a temporary directory"), &[])
    }

    /// With more arguments.
    pub(crate) fn on(data: tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netmon-server"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .args(arguments)
            .env_remove("DATABASE_URL")
            .env("NETMON_API_TOKEN", TOKEN)
            .env("NETMON_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let url = line.trim().rsplit(' ').next().expect("an address").to_owned();
        Self { child, url, data }
    }

    /// User and system time, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let after_name = stat.rsplit(')').next().expect("a name in parentheses");
        let ticks: Vec<f64> = after_name.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // Fields 14 and 15 of proc_pid_stat(5); the state, a letter, does not parse.
        (ticks[10] + ticks[11]) / 100.0
    }

    pub(crate) fn memory_mb(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field is there");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("kB") / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
