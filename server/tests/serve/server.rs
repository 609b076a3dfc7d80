//! A running server, on a port and a data directory of its own.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use ureq::{RequestBuilder, http::Response, typestate::WithoutBody};

/// In its data directory.
const LOG: &str = "log";
pub(crate) const TOKEN: &str = "token-of-the-test";

pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    data: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (child, url) = start(data.path(), flags);
        Self { child, url, data }
    }

    /// One that keeps raw events for ever, for tests that tell of long ago.
    pub(crate) fn start_keeping() -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = data.path().join("keeping.yaml");
        std::fs::write(&config, "retention: {raw_days: 0}\n").unwrap();
        let (child, url) = start(data.path(), &["--config", config.to_str().unwrap()]);
        Self { child, url, data }
    }

    /// On what is there.
    pub(crate) fn start_on(data: tempfile::TempDir) -> Self {
        let (child, url) = start(data.path(), &[]);
        Self { child, url, data }
    }

    pub(crate) fn kill_and_restart(&mut self) {
        self.kill_and_restart_with(&[]);
    }

    pub(crate) fn kill_and_restart_with(&mut self, flags: &[&str]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.url) = start(self.data.path(), flags);
    }

    /// What a second one says before it gives up.
    pub(crate) fn second_on_the_same_data(&self) -> String {
        let output = command(self.data.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Its database, by a connection of the test's own that waits for whoever writes.
    pub(crate) fn database(&self) -> SqliteConnection {
        let path = self.data.path().join("netmon.db");
        let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
        connection
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join(LOG)).unwrap()
    }

    pub(crate) fn request(&self, path: &str) -> RequestBuilder<WithoutBody> {
        agent().get(format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, path: &str, form: &str) -> Response<ureq::Body> {
        let request = agent().post(format!("{}{path}", self.url));
        request.header("Content-Type", "application/x-www-form-urlencoded").send(form).unwrap()
    }

    /// The same with the token.
    pub(crate) fn post_as_reader(&self, path: &str, form: &str) -> Response<ureq::Body> {
        let request = agent().post(format!("{}{path}", self.url));
        let request = request.header("Authorization", format!("Bearer {TOKEN}"));
        request.header("Content-Type", "application/x-www-form-urlencoded").send(form).unwrap()
    }

    /// The same as a browser sends it from a page of this site.
    pub(crate) fn post_from(&self, site: &str, path: &str, form: &str) -> Response<ureq::Body> {
        let request = agent().post(format!("{}{path}", self.url)).header("Sec-Fetch-Site", site);
        let request = request.header("Authorization", format!("Bearer {TOKEN}"));
        request.header("Content-Type", "application/x-www-form-urlencoded").send(form).unwrap()
    }

    pub(crate) fn post_body(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response<ureq::Body> {
        let request = agent().post(format!("{}{path}", self.url)).header("Content-Type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send(body).unwrap()
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let request =
            headers.iter().fold(self.request(path), |request, (name, value)| request.header(*name, *value));
        let mut response = request.call().unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), body)
    }

    /// With the token.
    pub(crate) fn read(&self, path: &str) -> (u16, String) {
        self.get(path, &[("Authorization", &format!("Bearer {TOKEN}"))])
    }

    pub(crate) fn total(&self, list: &str) -> u64 {
        let (_, body) = self.read(list);
        let list: serde_json::Value = serde_json::from_str(&body).unwrap();
        list["total"].as_u64().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs(30)));
    config.build().into()
}

pub(crate) fn command(data: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-server"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).env("NETMON_API_TOKEN", TOKEN);
    command
}

fn start(data: &std::path::Path, flags: &[&str]) -> (Child, String) {
    let log = std::fs::File::options().create(true).append(true).open(data.join(LOG)).unwrap();
    let mut child = command(data).args(flags).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url =
        line.trim().strip_prefix("netmon-server listening on ").expect("the line that scripts wait for");
    (child, url.to_owned())
}
