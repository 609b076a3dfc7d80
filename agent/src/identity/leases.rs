//! What DHCP servers write down about their leases: dnsmasq's leases file, and odhcpd's state or hosts file.
//!
//! Both forms are told apart line by line, because one path may hold either:
//! - dnsmasq (lease.c): `EXPIRY MAC ADDRESS NAME CLIENT-ID`; then a line `duid ...`, and behind it IPv6 leases,
//!   `EXPIRY IAID ADDRESS NAME DUID`, which know no MAC. `*` stands for nothing, expiry 0 for ever.
//! - odhcpd (statefiles.c): `# INTERFACE DUID-OR-MAC IAID-OR-"ipv4" NAME EXPIRY ID LENGTH ADDRESS/LENGTH...`;
//!   `-` stands for no name, expiry -1 for ever. Its other lines are for hosts(5) and say nothing more.
//!
//! Names come from strangers who ask for a lease, so they are taken only in the form of a host name.

use std::{collections::BTreeMap, net::IpAddr};

/// A hardware address.
pub type Mac = [u8; 6];

/// More leases than this are left out: the largest home network is a /22 or so.
pub const MOST_LEASES: usize = 4096;
/// Longer lines are refused. A name has 253 bytes at most, a DUID 260 as hexadecimal digits.
const MOST_LINE_BYTES: usize = 2048;
/// Of one line of odhcpd.
const MOST_ADDRESSES: usize = 32;
/// An expiry before 2000 is not a time of the wall clock: dnsmasq built for hosts without a clock writes how
/// long the lease lasts.
const EARLIEST_S: i64 = 946_684_800;

/// One address that one client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Not known for IPv6.
    pub mac: Option<Mac>,
    /// What it holds.
    pub address: IpAddr,
    /// As the client calls itself. Empty: it does not, or not in the form of a host name.
    pub name: String,
    /// When the lease ends, in microseconds since 1970. Zero: never, or not known.
    pub until_us: i64,
    /// Where the client is. Empty: not known.
    pub interface: String,
    /// When it was last heard of, which no line tells; see [`carry_over`]. Zero: not known.
    pub heard_us: i64,
}

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// In the order of the file.
    pub list: Vec<Lease>,
    /// Lines in neither form.
    pub malformed: u64,
    /// Names that are no host names.
    pub names_refused: u64,
    /// Leases beyond [`MOST_LEASES`].
    pub left_out: u64,
}

/// Reads a file of either kind.
pub fn parse(text: &[u8]) -> Leases {
    let mut leases = Leases::default();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        let well_formed = line.len() <= MOST_LINE_BYTES
            && std::str::from_utf8(line).is_ok_and(|line| leases.take_line(line).is_some());
        if !well_formed {
            leases.malformed += 1;
        }
    }
    leases
}

impl Leases {
    /// None: the line is malformed.
    fn take_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => Some(()),
            Some("#") => self.take_odhcpd(words),
            // hosts(5), which odhcpd repeats its leases in.
            Some(first) if first.parse::<IpAddr>().is_ok() => Some(()),
            Some("duid") => words.next().map(drop),
            Some(expiry) => self.take_dnsmasq(expiry, words),
        }
    }

    fn take_dnsmasq<'a>(&mut self, expiry: &str, mut words: impl Iterator<Item = &'a str>) -> Option<()> {
        let until_us = micros(expiry.parse().ok()?);
        let (who, address, name) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let mac = match address {
            // Other hardware than Ethernet is written as TYPE-ADDRESS, and may have addresses of another size.
            IpAddr::V4(_) if who.contains('-') => mac_of(who),
            IpAddr::V4(_) => Some(mac_of(who)?),
            IpAddr::V6(_) => None,
        };
        let name = self.name(name, "*");
        self.add(Lease { mac, address, name, until_us, interface: String::new(), heard_us: 0 });
        Some(())
    }

    fn take_odhcpd<'a>(&mut self, mut words: impl Iterator<Item = &'a str>) -> Option<()> {
        let (interface, who, id, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let until_us = micros(words.next()?.parse().ok()?);
        let (_id, _length) = (words.next()?, words.next()?.parse::<u8>().ok()?);
        // IFNAMSIZ is 16, with a zero at the end.
        if interface.len() > 15 {
            return None;
        }
        let mac = if id == "ipv4" { Some(mac_of_digits(who)?) } else { None };
        let name = if name.starts_with("broken\\x20") {
            self.names_refused += 1;
            String::new()
        } else {
            self.name(name, "-")
        };
        for address in words.take(MOST_ADDRESSES) {
            let (address, length) = address.split_once('/')?;
            let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
            // Shorter ones are networks for routers behind the client.
            if length == if address.is_ipv4() { 32 } else { 128 } {
                let (name, interface) = (name.clone(), interface.to_owned());
                self.add(Lease { mac, address, name, until_us, interface, heard_us: 0 });
            }
        }
        Some(())
    }

    fn name(&mut self, name: &str, nothing: &str) -> String {
        if name == nothing {
            return String::new();
        }
        if !is_host_name(name) {
            self.names_refused += 1;
            return String::new();
        }
        name.to_owned()
    }

    fn add(&mut self, lease: Lease) {
        if self.list.len() < MOST_LEASES {
            self.list.push(lease);
        } else {
            self.left_out += 1;
        }
    }
}

