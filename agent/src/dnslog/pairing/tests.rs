//! Against logs that dnsmasq 2.90 wrote.

use std::{collections::BTreeSet, net::IpAddr};

use netmon_proto::v1::DnsResponse;

use super::{
    super::line::{Parsed, parse_line},
    *,
};

const PLAIN: &[u8] = include_bytes!("../../../testdata/dnsmasq/plain.log");
const EXTRA: &[u8] = include_bytes!("../../../testdata/dnsmasq/extra.log");
const STALE: [&[u8]; 2] = [
    include_bytes!("../../../testdata/dnsmasq/stale-plain.log"),
    include_bytes!("../../../testdata/dnsmasq/stale-extra.log"),
];
const DNSSEC: [&[u8]; 2] = [
    include_bytes!("../../../testdata/dnsmasq/dnssec-plain.log"),
    include_bytes!("../../../testdata/dnsmasq/dnssec-extra.log"),
];

/// All answers of a log. The clock goes by the lines' own seconds.
fn pair(log: &[u8]) -> (Vec<DnsResponse>, PairingStats) {
    let (mut pairing, mut out) = (Pairing::default(), Vec::new());
    let mut now_ms = 0;
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = String::from_utf8_lossy(line);
        let second = text
            .get(7..15)
            .map(|time| time.split(':').fold(0_u64, |sum, part| sum * 60 + part.parse::<u64>().unwrap_or(0)));
        let then = second.map_or(now_ms, |second| second * 1000);
        if then > now_ms {
            // What is quiet for a second is over.
            pairing.tick(then - 1, &mut out);
            now_ms = then;
        }
        match parse_line(line).unwrap_or_else(|error| panic!("{error}: {text}")) {
            Parsed::Question(line) => pairing.take(&line, now_ms, &mut out),
            Parsed::Remark => {}
            Parsed::Foreign => panic!("not dnsmasq's: {text}"),
        }
    }
    pairing.tick(now_ms + 60_000, &mut out);
    assert_eq!(pairing.deadline_ms(), None);
    (out, *pairing.stats())
}

fn address(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_or_else(|_| "-".to_owned(), |address| address.to_string())
}

fn text(response: &DnsResponse, with_source: bool) -> String {
    let mut text = format!(
        "{} {} {} rcode {}",
        address(&response.client_ip),
        response.name,
        response.r#type,
        response.rcode
    );
    if with_source {
        text.push_str(if response.cached { " cached" } else { " by " });
        if !response.cached {
            text.push_str(&address(&response.resolver_ip));
        }
    }
    let mut records: Vec<String> = response
        .answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.ttl_s, None, "a log tells no time to live");
            let data = if answer.address.is_empty() { answer.text.clone() } else { address(&answer.address) };
            format!(" {} {} {data};", answer.name, answer.r#type)
        })
        .collect();
    // A cache turns them round.
    records.sort();
    text.extend(records);
    text
}

fn texts(responses: &[DnsResponse], with_source: bool) -> BTreeSet<String> {
    responses.iter().map(|response| text(response, with_source)).collect()
}

