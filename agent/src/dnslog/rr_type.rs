//! The names of RR types, as dnsmasq writes them.

/// An IPv4 address.
pub(crate) const A: u16 = 1;
/// Another name for it.
pub(crate) const CNAME: u16 = 5;
/// The name of an address.
pub(crate) const PTR: u16 = 12;
/// Text.
pub(crate) const TXT: u16 = 16;
/// An IPv6 address.
pub(crate) const AAAA: u16 = 28;
/// The signature of a record.
pub(crate) const RRSIG: u16 = 46;
/// All types at once, of a question.
pub(crate) const ANY: u16 = 255;

/// From the registry of the IANA, "Domain Name System (DNS) Parameters", by their numbers.
#[rustfmt::skip]
const NAMES: &[(u16, &str)] = &[
    (1, "A"), (2, "NS"), (3, "MD"), (4, "MF"), (5, "CNAME"), (6, "SOA"), (7, "MB"), (8, "MG"), (9,
    "MR"), (10, "NULL"), (11, "WKS"), (12, "PTR"), (13, "HINFO"), (14, "MINFO"), (15, "MX"), (16,
    "TXT"), (17, "RP"), (18, "AFSDB"), (19, "X25"), (20, "ISDN"), (21, "RT"), (22, "NSAP"), (23,
    "NSAP_PTR"), (24, "SIG"), (25, "KEY"), (26, "PX"), (27, "GPOS"), (28, "AAAA"), (29, "LOC"), (30,
    "NXT"), (31, "EID"), (32, "NIMLOC"), (33, "SRV"), (34, "ATMA"), (35, "NAPTR"), (36, "KX"), (37,
    "CERT"), (38, "A6"), (39, "DNAME"), (40, "SINK"), (41, "OPT"), (42, "APL"), (43, "DS"), (44,
    "SSHFP"), (45, "IPSECKEY"), (46, "RRSIG"), (47, "NSEC"), (48, "DNSKEY"), (49, "DHCID"), (50,
    "NSEC3"), (51, "NSEC3PARAM"), (52, "TLSA"), (53, "SMIMEA"), (55, "HIP"), (56, "NINFO"), (57,
    "RKEY"), (58, "TALINK"), (59, "CDS"), (60, "CDNSKEY"), (61, "OPENPGPKEY"), (62, "CSYNC"), (63,
    "ZONEMD"), (64, "SVCB"), (65, "HTTPS"), (99, "SPF"), (100, "UINFO"), (101, "UID"), (102, "GID"),
    (103, "UNSPEC"), (104, "NID"), (105, "L32"), (106, "L64"), (107, "LP"), (108, "EUI48"), (109,
    "EUI64"), (249, "TKEY"), (250, "TSIG"), (251, "IXFR"), (252, "AXFR"), (253, "MAILB"), (254,
    "MAILA"), (255, "ANY"), (256, "URI"), (257, "CAA"), (258, "AVC"), (259, "DOA"), (260, "AMTRELAY"),
    (261, "RESINFO"), (32768, "TA"), (32769, "DLV"),
];

/// `AAAA`, or `type=4711` for a type without a name.
pub(crate) fn number(name: &[u8]) -> Option<u16> {
    if let Some(digits) = name.strip_prefix(b"type=") {
        return std::str::from_utf8(digits).ok()?.parse().ok();
    }
    NAMES.iter().find(|(_, known)| known.as_bytes() == name).map(|(number, _)| *number)
}
