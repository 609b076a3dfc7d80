//! A headless Chromium, driven over a pipe with the DevTools protocol.
//!
//! `--remote-debugging-pipe` reads commands from descriptor 3 and answers on 4, each message ended by a zero
//! byte. That needs neither a port nor a WebSocket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};

/// Its name in Debian.
pub(crate) const CHROMIUM: &str = "chromium";
/// For one command. Starting takes the longest.
const PATIENCE: Duration = Duration::from_secs(60);

/// One page of a browser that ends when this is dropped.
pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    last_id: u64,
    session: Option<String>,
}

impl Browser {
    /// Starts it with an empty profile in this directory.
    pub(crate) fn start(directory: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(directory.join("browser.log"))?;
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#, CHROMIUM])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"])
            // The namespaces of the lab leave no room for its own, and it only sees the lab's server.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", directory.join("profile").display()))
            .arg("about:blank")
            .env("HOME", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the browser")?;
        let commands = child.stdin.take().context("stdin is piped")?;
        let output = child.stdout.take().context("stdout is piped")?;
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, commands, messages, last_id: 0, session: None };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        Ok(browser)
    }

    /// Goes to a page; returns before it is there.
    pub(crate) fn navigate(&mut self, url: &str) -> anyhow::Result<()> {
        let answer = self.call("Page.navigate", json!({ "url": url }))?;
        match answer["errorText"].as_str() {
            Some(error) => bail!("{url}: {error}"),
            None => Ok(()),
        }
    }

    /// Switches the page's own scripts on or off, from the next page on.
    pub(crate) fn set_scripts(&mut self, on: bool) -> anyhow::Result<()> {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": !on })).map(drop)
    }

    /// Makes the screen so wide, in CSS pixels, as a phone's is.
    pub(crate) fn set_width(&mut self, width: u32) -> anyhow::Result<()> {
        let screen = json!({ "width": width, "height": 844, "deviceScaleFactor": 1, "mobile": true });
        self.call("Emulation.setDeviceMetricsOverride", screen).map(drop)
    }

    /// The value of a JavaScript expression on the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> anyhow::Result<Value> {
        let answer =
            self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }))?;
        match answer.get("exceptionDetails") {
            Some(exception) => bail!("{expression}: {exception}"),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    /// The page as it stands, without the help of a script.
    pub(crate) fn html(&mut self) -> anyhow::Result<String> {
        let document = self.call("DOM.getDocument", json!({ "depth": 0 }))?;
        let html = self.call("DOM.getOuterHTML", json!({ "nodeId": document["root"]["nodeId"] }))?;
        Ok(html["outerHTML"].as_str().context("no HTML")?.to_owned())
    }

    fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let mut text = command.to_string().into_bytes();
        text.push(0);
        self.commands.write_all(&text).context("the browser is gone")?;
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let message =
                self.messages.recv_timeout(left).with_context(|| format!("no answer to {method}"))?;
            // All else are events, or answers to nothing that anyone waits for.
            if message["id"] != self.last_id {
                continue;
            }
            return match message.get("error") {
                Some(error) => Err(anyhow!("{method}: {error}")),
                None => Ok(message["result"].clone()),
            };
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already. Its children end with the process namespace.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
