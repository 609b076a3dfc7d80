//! `netmon-agent doctor` on a router that is well, and on one that is not.

use std::{fs, path::Path, process::Command};

use netmon_proto::v1::{
    ListDevicesRequest, ListDevicesResponse, ListDnsRequest, ListDnsResponse, ListDomainsRequest,
    ListDomainsResponse, ListDropsRequest, ListDropsResponse, ListFlowsRequest, ListFlowsResponse,
    ListGapsRequest, ListGapsResponse, ListHostsRequest, ListHostsResponse, ListRoutersRequest,
    ListRoutersResponse, ListTopRequest, ListTopResponse, Router, TailRequest, TailResponse,
    console_server::{Console, ConsoleServer},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::{collector::TOKEN, support::must};

/// By name.
pub(crate) const CASES: &[(&str, fn())] =
    &[("the_doctor_finds_a_healthy_router_well", healthy), ("the_doctor_names_every_remedy", ailing)];

/// Knows one router, whose clock is a minute ahead.
struct Asked;

#[tonic::async_trait]
impl Console for Asked {
    type TailStream = tokio_stream::Empty<Result<TailResponse, Status>>;

    async fn list_routers(
        &self,
        request: Request<ListRoutersRequest>,
    ) -> Result<Response<ListRoutersResponse>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if token != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("no"));
        }
        let known = Router { router_id: "known".to_owned(), clock_skew_us: 60_000_000, ..Router::default() };
        let other = Router { router_id: "known-not".to_owned(), ..Router::default() };
        // With the router's own name in theirs alone: there may be more of them than a page holds.
        let mut routers = vec![other, known];
        let text = &request.get_ref().text;
        routers.retain(|router| !text.is_empty() && router.router_id.contains(text.as_str()));
        Ok(Response::new(ListRoutersResponse { routers, page: None }))
    }

    async fn tail(&self, _: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        Err(unasked())
    }

    async fn list_devices(
        &self,
        _: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        Err(unasked())
    }

    async fn list_flows(&self, _: Request<ListFlowsRequest>) -> Result<Response<ListFlowsResponse>, Status> {
        Err(unasked())
    }

    async fn list_dns(&self, _: Request<ListDnsRequest>) -> Result<Response<ListDnsResponse>, Status> {
        Err(unasked())
    }

    async fn list_drops(&self, _: Request<ListDropsRequest>) -> Result<Response<ListDropsResponse>, Status> {
        Err(unasked())
    }

    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Result<Response<ListHostsResponse>, Status> {
        Err(unasked())
    }

    async fn list_domains(
        &self,
        _: Request<ListDomainsRequest>,
    ) -> Result<Response<ListDomainsResponse>, Status> {
        Err(unasked())
    }

    async fn list_gaps(&self, _: Request<ListGapsRequest>) -> Result<Response<ListGapsResponse>, Status> {
        Err(unasked())
    }

    async fn list_top(&self, _: Request<ListTopRequest>) -> Result<Response<ListTopResponse>, Status> {
        Err(unasked())
    }
}

fn unasked() -> Status {
    Status::unimplemented("the doctor does not ask")
}

fn serve() -> (Runtime, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let url = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Server::builder().add_service(ConsoleServer::new(Asked));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        url
    });
    (runtime, url)
}

/// What it prints, and whether it is content. `rights` are those of setpriv's bounding set.
fn examine(dir: &Path, rights: &str, settings: &str) -> (String, bool) {
    let path = dir.join("agent.yaml");
    let text = format!("spool_dir: {}\n{settings}\n", dir.join("spool").display());
    fs::write(&path, text).expect("written");
    let output = Command::new("setpriv")
        .args(["--bounding-set", rights, env!("CARGO_BIN_EXE_netmon-agent"), "doctor", "--config"])
        .arg(&path)
        .output()
        .expect("started");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

fn check(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.lines().any(|got| got.starts_with(line)), "{line:?} is not in\n{said}");
    }
}

