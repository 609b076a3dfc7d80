//! The console's tail: what it tells, to whom, and what it says to those who are too slow.

use netmon_proto::v1::{self, event::Kind};
use tonic::{Code, Status, Streaming};

use crate::{
    client::{self, Agent},
    server::Server,
};

type Tail = Streaming<v1::TailResponse>;

/// A connection of its own, so that what it does not read holds nothing else up.
struct Listener {
    agent: Agent,
    tail: Tail,
}

impl Listener {
    fn open(server: &Server, router: &str, kinds: &[&str]) -> Result<Self, Status> {
        let agent = Agent::new(server);
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let request = v1::TailRequest { router_id: router.to_owned(), kinds };
        let tail = agent.console(|mut client| {
            let request = agent.authorized(request);
            async move { client.tail(request).await }
        })?;
        Ok(Self { agent, tail })
    }

    fn next(&mut self) -> v1::TailResponse {
        self.agent.next(&mut self.tail).unwrap().expect("a tail has no end")
    }

    /// The next events: whose, and what.
    fn told(&mut self, count: usize) -> Vec<(String, &'static str)> {
        (0..count)
            .map(|_| {
                let said = self.next();
                assert_eq!(said.missed, 0);
                let kind = match said.event.and_then(|event| event.kind) {
                    Some(Kind::Flow(_)) => "flow",
                    Some(Kind::Gap(_)) => "gap",
                    Some(Kind::FirewallDrop(_)) => "firewall_drop",
                    Some(Kind::Heartbeat(_)) => "heartbeat",
                    other => panic!("{other:?} was not sent"),
                };
                (said.router_id, kind)
            })
            .collect()
    }
}

fn gap(detail: String) -> v1::Event {
    client::event(Kind::Gap(v1::Gap { cause: 1, count: 1, detail, ..v1::Gap::default() }))
}

fn heartbeat() -> v1::Event {
    client::event(Kind::Heartbeat(v1::Heartbeat::default()))
}

#[test]
fn a_tail_tells_what_is_committed_from_now_on() {
    let server = Server::start();
    let agent = Agent::new(&server);
    agent.report("attic", vec![client::ended(1)]).unwrap();
    let mut all = Listener::open(&server, "", &[]).unwrap();
    let mut flows = Listener::open(&server, "", &["flow"]).unwrap();
    let mut cellar = Listener::open(&server, "cellar", &[]).unwrap();
    let mut drops_of_cellar = Listener::open(&server, "cellar", &["gap", "firewall_drop"]).unwrap();
    let dropped = client::event(Kind::FirewallDrop(v1::FirewallDrop {
        hook: "INPUT".to_owned(),
        src_ip: vec![203, 0, 113, 9].into(),
        dst_ip: vec![192, 168, 1, 20].into(),
        protocol: 6,
        ..v1::FirewallDrop::default()
    }));
    // What is refused is not told, nor what comes again.
    let first = vec![client::ended(2), client::event_without_kind(), gap(String::new()), heartbeat()];
    let frames = || vec![client::hello("attic", 7, 1), client::batch(1, first.clone())];
    assert_eq!(agent.stream(frames()).unwrap().rejected, 1);
    assert_eq!(agent.stream(frames()).unwrap().accepted, 0);
    agent.report("cellar", vec![client::ended(3), dropped]).unwrap();

    let attic = |kind| ("attic".to_owned(), kind);
    let of_cellar = [("cellar".to_owned(), "flow"), ("cellar".to_owned(), "firewall_drop")];
    let expected =
        [attic("flow"), attic("gap"), attic("heartbeat"), of_cellar[0].clone(), of_cellar[1].clone()];
    assert_eq!(all.told(5), expected);
    assert_eq!(flows.told(2), [attic("flow"), of_cellar[0].clone()]);
    assert_eq!(cellar.told(2), of_cellar);
    assert_eq!(drops_of_cellar.told(1), of_cellar[1..]);
    // Nothing is left over: the next word of each is the next event.
    agent.report("cellar", vec![gap("last".to_owned()), client::ended(4)]).unwrap();
    let last = [("cellar".to_owned(), "gap")];
    assert_eq!(all.told(1), last);
    assert_eq!(flows.told(1), of_cellar[..1]);
    assert_eq!(cellar.told(1), last);
    assert_eq!(drops_of_cellar.told(1), last);
}

#[test]
fn a_tail_is_refused_with_what_was_expected() {
    let server = Server::start();
    let refused = Listener::open(&server, "", &["flow", "flows"]).err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let expected = "kind \"flows\" is not known, expected one of flow, firewall_drop, dns_response";
    assert!(refused.message().contains(expected), "{refused}");
    let stranger = Agent::with_token(&server, "wrong");
    let refused = stranger
        .console(|mut client| {
            let request = stranger.authorized(v1::TailRequest::default());
            async move { client.tail(request).await }
        })
        .err()
        .unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[test]
fn a_slow_reader_is_told_how_much_it_missed() {
    const LARGE: u64 = 600;
    const SMALL: u64 = 8_000;
    let server = Server::start();
    let mut tail = Listener::open(&server, "", &[]).unwrap();
    let agent = Agent::new(&server);
    // More than the connection holds that nobody reads, then more than the server keeps for it.
    for _ in 0..3 {
        let large = (0..LARGE / 3).map(|_| gap("x".repeat(8 << 10))).collect();
        agent.report("attic", large).unwrap();
    }
    agent.report("attic", (0..SMALL).map(|_| heartbeat()).collect()).unwrap();
    agent.report("attic", vec![client::ended(1)]).unwrap();

    let (mut told, mut missed) = (0, 0);
    loop {
        let said = tail.next();
        missed += said.missed;
        let Some(event) = said.event else {
            assert!(said.missed > 0 && said.router_id.is_empty(), "{said:?}");
            continue;
        };
        assert_eq!((said.missed, said.router_id.as_str()), (0, "attic"));
        told += 1;
        if matches!(event.kind, Some(Kind::Flow(_))) {
            break;
        }
    }
    assert!(missed > 0, "nothing was missed of {told}");
    assert_eq!(told + missed, LARGE + SMALL + 1);
}
