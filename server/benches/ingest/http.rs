//! The original agent's batches over HTTP.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use netmon_server::ingest::read_batch;

use crate::now_us;
use crate::server::{Server, TOKEN};

pub(crate) const BATCH: u64 = 250;
pub(crate) const CONNECTIONS: u64 = 4;

/// Half a batch of new flows, and the ends of those of the batch before. Thirty devices, a few thousand hosts.
pub(crate) fn body(connection: u64, batch: u64) -> String {
    let mut body =
        format!("{{\"router_id\":\"bench-{connection}\",\"sent_at\":\"2026-01-01T00:00:00Z\",\"events\":[");
    let half = BATCH / 2;
    let ended = batch
        .checked_sub(1)
        .into_iter()
        .flat_map(|of| (0..half).map(move |place| (of, place, "EventDestroy")));
    let began = (0..half).map(|place| (batch, place, "EventNew"));
    let now = now_us();
    let (second, micros) = (now / 1_000_000, now % 1_000_000);
    // Within one hour of the epoch's day the clock's digits are arithmetic.
    let of_day = second % 86_400;
    let date = date(second / 86_400);
    let time = format!("{date}T{:02}:{:02}:{:02}.{micros:06}Z", of_day / 3600, of_day / 60 % 60, of_day % 60);
    let ports = [443, 443, 443, 53, 80, 123, 8080, 22, 5228, 993, 3478, 8443];
    for (place, (of, which, event)) in ended.chain(began).enumerate() {
        let number = of * half + which;
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let end = event == "EventDestroy";
        let (up, down) = if end { (1500 + mixed % 9000, 9000 + mixed % 90_000) } else { (0, 0) };
        write!(
            body,
            "{}{{\"type\":\"flow\",\"ts\":\"{time}\",\"data\":{{\"event\":\"{event}\",\"state\":\"ESTABLISHED\",\
             \"flags\":\"SEEN_REPLY|ASSURED|CONFIRMED\",\"src_ip\":\"192.168.1.{}\",\"dst_ip\":\"203.0.{}.{}\",\
             \"src_port\":{},\"dst_port\":{},\"l4proto\":6,\"dir\":\"OUT\",\"bytes_orig\":{up},\"bytes_reply\":{down},\
             \"packets_orig\":12,\"packets_reply\":30,\"first_seen\":\"{time}\",\"last_seen\":\"{time}\"}}}}",
            if place == 0 { "" } else { "," },
            mixed % 30,
            (mixed >> 5) % 12,
            (mixed >> 9) % 256,
            1024 + number % 60_000,
            ports[(mixed % 12) as usize],
        )
        .expect("room");
    }
    body.push_str("]}");
    body
}

/// Civil date of a day since 1970 (Howard Hinnant's days_from_civil, the other way round).
fn date(day: i64) -> String {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Posts for `time`, at `rate` events per second if given; gives events that were accepted and times of replies.
fn post(url: &str, connection: u64, time: Duration, rate: Option<f64>) -> (u64, Vec<Duration>) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    if let Some(rate) = rate {
        // Routers do not post in step.
        let period = Duration::from_secs_f64(BATCH as f64 / rate);
        std::thread::sleep(period.mul_f64(connection as f64 / CONNECTIONS as f64));
    }
    let began = Instant::now();
    let (mut batches, mut accepted, mut took) = (0, 0, Vec::new());
    while began.elapsed() < time {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64((batches * BATCH) as f64 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let body = body(connection, batches);
        let sent = Instant::now();
        let mut answer = agent
            .post(url)
            .header("authorization", &format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .send(body)
            .expect("an answer");
        took.push(sent.elapsed());
        let text = answer.body_mut().read_to_string().expect("a body");
        assert_eq!(answer.status(), 200, "{text}");
        assert!(text.contains("\"rejected\":0"), "{text}");
        accepted += if batches == 0 { BATCH / 2 } else { BATCH };
        batches += 1;
    }
    (accepted, took)
}

pub(crate) fn run(server: &Server, time: Duration, rate: Option<f64>) -> (u64, Vec<Duration>) {
    let url = format!("{}/api/v1/netmon/events/batch", server.url);
    let mut all = (0, Vec::new());
    std::thread::scope(|scope| {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let url = &url;
                scope.spawn(move || post(url, connection, time, rate.map(|rate| rate / CONNECTIONS as f64)))
            })
            .collect();
        for connection in connections {
            let (accepted, took) = connection.join().expect("a connection ends well");
            all.0 += accepted;
            all.1.extend(took);
        }
    });
    all.1.sort_unstable();
    all
}

/// Microseconds per event to read the same batches and nothing else, on one core.
pub(crate) fn reading_us() -> f64 {
    let bodies: Vec<String> = (1..201).map(|batch| body(0, batch)).collect();
    let began = Instant::now();
    let events: usize = bodies
        .iter()
        .map(|body| read_batch(body.as_bytes(), now_us(), false).expect("a batch").events.len())
        .sum();
    began.elapsed().as_secs_f64() * 1e6 / events as f64
}
