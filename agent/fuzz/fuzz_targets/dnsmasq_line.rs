//! Any bytes, read as a log of dnsmasq: no panic in the parser or the pairing, every question told at most
//! once, bounded memory, and answers that the server can take.
//!
//! The clock goes on with every line, by as much as its length says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_agent::dnslog::{
    line::{Parsed, parse_line},
    pairing::Pairing,
};

fuzz_target!(|data: &[u8]| {
    let (mut pairing, mut out) = (Pairing::default(), Vec::new());
    let mut now_ms = 0;
    for line in data.split(|byte| *byte == b'\n') {
        now_ms += (line.len() as u64) * 3;
        match parse_line(line) {
            Ok(Parsed::Question(line)) => pairing.take(&line, now_ms, &mut out),
            Ok(Parsed::Foreign) if line.len() % 7 == 0 => pairing.cut(),
            _ => {}
        }
        if pairing.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            pairing.tick(now_ms, &mut out);
            assert!(pairing.deadline_ms().is_none_or(|deadline_ms| deadline_ms > now_ms), "ticks end");
        }
    }
    pairing.tick(now_ms + 10_000, &mut out);
    pairing.tick(now_ms + 100_000, &mut out);
    assert_eq!(pairing.deadline_ms(), None, "nothing is kept for ever");
    let stats = *pairing.stats();
    assert_eq!(stats.answered, out.len() as u64);
    let ended = stats.answered + stats.unanswered + stats.repeated + stats.truncated;
    assert_eq!(stats.questions, ended, "{stats:?}");
    for response in out {
        assert!(
            matches!(response.client_ip.len(), 4 | 16) && matches!(response.resolver_ip.len(), 0 | 4 | 16)
        );
        assert!(name_is_right(&response.name) && response.r#type <= 65_535 && response.rcode < 4096);
        assert!(!response.cached || response.resolver_ip.is_empty());
        assert!(response.answers.len() <= 128);
        for answer in response.answers {
            assert!(name_is_right(&answer.name) && answer.r#type <= 65_535 && answer.ttl_s.is_none());
            assert!(matches!(answer.address.len(), 0 | 4 | 16) && answer.text.len() <= 4 * 255);
            assert!(answer.text.is_ascii());
        }
    }
});

fn name_is_right(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        && (name == "." || !name.ends_with('.'))
}
