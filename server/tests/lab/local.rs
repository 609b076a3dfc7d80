//! The first command of the README: `netmon-server serve --local`, on a machine that nobody has prepared.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::conversation::{Carrier, Conversation};
use crate::daemon::AGENT_PROGRAM;
use crate::namespaces::{self, LAN_V4, Place, WAN_V4};
use crate::outside::Site;
use crate::{conversation, wait};

const LISTENING: &str = "netmon-server listening on ";
const LIMIT: Duration = Duration::from_secs(30);

/// A server that watches the router, with nothing set but where its data goes.
struct Local {
    child: Child,
    url: String,
    /// Standard error: what it says to people, and its log.
    said: String,
}

impl Local {
    /// Starts it, and waits until it listens. `wrapper` is what starts the program.
    fn start(directory: &Path, name: &str, wrapper: &[&str]) -> anyhow::Result<Self> {
        let program = env!("CARGO_BIN_EXE_netmon-server");
        let (first, rest) = wrapper.split_first().unwrap_or((&program, &[]));
        let mut command: Command = Place::Router.command(first);
        if !wrapper.is_empty() {
            command.args(rest).arg(program);
        }
        let (output, errors) = (directory.join(format!("{name}.out")), directory.join(format!("{name}.err")));
        let mut child = command
            .args(["serve", "--local", "--listen", "127.0.0.1:0", "--data"])
            .arg(directory.join(name))
            .env_remove("NETMON_API_TOKEN")
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()?;
        let url = wait::until("the server listens", LIMIT, || {
            ensure!(child.try_wait()?.is_none(), "it ended: {}", fs::read_to_string(&errors)?);
            let text = fs::read_to_string(&output)?;
            Ok(text.lines().find_map(|line| line.strip_prefix(LISTENING)).map(str::to_owned))
        })?;
        // What is for people comes at once after it.
        let said = wait::until("it says how to get in", LIMIT, || {
            let text = fs::read_to_string(&errors)?;
            Ok(text.contains("In a browser: ").then_some(text))
        })?;
        Ok(Self { child, url, said })
    }

    fn get(&self, path: &str, token: &str) -> anyhow::Result<(u16, String)> {
        Place::Router.within(|| {
            let config =
                ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT));
            let request = ureq::Agent::from(config.build()).get(format!("{}{path}", self.url));
            let mut response = request.header("Authorization", format!("Bearer {token}")).call()?;
            Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
        })
    }

    /// SIGTERM, and its end without an error.
    fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = wait::until("the server stops", LIMIT, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // It may have ended already, and then both are errors of no interest.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Issue 2: shown when, 1.
pub(crate) fn watches_its_own_machine(site: &Site) -> anyhow::Result<()> {
    namespaces::lay_out()?;
    let service = conversation::serve_tcp(Place::Wan, SocketAddr::new(WAN_V4[0], 0))?;
    let server = Local::start(&site.directory, "local", &[])?;
    let said = server.said.clone();
    let lines: Vec<&str> =
        said.lines().skip_while(|line| !line.contains("A token was made")).skip(2).take(3).collect();
    let token = lines[2].trim().strip_prefix("auth_token: ").context("no token is told")?.trim_matches('"');
    ensure!(token.len() >= 20, "{token}");

    // What it tells to put into an agent's configuration is one.
    let config = site.directory.join("told.yaml");
    fs::write(&config, lines.join("\n"))?;
    let agent = std::env::var(AGENT_PROGRAM)?;
    let checked = Command::new(agent).arg("--config").arg(&config).arg("--check-config").output()?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let from = SocketAddr::new(LAN_V4[0], 0);
    let mut conversation = Place::Lan.within(|| Conversation::open(Carrier::Tcp, from, service))?;
    conversation.round(100, 1_000)?;
    let (host, port) = (service.ip(), service.port());
    let is_listed = || {
        let (status, flows) = server.get(&format!("/api/v1/flows?port={port}"), token)?;
        ensure!(status == 200 && flows.contains(&format!("\"dst_ip\":\"{host}\"")), "{status} {flows}");
        Ok(())
    };
    wait::until_ok("the connection is in its list", LIMIT, is_listed)?;
    ensure!(server.get("/api/v1/flows", "another")?.0 == 401, "any token will do");
    server.stop()?;

    // Again: the token is where it was, and is not told.
    let server = Local::start(&site.directory, "local", &[])?;
    ensure!(!server.said.contains(token) && server.said.contains("with the token in "), "{}", server.said);
    ensure!(server.get("/api/v1/flows", token)?.1.contains("\"dst_ip\""), "what was stored is gone");
    server.stop()
}

/// The same without the right to watch.
pub(crate) fn serves_without_the_right_to_watch(site: &Site) -> anyhow::Result<()> {
    namespaces::lay_out()?;
    let server = Local::start(&site.directory, "poor", &["setpriv", "--bounding-set=-net_admin"])?;
    let log = site.directory.join("poor.err");
    wait::until("it says what it may not", LIMIT, || {
        let said = fs::read_to_string(&log)?;
        Ok((said.contains("not allowed to watch conntrack: run as root or with CAP_NET_ADMIN")).then_some(()))
    })?;
    ensure!(server.get("/up", "")?.0 == 200, "it does not serve");
    server.stop()
}
