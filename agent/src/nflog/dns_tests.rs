use netmon_proto::v1::{DnsAnswer, Event, event::Kind};
use proptest::prelude::*;

use super::{Reading, Unreported, read_message, report_datagram, tests::datagrams};
use crate::dump;

/// Recorded by `examples/nflog_capture.rs` of dnsmasq 2.90 on Linux 6.18, x86-64.
const RECORDING: &[u8] = include_bytes!("../../testdata/dns.bin");

const QR: u8 = 0x80;
const TC: u8 = 0x02;
const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const OPT: u16 = 41;

/// A message with one question of type A for this name in wire format, and these records.
fn message(flags: u8, rcode: u8, name: &[u8], answers: &[Vec<u8>], additional: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0, 7, flags, rcode, 0, 1];
    bytes.extend_from_slice(&(answers.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&(additional.len() as u16).to_be_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&[0, 1, 0, 1]);
    bytes.extend(answers.iter().chain(additional).flatten());
    bytes
}

/// A record with a TTL of 60 seconds.
fn record(name: &[u8], record_type: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend_from_slice(&record_type.to_be_bytes());
    bytes.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Points to the question's name.
const QUESTION: [u8; 2] = [0xc0, 12];

fn read(bytes: &[u8]) -> Reading {
    read_message(bytes).expect("a response")
}

fn data(answer: &DnsAnswer) -> String {
    if answer.address.is_empty() { answer.text.clone() } else { format!("{:?}", &answer.address[..]) }
}

#[cfg(target_endian = "little")]
#[test]
fn answers_of_a_real_dnsmasq() {
    let events = datagrams(RECORDING).into_iter().flat_map(|datagram| report_datagram(datagram, true));
    let lines: String = events.map(|event| dump::json(&event).to_string() + "\n").collect();
    insta::assert_snapshot!(lines);
}

#[test]
fn a_chain_is_kept_in_order() {
    let chain = message(
        QR,
        0,
        b"\x01A\x04Test\0",
        &[record(&QUESTION, CNAME, b"\x01b\xc0\x0e"), record(b"\x01b\xc0\x0e", A, &[192, 0, 2, 1])],
        &[],
    );
    let response = read(&chain).response;
    assert_eq!((response.name.as_str(), response.r#type, response.rcode), ("a.test", 1, 0));
    let answers: Vec<_> =
        response.answers.iter().map(|answer| (answer.name.as_str(), answer.ttl_s, data(answer))).collect();
    assert_eq!(
        answers,
        [("a.test", Some(60), "b.test".to_owned()), ("b.test", Some(60), "[192, 0, 2, 1]".to_owned())]
    );
}

#[test]
fn what_is_no_response_is_told_apart() {
    let name = b"\x01a\0";
    let check = |bytes: &[u8], expected| assert_eq!(read_message(bytes), Err(expected), "{bytes:?}");
    check(&message(0, 0, name, &[], &[]), Unreported::NotAResponse);
    check(&message(QR | 0x28, 0, name, &[], &[]), Unreported::NotAResponse);
    check(&message(QR | TC, 0, name, &[], &[]), Unreported::Truncated);
    check(&message(QR, 0, name, &[], &[])[..11], Unreported::Malformed);
    check(&message(QR, 0, name, &[], &[])[..14], Unreported::Malformed);
    let mut of_the_server = message(QR, 0, name, &[], &[]);
    of_the_server[18] = 3;
    check(&of_the_server, Unreported::NotAResponse);
    for questions in [0, 2] {
        let mut other = message(QR, 0, name, &[], &[]);
        other[5] = questions;
        check(&other, Unreported::Malformed);
    }
}

#[test]
fn loops_and_lies_end() {
    let malformed = |bytes: &[u8]| assert_eq!(read_message(bytes), Err(Unreported::Malformed), "{bytes:?}");
    malformed(&message(QR, 0, &[0xc0, 12], &[], &[]));
    malformed(&message(QR, 0, &[0xc0, 14, 0xc0, 12], &[], &[]));
    malformed(&message(QR, 0, &[1, b'a', 0xc0, 12], &[], &[]));
    malformed(&message(QR, 0, &[0xc0, 0xff], &[], &[]));
    malformed(&message(QR, 0, &[0x40, 0], &[], &[]));
    // An address of three bytes, a name that goes beyond its record, records that are not there.
    malformed(&message(QR, 0, b"\x01a\0", &[record(&QUESTION, A, &[1, 2, 3])], &[]));
    malformed(&message(QR, 0, b"\x01a\0", &[record(&QUESTION, CNAME, &[9, b'b'])], &[]));
    let mut missing = message(QR, 0, b"\x01a\0", &[record(&QUESTION, A, &[1, 2, 3, 4])], &[]);
    missing[7] = 2;
    malformed(&missing);
    let mut long = vec![63; 64];
    long = [long.clone(), long.clone(), long.clone(), long, vec![0]].concat();
    malformed(&message(QR, 0, &long, &[], &[]));
}

#[test]
fn extended_codes_are_put_together() {
    // OPT's TTL begins with the upper eight bits of the code: 1 << 4 | 0 is BADVERS.
    let mut opt = record(&[0], OPT, &[]);
    opt[5] = 1;
    assert_eq!(read(&message(QR, 0, b"\x01a\0", &[], &[opt])).response.rcode, 16);
    // A broken OPT costs the extension, not the answer.
    let broken = message(QR, 3, b"\x01a\0", &[], &[vec![0, 0, 41, 4]]);
    assert_eq!(read(&broken).response.rcode, 3);
}

#[test]
fn names_are_written_as_the_protocol_says() {
    let check = |name: &[u8], expected: &str| {
        assert_eq!(read(&message(QR, 0, name, &[], &[])).response.name, expected);
    };
    check(b"\0", ".");
    check(b"\x03WWW\x07Example\0", "www.example");
    check(b"\x06a.\\ \x7f<\0", "a\\046\\092\\032\\127<");
    // 4 * 63 bytes of rubbish: the last labels stay.
    let binary = [vec![60; 1], vec![0xff; 60]].concat();
    let name = [binary.clone(), binary, b"\x06tunnel\x07example\0".to_vec()].concat();
    let text = read(&message(QR, 0, &name, &[], &[])).response.name;
    assert_eq!(text, "tunnel.example");
    let short = [&[60][..], &[0xff; 60], b"\x02to\0"].concat();
    let text = read(&message(QR, 0, &short, &[], &[])).response.name;
    assert!(text.len() == 243 && text.ends_with("\\255.to"), "{text}");
}

#[test]
fn what_is_long_is_bounded() {
    let many: Vec<Vec<u8>> = (0..2000).map(|_| record(&QUESTION, A, &[192, 0, 2, 1])).collect();
    let reading = read(&message(QR, 0, b"\x01a\0", &many, &[]));
    assert_eq!((reading.response.answers.len(), reading.records_left_out), (64, 1936));
    let string = [&[200][..], &[0xff; 200]].concat();
    let text = record(&QUESTION, TXT, &string.repeat(20));
    let reading = read(&message(QR, 0, b"\x01a\0", &[text], &[]));
    assert!(reading.response.answers[0].text.len() <= 255);
    assert!(reading.response.answers[0].text.starts_with("\\255\\255"));
    let unknown = record(&QUESTION, 65_280, &[7; 5000]);
    let reading = read(&message(QR, 0, b"\x01a\0", &[unknown], &[]));
    assert!((200..=255).contains(&reading.response.answers[0].text.len()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Cut off, flipped or made up: never a panic, and nothing that the protocol does not permit.
    #[test]
    fn no_bytes_make_it_panic(which in 0..16_usize, cut in 0..700_usize, flips in prop::collection::vec((0..700_usize, any::<u8>()), 0..8), noise in prop::collection::vec(any::<u8>(), 0..120)) {
        let recorded = datagrams(RECORDING);
        let mut datagram = recorded[which % recorded.len()].to_vec();
        datagram.truncate(cut);
        for (place, bits) in flips {
            if let Some(byte) = datagram.get_mut(place) {
                *byte ^= bits;
            }
        }
        for Event { kind, .. } in report_datagram(&datagram, true) {
            let Some(Kind::DnsResponse(response)) = kind else { continue };
            prop_assert!(matches!(response.client_ip.len(), 4 | 16));
            prop_assert!(!response.name.is_empty() && response.name.len() <= 253);
            prop_assert!(response.answers.iter().all(|answer| answer.name.len() <= 253 && answer.text.len() <= 255));
        }
        let _ = read_message(&noise);
    }
}
