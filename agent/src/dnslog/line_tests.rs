//! The lines that dnsmasq writes, and those that others write.

use super::*;

fn check(line: &str, expected: &str) {
    let found = match parse_line(line.as_bytes()) {
        Ok(Parsed::Question(line)) => {
            let who = line.client.map(|(client, port)| format!(" {client} {port}")).unwrap_or_default();
            let serial = line.serial.map(|serial| format!(" #{serial}{who}")).unwrap_or_default();
            format!("{}{serial} {}", line.pid, words(line.what))
        }
        other => format!("{other:?}"),
    };
    assert_eq!(found, expected, "{line}");
}

fn words(what: What<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match what {
        What::Query { rr_type, name, client } => format!("query {rr_type} {} {client}", text(name)),
        What::Forwarded { name, server } => format!("forwarded {} {server:?}", text(name)),
        What::Answer { source, name, data: Data::Text(data) } => {
            format!("{source:?} {} text {}", text(name), text(data))
        }
        What::Answer { source, name, data } => format!("{source:?} {} {data:?}", text(name)),
        What::Bogus { name } => format!("bogus {}", text(name)),
        other => format!("{other:?}"),
    }
}

const ASKED: &str = "12 query 28 a.test 192.168.1.20";

#[test]
fn the_header_of_every_log_is_understood() {
    for header in [
        "",
        "Nov 24 21:00:00 ",
        "Nov  4 21:00:00 ",
        "Nov 24 21:00:00 router ",
        "Nov 24 21:00:00 dnsmasq ",
        "Nov 24 21:00:00 router daemon.info ",
        "<30>Nov 24 21:00:00 ",
        "2026-11-24T21:00:00+01:00 router ",
        "2026-11-24T21:00:00.123456Z router ",
        "Tue Nov 24 21:00:00 2026 daemon.info ",
        "Tue Nov 24 21:00:00 2026 [1795554000.123] daemon.info ",
    ] {
        check(&format!("{header}dnsmasq[12]: query[AAAA] a.test from 192.168.1.20"), ASKED);
    }
    check("dnsmasq: query[A] a.test from ::1\r", "0 query 1 a.test ::1");
    let repeated = "Nov 24 21:00:00 router dnsmasq[12]: message repeated 2 times: [ query[AAAA] a.test from 192.168.1.20]";
    check(repeated, ASKED);
}

#[test]
fn what_others_write_is_not_dnsmasqs() {
    for line in [
        "Nov 24 21:00:00 router nginx: dnsmasq[12]: query[AAAA] a.test from 192.168.1.20",
        "Nov 24 21:00:00 router dnsmasqx[12]: query[AAAA] a.test from 192.168.1.20",
        "Nov 24 21:00:00 router last message repeated 2 times",
        "one two three four five six seven eight nine ten eleven: twelve",
        "",
    ] {
        check(line, "Ok(Foreign)");
    }
    for line in [
        "dnsmasq-dhcp[12]: DHCPACK(br-lan) 192.168.1.20 02:00:00:00:00:01 laptop",
        "dnsmasq[12]: started, version 2.90 cachesize 150",
        "dnsmasq[12]: read /etc/hosts - 8 names",
        "dnsmasq[12]: using nameserver 192.0.2.1#53",
        "dnsmasq[12]: 4 dnssec-query[DS] test to 192.0.2.1",
        "dnsmasq[12]: 4 reply test is DS for keytag 1, algo 8, digest 2",
        "dnsmasq[12]: validation a.test is INSECURE",
        "dnsmasq[12]: nftset add 4#inet#fw4#x 192.0.2.1 a.test",
    ] {
        check(line, "Ok(Remark)");
    }
    for line in [
        "\u{1}\u{2}binary",
        "dnsmasq[12]: query[A] a.test from nowhere",
        "dnsmasq[12]: query[BOTH] a.test from 192.168.1.20",
        "dnsmasq[12]: reply a.test",
        "dnsmasq[12]: reply error is strange",
        "dnsmasq[12]: cached is 192.0.2.1",
    ] {
        check(line, "Err(Unreadable)");
    }
}

#[test]
fn every_kind_of_word_is_understood() {
    let whole = check;
    let check = |message: &str, expected: &str| {
        whole(&format!("dnsmasq[12]: {message}"), &format!("12 {expected}"));
        let extra = format!("dnsmasq[12]: 7 fe80::1%br-lan/5353 {message}");
        whole(&extra, &format!("12 #7 fe80::1 5353 {expected}"));
    };
    check("query[type=4711] A.Test from fe80::1", "query 4711 A.Test fe80::1");
    check("query[A] a from b from 192.0.2.1", "query 1 a from b 192.0.2.1");
    check("auth[SOA] a.test from 192.0.2.1", "query 6 a.test 192.0.2.1");
    check("forwarded a.test to 192.0.2.1#5353", "forwarded a.test Some(192.0.2.1)");
    check("reply a.test is 192.0.2.1", "Reply a.test Address(192.0.2.1)");
    check("reply a is b.test is 192.0.2.1", "Reply a is b.test Address(192.0.2.1)");
    check("reply a.test is 192.0.2.1 (DNSSEC signed)", "Reply a.test Address(192.0.2.1)");
    check("reply a.test is v=spf1 is -all", "Reply a.test text v=spf1 is -all");
    check("reply 192.0.2.1 is a.test", "Reply 192.0.2.1 text a.test");
    check("cached a.test is <CNAME>", "Cached a.test Cname");
    check("cached-stale a.test is 2001:db8::1", "Stale a.test Address(2001:db8::1)");
    check("config a.test is NODATA-IPv6", "Local a.test NoData(28)");
    check("config a.test is NODATA", "Local a.test NoData(0)");
    check("DHCP laptop.lan is 192.168.1.20", "Local laptop.lan Address(192.168.1.20)");
    check("/etc/my hosts a.test is ::1", "Local a.test Address(::1)");
    check("reply a.test is <type=4711>", "Reply a.test Type(4711)");
    check("reply a.test is NXDOMAIN", "Reply a.test NxDomain");
    check("reply error is SERVFAIL (EDE: network error)", "Failed { source: Reply, rcode: 2 }");
    check("config error is REFUSED (EDE: not ready)", "Failed { source: Local, rcode: 5 }");
    check("reply error is not implemented", "Failed { source: Reply, rcode: 4 }");
    check("reply is truncated", "Truncated");
    check("reply query is duplicate", "Duplicate");
    check("validation a.test is BOGUS (EDE: DNSKEY missing)", "bogus a.test");
    check("overflow: 3 log entries lost", "Lost(3)");
}
