//! Where a snapshot comes from.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use netmon_agent::conntrack::{Monitor, MonitorConfig};
use netmon_proto::v1::{self, event::Kind, table_sync::Step};
use tracing::warn;

use super::listing::{self, Listing};
use super::words;

/// What a listing may have: of the largest table that is of use, half a kilobyte a flow.
const MOST_BYTES: u64 = 128 * 1024 * 1024;

/// How long a command or a dump of the kernel may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Where a snapshot comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This machine's kernel.
    Kernel,
    /// A file, read anew each time.
    File(PathBuf),
    /// A program and its arguments, run anew each time without a shell.
    Command(String),
}

impl Source {
    /// What is there now. To be called within a tokio runtime of the current thread.
    ///
    /// # Errors
    /// It cannot be read, takes too long, or has nothing in it that is understood: then nothing is known, and no flow
    /// must be ended for it.
    pub async fn read(&self) -> anyhow::Result<Listing> {
        let (name, text) = match self {
            Self::Kernel => return kernel().await,
            Self::File(path) => (path.display().to_string(), file(path)?),
            Self::Command(line) => (line.clone(), output(line)?),
        };
        let listing = listing::read(&text);
        if listing.flows.is_empty() {
            if let Some(refusal) = &listing.refusal {
                bail!("{name}: expected what conntrack -L prints: {refusal}");
            }
            // A command that succeeds and prints nothing says that nothing is open; a file may just be written anew.
            if matches!(self, Self::File(_)) {
                bail!("{name}: there is nothing in it, expected what conntrack -L prints");
            }
        }
        Ok(listing)
    }
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("{shown}: cannot be read"))?;
    whole(file).with_context(|| format!("{shown}: cannot be read"))
}

fn whole(from: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        bail!("expected at most {MOST_BYTES} bytes");
    }
    Ok(text)
}

/// What a command prints. Its errors go to ours.
fn output(line: &str) -> anyhow::Result<Vec<u8>> {
    let words = words::split(line).map_err(|problem| anyhow::anyhow!("{line}: {problem}"))?;
    let [program, arguments @ ..] = &words[..] else { bail!("{line}: expected a program") };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program}: cannot be started"))?;
    let Some(stdout) = child.stdout.take() else { bail!("{program}: its output cannot be read") };
    let (send, read) = channel();
    // Whoever waits may have given up.
    std::thread::spawn(move || drop(send.send(whole(stdout))));
    let text = match read.recv_timeout(LIMIT) {
        Ok(text) => text,
        Err(RecvTimeoutError::Timeout) => Err(anyhow::anyhow!("it took longer than {LIMIT:?}")),
        Err(RecvTimeoutError::Disconnected) => Err(anyhow::anyhow!("its output cannot be read")),
    };
    if text.is_err() {
        // It may have ended by itself.
        drop(child.kill());
    }
    let status = child.wait()?;
    let text = text.with_context(|| line.to_owned())?;
    if !status.success() {
        bail!("{line}: it failed ({status})");
    }
    Ok(text)
}

/// One dump of the kernel's table, and what began or ended while it was read.
async fn kernel() -> anyhow::Result<Listing> {
    let mut monitor = Monitor::open(MonitorConfig::default(), rand::random())?;
    for warning in monitor.warnings() {
        warn!("{warning}");
    }
    let dump = async {
        let mut flows = std::collections::HashMap::new();
        let mut events = Vec::new();
        loop {
            monitor.step(&mut events).await?;
            for event in events.drain(..) {
                match event.kind {
                    Some(Kind::Flow(flow)) if flow.phase() == v1::FlowPhase::End => {
                        flows.remove(&flow.flow_id);
                    }
                    Some(Kind::Flow(flow)) => {
                        flows.insert(flow.flow_id, flow);
                    }
                    Some(Kind::TableSync(sync)) if sync.step() == Step::End => {
                        return anyhow::Ok(flows.into_values().map(unwatched).collect());
                    }
                    _ => {}
                }
            }
        }
    };
    let flows = tokio::time::timeout(LIMIT, dump)
        .await
        .map_err(|_| anyhow::anyhow!("the kernel's table took longer than {LIMIT:?}"))??;
    Ok(Listing { flows, ..Listing::default() })
}

/// Without what the agent says of its own watching.
fn unwatched(flow: v1::Flow) -> v1::Flow {
    v1::Flow {
        bytes_orig_before: 0,
        bytes_reply_before: 0,
        packets_orig_before: 0,
        packets_reply_before: 0,
        ..flow
    }
}