fn lines(responses: &[DnsResponse]) -> String {
    texts(responses, true).iter().fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_same_questions_have_the_same_answers_in_both_formats() {
    let ((plain, of_plain), (extra, of_extra)) = (pair(PLAIN), pair(EXTRA));
    assert_eq!(texts(&plain, false), texts(&extra, false));
    assert_eq!(lines(&plain), include_str!("../../../testdata/dnsmasq/answers.txt"));
    let questions =
        |stats: PairingStats| (stats.questions, stats.unanswered, stats.truncated, stats.bad_names);
    assert_eq!(questions(of_plain), questions(of_extra));
    for stats in [of_plain, of_extra] {
        let ended = stats.answered + stats.unanswered + stats.repeated + stats.truncated;
        assert_eq!(stats.questions, ended, "{stats:?}");
    }
}

#[test]
fn stale_answers_and_those_that_are_not_genuine_are_told_once() {
    let check = |[plain, extra]: [&[u8]; 2], expected: &str| {
        let ((plain, stats), (extra, _)) = (pair(plain), pair(extra));
        // Which of two resolvers was faster is another matter.
        assert_eq!(texts(&plain, false), texts(&extra, false));
        assert_eq!(lines(&plain), expected);
        assert_eq!((stats.answered, stats.unpaired), (plain.len() as u64, 0));
    };
    check(STALE, include_str!("../../../testdata/dnsmasq/stale-answers.txt"));
    check(DNSSEC, include_str!("../../../testdata/dnsmasq/dnssec-answers.txt"));
}

/// Answers and counts of lines that are told one after the other at these times.
fn story(lines: &[(u64, &str)]) -> (Vec<String>, PairingStats) {
    let (mut pairing, mut out) = (Pairing::default(), Vec::new());
    for (now_ms, line) in lines {
        pairing.tick(*now_ms, &mut out);
        match parse_line(format!("dnsmasq[1]: {line}").as_bytes()) {
            Ok(Parsed::Question(line)) => pairing.take(&line, *now_ms, &mut out),
            _ => pairing.cut(),
        }
    }
    let last = lines.last().map_or(0, |(now_ms, _)| *now_ms);
    pairing.tick(last + 30_000, &mut out);
    (out.iter().map(|response| text(response, false)).collect(), *pairing.stats())
}

#[test]
fn an_error_without_a_name_goes_to_the_question_that_is_left() {
    let (told, stats) = story(&[
        (0, "query[A] a.test from 10.0.0.1"),
        (0, "forwarded a.test to 192.0.2.1"),
        (0, "query[A] b.test from 10.0.0.1"),
        (0, "forwarded b.test to 192.0.2.1"),
        (10, "reply error is SERVFAIL"),
        (20, "query[A] c.test from 10.0.0.1"),
        (20, "forwarded c.test to 192.0.2.1"),
        (30, "reply b.test is 192.0.2.2"),
        (40, "reply c.test is 192.0.2.3"),
    ]);
    let expected = [
        "10.0.0.1 b.test 1 rcode 0 b.test 1 192.0.2.2;",
        "10.0.0.1 a.test 1 rcode 2",
        "10.0.0.1 c.test 1 rcode 0 c.test 1 192.0.2.3;",
    ];
    assert_eq!((told.as_slice(), stats.unanswered), (&expected.map(str::to_owned)[..], 0));
    // One that is never answered does not make all that follow wrong.
    let (told, stats) = story(&[
        (0, "query[A] never.test from 10.0.0.1"),
        (0, "forwarded never.test to 192.0.2.1"),
        (1000, "query[A] a.test from 10.0.0.1"),
        (1000, "forwarded a.test to 192.0.2.1"),
        (1001, "reply error is SERVFAIL"),
        (2000, "query[A] b.test from 10.0.0.1"),
        (2000, "forwarded b.test to 192.0.2.1"),
        (2001, "reply error is REFUSED"),
    ]);
    let expected = ["10.0.0.1 a.test 1 rcode 2", "10.0.0.1 b.test 1 rcode 5"].map(str::to_owned);
    assert_eq!((told.as_slice(), stats.unanswered, stats.unpaired), (&expected[..], 1, 0));
}

#[test]
fn text_that_reads_like_an_address_is_text() {
    let lines = ["reply a.test is v=spf1", "reply a.test is 10.0.0.1"];
    let expected = ["10.0.0.1 a.test 16 rcode 0 a.test 16 10.0.0.1; a.test 16 v=spf1;".to_owned()];
    let ask = [(0, "query[TXT] a.test from 10.0.0.1"), (0, "forwarded a.test to 192.0.2.1")];
    for order in [[0, 1], [1, 0]] {
        let story_of = [ask[0], ask[1], (1, lines[order[0]]), (1, lines[order[1]])];
        assert_eq!(story(&story_of).0, expected);
    }
    let numbered = [
        (0, "1 10.0.0.1/5 query[TXT] a.test from 10.0.0.1"),
        (1, "1 10.0.0.1/5 reply a.test is 10.0.0.1"),
        (1, "1 10.0.0.1/5 reply a.test is v=spf1"),
    ];
    assert_eq!(story(&numbered).0, expected);
}

#[test]
fn a_chain_that_the_cache_knows_in_part_waits_for_the_rest() {
    let lines = |first: &'static str, second: &'static str| {
        let lines = [
            (first, "query[A] a.test from 10.0.0.1"),
            (first, "cached a.test is <CNAME>"),
            (first, "forwarded a.test to 192.0.2.1"),
            (second, "query[A] a.test from 10.0.0.2"),
            (second, "cached a.test is <CNAME>"),
            (first, "reply a.test is <CNAME>"),
            (first, "reply b.test is 192.0.2.9"),
        ];
        lines.map(|(number, line)| (0, format!("{number}{line}")))
    };
    let expected = ["10.0.0.1", "10.0.0.2"]
        .map(|client| format!("{client} a.test 1 rcode 0 a.test 5 b.test; b.test 1 192.0.2.9;"));
    for lines in [lines("", ""), lines("1 10.0.0.1/5 ", "2 10.0.0.2/5 ")] {
        let lines: Vec<(u64, &str)> = lines.iter().map(|(now_ms, line)| (*now_ms, line.as_str())).collect();
        assert_eq!(story(&lines).0, expected);
    }
}

#[test]
fn an_answer_that_never_comes_is_counted_and_not_told() {
    let (told, stats) = story(&[
        (0, "query[A] a.test from 10.0.0.1"),
        (0, "forwarded a.test to 192.0.2.1"),
        (19_999, "query[A] a.test from 10.0.0.2"),
        (20_001, "reply b.test is 192.0.2.1"),
    ]);
    assert_eq!(told, [""; 0]);
    assert_eq!((stats.questions, stats.unanswered, stats.answered, stats.unpaired), (2, 2, 0, 1));
}

#[test]
fn what_a_cut_lost_is_counted_by_the_numbers() {
    let query = |serial: u32| format!("{serial} 10.0.0.1/5 query[A] a{serial}.test from 10.0.0.1");
    let lost = |serials: &[u32], cut_before: u32| {
        let lines: Vec<String> = serials.iter().map(|serial| query(*serial)).collect();
        let mut lines: Vec<(u64, &str)> = lines.iter().map(|line| (0, line.as_str())).collect();
        let place = serials.iter().position(|serial| *serial == cut_before).expect("one of them");
        lines.insert(place, (0, "the log was cut here"));
        story(&lines).1.lost
    };
    assert_eq!(lost(&[1, 2, 6, 7], 6), 3);
    assert_eq!(lost(&[1, 2, 3], 3), 0);
    assert_eq!(lost(&[1, 2, 9], 2), 0, "only where it was cut");
    // One TCP connection takes a hundred.
    assert_eq!(lost(&[1, 2, 105], 105), 2);
    assert_eq!(lost(&[50, 1], 1), 0, "dnsmasq began anew");
    let (_, stats) = story(&[(0, "overflow: 12 log entries lost")]);
    assert_eq!(stats.lost, 12);
}

#[test]
fn what_is_kept_is_bounded() {
    let (mut pairing, mut out) = (Pairing::default(), Vec::new());
    for number in 0..100_000_u32 {
        let pid = number % 100;
        for line in [
            format!("dnsmasq[{pid}]: query[A] a{number}.test from 10.0.0.1"),
            format!("dnsmasq[{pid}]: forwarded a{number}.test to 192.0.2.1"),
            format!("dnsmasq[{pid}]: reply error is SERVFAIL"),
            format!("dnsmasq[{pid}]: reply b{number}.test is 192.0.2.1"),
        ] {
            let Ok(Parsed::Question(line)) = parse_line(line.as_bytes()) else { panic!("{line}") };
            pairing.take(&line, 0, &mut out);
        }
        assert!(pairing.waiting.len() <= MOST_WAITING && pairing.open.len() <= MOST_OPEN);
        assert!(pairing.loose.len() <= MOST_LOOSE);
    }
    let mut open = Pairing::default();
    let Ok(Parsed::Question(query)) = parse_line(b"dnsmasq[1]: query[A] a.test from 10.0.0.1") else {
        panic!()
    };
    open.take(&query, 0, &mut out);
    out.clear();
    for last in 0..200 {
        let line = format!("dnsmasq[1]: reply a.test is 192.0.2.{last}");
        let Ok(Parsed::Question(line)) = parse_line(line.as_bytes()) else { panic!("{line}") };
        open.take(&line, 0, &mut out);
    }
    open.finish(&mut out);
    assert_eq!((out[0].answers.len(), open.stats().records_left_out), (MOST_RECORDS, 72));
}
