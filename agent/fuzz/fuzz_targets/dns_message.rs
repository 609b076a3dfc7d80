//! Any bytes, read as a DNS message: no panic, an end, and a response that the server can take.
//!
//! Seeds: `fuzz/seeds/dns_message`, recorded by `examples/nflog_capture.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_agent::nflog::read_message;

fuzz_target!(|data: &[u8]| {
    let Ok(reading) = read_message(data) else { return };
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
    let response = reading.response;
    assert!((1..=253).contains(&response.name.len()) && plain(&response.name));
    assert!(response.r#type <= 65_535 && response.rcode <= 4095);
    for answer in response.answers {
        assert!((1..=253).contains(&answer.name.len()) && plain(&answer.name));
        assert!(matches!(answer.address.len(), 0 | 4 | 16) && answer.text.len() <= 255);
        assert!(answer.text.is_empty() || answer.address.is_empty());
    }
});
