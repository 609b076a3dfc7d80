//! The agent when nothing happens.

use std::{thread, time::Duration};

use crate::{Agent, collector, is_synced};

const TIME: Duration = Duration::from_secs(30);

pub(crate) fn measure() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = collector::TestServer::default();
    let running = runtime.block_on(server.start());
    let agent = Agent::start(&running.url(), "");
    runtime.block_on(server.until(|kept| kept.events.iter().any(is_synced)));
    let before = agent.cpu();
    thread::sleep(TIME);
    let cpu = agent.cpu() - before;
    println!(
        "idle   agent   {:.2} % of a CPU over {} s; memory now {} and at most {}",
        cpu * 100.0 / TIME.as_secs_f64(),
        TIME.as_secs(),
        agent.memory("VmRSS"),
        agent.memory("VmHWM")
    );
}
