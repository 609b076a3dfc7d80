//! Mnemonics of DNS, from the registries of IANA ("DNS Parameters").

use std::borrow::Cow;

const TYPES: [(u32, &str); 25] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (39, "DNAME"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
];

const RCODES: [(u32, &str); 11] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
];

/// Of an RR type; one without a name here is written as in RFC 3597.
pub(crate) fn type_name(number: u32) -> Cow<'static, str> {
    look_up(&TYPES, number).unwrap_or_else(|| format!("TYPE{number}").into())
}

/// Of a response code.
pub(crate) fn rcode_name(number: u32) -> Cow<'static, str> {
    look_up(&RCODES, number).unwrap_or_else(|| format!("RCODE{number}").into())
}

fn look_up(list: &[(u32, &'static str)], number: u32) -> Option<Cow<'static, str>> {
    list.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names() {
        let types: Vec<_> = [1, 28, 65, 65_280].into_iter().map(type_name).collect();
        assert_eq!(types, ["A", "AAAA", "HTTPS", "TYPE65280"]);
        let rcodes: Vec<_> = [0, 3, 23].into_iter().map(rcode_name).collect();
        assert_eq!(rcodes, ["NOERROR", "NXDOMAIN", "RCODE23"]);
    }
}