/// Two looks at the same files: whose lease is new, or ends at another time than before, was heard of between them.
pub fn carry_over(before: &[Lease], now: &mut [Lease], now_us: i64) {
    let known: BTreeMap<IpAddr, &Lease> = before.iter().map(|lease| (lease.address, lease)).collect();
    for lease in now {
        let same = known
            .get(&lease.address)
            .filter(|known| (known.mac, known.until_us) == (lease.mac, lease.until_us));
        lease.heard_us = same.map_or(now_us, |known| known.heard_us);
    }
}

/// Letters, digits, hyphens and, as devices have them, underscores, in labels of 63 bytes (RFC 1123, 2.1).
pub fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn micros(seconds: i64) -> i64 {
    if seconds < EARLIEST_S { 0 } else { seconds.saturating_mul(1_000_000) }
}

/// `aa:bb:cc:dd:ee:ff`, behind a hardware type or not.
fn mac_of(text: &str) -> Option<Mac> {
    let text = text.rsplit_once('-').map_or(text, |(_, address)| address);
    let mut bytes = text.split(':').map(|pair| byte_of(pair.as_bytes()));
    let mac = [(); 6].map(|()| bytes.next().flatten());
    if bytes.next().is_some() { None } else { all(mac) }
}

/// Twelve digits.
fn mac_of_digits(text: &str) -> Option<Mac> {
    let mut pairs = text.as_bytes().chunks(2).map(byte_of);
    let mac = [(); 6].map(|()| pairs.next().flatten());
    if pairs.next().is_some() { None } else { all(mac) }
}

fn all(bytes: [Option<u8>; 6]) -> Option<Mac> {
    let [a, b, c, d, e, f] = bytes;
    Some([a?, b?, c?, d?, e?, f?])
}

