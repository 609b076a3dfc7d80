//! Batches of agents that come when they cannot be taken.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::http::{PATH, batch, flow, taken};
use crate::server::{Server, TOKEN};

#[derive(QueryableByName)]
pub(crate) struct Count {
    #[diesel(sql_type = BigInt)]
    pub(crate) number: i64,
}

/// What an agent is told that is to come again: the status, how many seconds to wait, and why.
fn put_off(server: &Server, body: &[u8]) -> (u16, Option<String>, String) {
    let mut answer = server.post_body(PATH, &[("Authorization", &format!("Bearer {TOKEN}"))], body);
    let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), wait, answer.body_mut().read_to_string().unwrap())
}

#[test]
fn one_of_too_many_batches_at_once_is_put_off() {
    let server = Server::start();
    let body = batch(&[flow("NEW", 50_000, 1, 0)]);
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: netmon\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    // Eight agents whose bodies do not come.
    let slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(20);
    let mut told = put_off(&server, &body);
    while told.0 == 200 && Instant::now() < until {
        told = put_off(&server, &body);
    }
    assert_eq!((told.0, told.1.as_deref()), (503, Some("2")), "{}", told.2);
    assert!(told.2.contains("too many batches come at once"), "{}", told.2);
    drop(slow);
    while put_off(&server, &body).0 == 503 && Instant::now() < until {}
    assert_eq!(taken(&server, &body), (1, 0));
}

#[test]
fn a_batch_is_put_off_while_the_writer_is_behind() {
    // Of 32,768 events that may wait for the writer, four batches take more than a quarter each.
    const EVENTS: u16 = 8_300;
    let server = Server::start();
    let mut other = server.database();
    // Another program holds the database: the writer waits.
    diesel::sql_query("BEGIN IMMEDIATE").execute(&mut other).unwrap();
    let bodies = [0, 1, 2, 3].map(|number| {
        let ports = number * EVENTS..(number + 1) * EVENTS;
        let events: Vec<_> = ports.map(|port| flow("NEW", 1 + port, 1, 0)).collect();
        batch(&events)
    });
    let answers = std::thread::scope(|scope| {
        let posts = bodies.each_ref().map(|body| scope.spawn(|| put_off(&server, body)));
        let until = Instant::now() + Duration::from_secs(20);
        while !posts.iter().any(std::thread::ScopedJoinHandle::is_finished) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        diesel::sql_query("ROLLBACK").execute(&mut other).unwrap();
        posts.map(|post| post.join().unwrap())
    });
    let refused: Vec<_> = answers.iter().filter(|answer| answer.0 != 200).collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    let (status, wait, why) = refused[0];
    assert_eq!((*status, wait.as_deref()), (503, Some("2")), "{why}");
    assert!(why.contains("the writer is behind"), "{why}");
    // It comes again, and nothing is lost.
    for body in &bodies {
        assert_eq!(taken(&server, body), (u64::from(EVENTS), 0));
    }
    let count = "SELECT (SELECT COUNT(*) FROM flows) + (SELECT COUNT(*) FROM open_flows) AS number";
    let stored: Count = diesel::sql_query(count).get_result(&mut other).unwrap();
    assert_eq!(stored.number, 4 * i64::from(EVENTS));
}