fn healthy() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_runtime, url) = serve();
    must("ip link add lan0 type veth peer name lan1");
    must("ip addr add 192.168.77.1/24 dev lan0");
    let log = dir.path().join("dnsmasq.log");
    fs::write(&log, "").expect("written");
    let settings = format!(
        "router_id: new\nserver_url: {url}\nauth_token: {TOKEN}\ndnsmasq_log_path: {log}\nlease_files: [{log}]\n\
         nflog_groups: [10, 11]\nmetrics_bind: ''\n",
        log = log.display()
    );
    let (said, content) = examine(dir.path(), "+all", &settings);
    assert!(content, "{said}");
    check(
        &said,
        &[
            "ok       rights     CAP_NET_ADMIN",
            "ok       rights     CAP_DAC_READ_SEARCH",
            "ok       modules    nf_conntrack and nf_conntrack_netlink are there",
            "ok       sysctls    nf_conntrack_acct, _timestamp and _events are 1",
            "ok       conntrack  connections can be watched",
            "ok       nflog      nfnetlink_log is there, groups to listen to: 2",
            &format!("ok       dns        {} can be read", log.display()),
            &format!("ok       leases     {} can be read", log.display()),
            "ok       spool      ",
            "ok       clock      it is set",
            &format!("ok       server     {url}: reachable, has not heard of this router yet"),
            &format!("ok       token      accepted by {url}"),
        ],
    );
}

fn ailing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_runtime, url) = serve();
    for setting in ["acct", "events"] {
        fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{setting}"), "0").expect("a setting");
    }
    let secret = dir.path().join("leases");
    fs::write(&secret, "").expect("written");
    must(&format!("chmod 000 {}", secret.display()));
    let settings = |token: &str, router: &str| {
        format!(
            "router_id: {router}\nserver_urls: [\"{url}\", \"http://127.0.0.1:1\"]\nauth_token: {token}\n\
             set_sysctls: false\ndnsmasq_log_path: /does/not/exist\nlease_files: [{}]\nnflog_groups: [10]\n\
             metrics_bind: 127.0.0.1:80\n",
            secret.display()
        )
    };
    let (said, content) = examine(dir.path(), "-all", &settings("guess", "known"));
    assert!(!content, "{said}");
    check(
        &said,
        &[
            "FAILED   rights     CAP_NET_ADMIN is missing: run as root, or give",
            "warning  rights     CAP_DAC_READ_SEARCH is missing: ",
            "warning  modules    nf_conntrack is there",
            "warning  sysctls    net.netfilter.nf_conntrack_acct is 0: connections have no byte and packet counters; set it with: sysctl -w",
            "warning  sysctls    net.netfilter.nf_conntrack_events is 0: ",
            "FAILED   conntrack  not allowed to watch conntrack: run as root or with CAP_NET_ADMIN",
            "FAILED   nflog      not allowed to listen to NFLOG: run as root or with CAP_NET_ADMIN",
            "warning  dns        /does/not/exist cannot be read",
            &format!("warning  leases     {} cannot be read (Permission denied", secret.display()),
            &format!("ok       server     {url}: reachable"),
            "FAILED   token      the server refused the token: auth_token must equal",
            "FAILED   server     http://127.0.0.1:1: cannot connect: Connection refused",
        ],
    );
    assert!(!said.contains("guess"), "{said}");

    let (said, _) = examine(dir.path(), "+all", &settings(TOKEN, "known"));
    check(
        &said,
        &[
            "warning  sysctls    net.netfilter.nf_conntrack_acct is 0",
            "ok       nflog      nfnetlink_log is there, groups to listen to: 1",
            "warning  metrics    127.0.0.1:80: Permission denied (os error 13): a port below 1024 needs a right that the agent gives up: take a higher one",
            "warning  clock      60s ahead of the server's: use NTP on both",
            &format!("ok       server     {url}: reachable, knows this router"),
            &format!("ok       leases     {} can be read", secret.display()),
        ],
    );
}