fn byte_of(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0, 0, 0, 0xab, 0x14];

    fn lease(mac: Option<Mac>, address: &str, name: &str, until_s: i64) -> Lease {
        let address = address.parse().expect("an address");
        let (name, until_us) = (name.to_owned(), until_s * 1_000_000);
        Lease { mac, address, name, until_us, interface: String::new(), heard_us: 0 }
    }

    fn check(text: &str, list: &[Lease], malformed: u64, names_refused: u64) {
        let leases = parse(text.as_bytes());
        assert_eq!(
            (&leases.list[..], leases.malformed, leases.names_refused),
            (list, malformed, names_refused)
        );
    }

    #[test]
    fn dnsmasq_writes_both_families_and_a_duid() {
        let text = "1790000000 02:00:00:00:ab:14 192.168.1.20 tv 01:02:00:00:00:ab:14\n\
            0 02:00:00:00:ab:14 192.168.1.21 * *\n\
            43200 06-02:00:00:00:ab:14 192.168.1.22 old-clock *\n\
            0 20-00:01:02:03:04:05:06:07 192.168.1.23 fabric *\n\
            duid 00:01:00:01:2c:3b:1a:9b:02:00:00:00:ab:01\n\
            1790000000 11256099 fd00::20 tv 00:03:00:01:02:00:00:00:ab:14\n\
            1790000001 T11256099 fd00::21 * *\n";
        let list = [
            lease(Some(MAC), "192.168.1.20", "tv", 1_790_000_000),
            lease(Some(MAC), "192.168.1.21", "", 0),
            lease(Some(MAC), "192.168.1.22", "old-clock", 0),
            lease(None, "192.168.1.23", "fabric", 0),
            lease(None, "fd00::20", "tv", 1_790_000_000),
            lease(None, "fd00::21", "", 1_790_000_001),
        ];
        check(text, &list, 0, 0);
    }

    #[test]
    fn odhcpd_writes_interfaces_and_several_addresses() {
        let text = "# br-lan 00030001020000 0000ab14 tv 1790000000 a1b 128 fd00::a1b/128 2001:db8::a1b/128\n\
            # br-lan 00030001020000 ab14 - -1 1 62 2001:db8:0:4::/62\n\
            192.168.1.20\ttv.lan\ttv\n\
            # br-lan 02000000ab14 ipv4 tv 1790000000 c0a80114 32 192.168.1.20/32\n\
            # br-lan 02000000ab14 ipv4 broken\\x20x 0 c0a80115 32\n";
        let at = |lease: Lease| Lease { interface: "br-lan".to_owned(), ..lease };
        let list = [
            at(lease(None, "fd00::a1b", "tv", 1_790_000_000)),
            at(lease(None, "2001:db8::a1b", "tv", 1_790_000_000)),
            at(lease(Some(MAC), "192.168.1.20", "tv", 1_790_000_000)),
        ];
        check(text, &list, 0, 1);
    }

    #[test]
    fn what_strangers_call_themselves_is_a_host_name_or_nothing() {
        for name in ["tv", "Living-Room_TV", "a.b.c", &"x".repeat(63)] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "<b>x</b>", "a b", "\u{fc}ber", "a\u{0}", "a;b", &"x".repeat(64)] {
            assert!(!is_host_name(name), "{name}");
        }
        assert!(!is_host_name(&"abcdefg.".repeat(40)));
        check(
            "0 02:00:00:00:ab:14 192.168.1.20 <script>alert(1)</script> *\n",
            &[lease(Some(MAC), "192.168.1.20", "", 0)],
            0,
            1,
        );
    }

    #[test]
    fn lines_that_say_nothing_are_counted_and_cost_no_other() {
        let bad = [
            "1790000000",
            "never 02:00:00:00:ab:14 192.168.1.20 tv *",
            "0 02:00:00:00:ab 192.168.1.20 tv *",
            "0 02:00:00:00:ab:14:15 192.168.1.20 tv *",
            "0 02:00:00:00:ab:14 192.168.1.320 tv *",
            "# br-lan 02000000ab1 ipv4 tv 0 c0a80114 32 192.168.1.20/32",
            "# br-lan 02000000ab14 ipv4 tv 0 c0a80114 32 192.168.1.20",
            "# an-interface-with-a-name-that-is-too-long 02000000ab14 ipv4 tv 0 c0a80114 32",
            "# a comment",
            "duid",
        ];
        let mut text = bad.join("\n");
        text.push_str("\n0 02:00:00:00:ab:14 192.168.1.20 tv *");
        check(&text, &[lease(Some(MAC), "192.168.1.20", "tv", 0)], bad.len() as u64, 0);
        let mut bytes = vec![b'x'; 10_000];
        bytes.extend_from_slice(b"\n\xff\xfe\n\n");
        assert_eq!(parse(&bytes), Leases { malformed: 2, ..Leases::default() });
    }

    #[test]
    fn who_renews_a_lease_was_heard_of() {
        let before =
            [lease(Some(MAC), "192.168.1.20", "tv", 1_790_000_000), lease(None, "fd00::20", "tv", 0)];
        let mut now = before.clone();
        now[0].until_us += 1;
        carry_over(&before, &mut now, 7);
        assert_eq!(now.each_ref().map(|lease| lease.heard_us), [7, 0]);
        let mut later = now.clone();
        carry_over(&now, &mut later, 9);
        assert_eq!(later, now);
    }

    #[test]
    fn a_file_without_end_is_bounded() {
        let line = "0 02:00:00:00:ab:14 192.168.1.20 tv *\n";
        let leases = parse(line.repeat(MOST_LEASES + 7).as_bytes());
        assert_eq!((leases.list.len(), leases.left_out), (MOST_LEASES, 7));
    }
}
