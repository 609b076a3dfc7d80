//! What this part shows of itself.

use super::{answers::DnsCounts, message::Family};
use crate::{metrics::Figure, parts::State};

/// Pairs of group and tag that are counted apart; the rest are counted as `other`.
const MOST_TAGS: usize = 64;

/// The packets of one rule.
#[derive(Debug)]
struct Tag {
    group: u16,
    /// As the kernel gave it.
    prefix: Vec<u8>,
    text: String,
    packets: u64,
}

/// Counters.
#[derive(Debug, Default)]
pub(crate) struct NflogState {
    tags: Vec<Tag>,
    /// Those of tags beyond [`MOST_TAGS`], by group.
    other_tags: Vec<(u16, u64)>,
    pub(super) parse_errors: u64,
    pub(super) overruns: u64,
    /// Packets that the kernel could not hand over, by their numbers.
    pub(super) lost: u64,
    arp: u64,
    bridge: u64,
    other_families: u64,
    pub(super) fragments: u64,
    pub(super) truncated: u64,
    pub(super) left_out: u64,
    pub(super) unnamed_interfaces: u64,
    pub(super) sources: usize,
    pub(super) dns: DnsCounts,
    /// Why some groups are not heard, one sentence each.
    pub(super) not_heard: Vec<String>,
}

impl NflogState {
    /// Counts a packet of a rule and gives the rule's tag.
    pub(super) fn count(&mut self, group: u16, prefix: &[u8]) -> String {
        if let Some(tag) = self.tags.iter_mut().find(|tag| tag.group == group && tag.prefix == prefix) {
            tag.packets += 1;
            return tag.text.clone();
        }
        let text = tag_text(prefix);
        if self.tags.len() < MOST_TAGS {
            self.tags.push(Tag { group, prefix: prefix.to_vec(), text: text.clone(), packets: 1 });
        } else if let Some((_, packets)) = self.other_tags.iter_mut().find(|(known, _)| *known == group) {
            *packets += 1;
        } else {
            self.other_tags.push((group, 1));
        }
        text
    }

    /// How many messages and packets were not understood, or not whole: of drops, and of DNS.
    pub(super) fn not_understood(&self) -> [u64; 2] {
        [self.parse_errors, self.dns.partial + self.dns.malformed]
    }

    pub(super) fn count_ignored(&mut self, family: Family) {
        match family {
            Family::Arp => self.arp += 1,
            Family::Bridge => self.bridge += 1,
            Family::Ip | Family::Netdev | Family::Other(_) => self.other_families += 1,
        }
    }
}

/// The prefix without white space around it, at most 127 bytes, as the kernel's are.
fn tag_text(prefix: &[u8]) -> String {
    let text = String::from_utf8_lossy(prefix);
    let mut tag: String = text.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    tag.truncate(tag.floor_char_boundary(127));
    tag
}

impl State for NflogState {
    fn figures(&self, out: &mut Vec<Figure>) {
        let label = |group: u16, tag: &str| [("group", group.to_string()), ("tag", tag.to_owned())];
        // Two prefixes may differ in white space alone.
        let mut tags: Vec<(u16, &str, u64)> = Vec::new();
        for tag in &self.tags {
            match tags.iter_mut().find(|(group, text, _)| *group == tag.group && *text == tag.text) {
                Some((.., packets)) => *packets += tag.packets,
                None => tags.push((tag.group, &tag.text, tag.packets)),
            }
        }
        tags.extend(self.other_tags.iter().map(|(group, packets)| (*group, "other", *packets)));
        let events = tags.into_iter().map(|(group, tag, packets)| (label(group, tag), packets));
        let ignored = [("arp", self.arp), ("bridge", self.bridge), ("other", self.other_families)]
            .map(|(family, packets)| ([("family", family.to_owned())], packets));
        let dns = [
            ("reported", self.dns.reported),
            ("truncated", self.dns.truncated),
            ("partial", self.dns.partial),
            ("malformed", self.dns.malformed),
            ("other", self.dns.other),
        ]
        .map(|(outcome, count)| ([("outcome", outcome.to_owned())], count));
        out.extend([
            Figure::counters("nflog_events", "Packets that firewall rules logged", events),
            Figure::counter(
                "nflog_parse_errors",
                "Messages and packets that were not understood",
                self.parse_errors,
            ),
            Figure::counter("nflog_overruns", "Times the kernel's socket buffer overran", self.overruns),
            Figure::counter("nflog_lost", "Packets that the kernel could not hand over", self.lost),
            Figure::counters("nflog_ignored", "Logged frames that are not routed", ignored),
            Figure::counter("nflog_fragments", "Fragments among the packets", self.fragments),
            Figure::counter("nflog_truncated", "Packets without all of their headers", self.truncated),
            Figure::counter("nflog_left_out", "Packets left out by the flood guard", self.left_out),
            Figure::counter(
                "nflog_unnamed_interfaces",
                "Packets of interfaces that nobody told of",
                self.unnamed_interfaces,
            ),
            Figure::counters("dns_packets", "DNS messages in packets, by what became of them", dns),
            Figure::counter(
                "dns_packet_records_left_out",
                "Records of responses with too many",
                self.dns.records_left_out,
            ),
            Figure::gauge("nflog_sources", "Sources that the flood guard tells apart", self.sources as f64),
        ]);
    }

    fn warnings(&self, out: &mut Vec<String>) {
        out.extend(self.not_heard.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::render;

    #[test]
    fn tags_are_prefixes_cleaned() {
        for (prefix, tag) in [
            (&b"  drop-in: "[..], "drop-in:"),
            (b"", ""),
            (b"a\tb\x1b[0m", "a?b?[0m"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(tag_text(prefix), tag);
        }
        let long = tag_text(&[0xff; 127]);
        assert!(long.len() <= 127 && long.len() > 120, "{}", long.len());
    }

    #[test]
    fn tags_are_counted_up_to_a_bound() {
        let mut state = NflogState::default();
        state.count(7, b"in ");
        state.count(7, b" in");
        state.count(8, b"a \"quoted\" \\ tag");
        for number in 0..1000 {
            state.count(9, number.to_string().as_bytes());
        }
        let mut figures = Vec::new();
        state.figures(&mut figures);
        let page = render(figures);
        for line in [
            "nflog_events_total{group=\"7\",tag=\"in\"} 2",
            "nflog_events_total{group=\"8\",tag=\"a \\\"quoted\\\" \\\\ tag\"} 1",
            "nflog_events_total{group=\"9\",tag=\"0\"} 1",
            "nflog_events_total{group=\"9\",tag=\"other\"} 939",
            "nflog_parse_errors_total 0",
        ] {
            assert!(page.lines().any(|got| got == line), "{line} is missing in\n{page}");
        }
    }
}
