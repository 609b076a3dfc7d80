//! The text of `conntrack -L`, plain and `-o extended`, and of `/proc/net/nf_conntrack`, which is the latter.
//!
//! A line is a flow: family and its number (extended alone), protocol and its number, seconds that are left, the state
//! (TCP), then the two tuples, each with its counters where the kernel keeps them, and flags in brackets among them.
//! See `ct_seq_show` of the kernel and `nfct_snprintf` of libnetfilter_conntrack.

use std::net::IpAddr;

use netmon_proto::v1;

use crate::ingest::{direction_by_addresses, octets, printable, status_bits, tcp_state};

/// More are not taken: the largest table that an agent would watch.
const MOST_FLOWS: usize = 262_144;
/// No line of a kernel is longer.
const MOST_LINE_BYTES: usize = 2_048;

/// What was read.
#[derive(Debug, Default)]
pub struct Listing {
    /// The flows, without id and phase, and with no times but those that the kernel told.
    pub flows: Vec<v1::Flow>,
    /// Lines that were not understood.
    pub refused: u64,
    /// Why the first of them was not.
    pub refusal: Option<String>,
}

impl Listing {
    /// Whether every line was understood: only then what is absent is gone.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.refused == 0
    }
}

/// Reads a listing; never fails, whatever is in it.
#[must_use]
pub fn read(text: &[u8]) -> Listing {
    let mut listing = Listing::default();
    for (place, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let flow = if listing.flows.len() >= MOST_FLOWS {
            Err(format!("expected at most {MOST_FLOWS} flows"))
        } else if line.len() > MOST_LINE_BYTES {
            Err(format!("expected at most {MOST_LINE_BYTES} bytes"))
        } else {
            std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(flow)
        };
        match flow {
            Ok(flow) => listing.flows.push(flow),
            Err(problem) => {
                listing.refused += 1;
                let tell = || format!("line {}: {problem}", place + 1);
                listing.refusal.get_or_insert_with(tell);
            }
        }
    }
    listing
}

/// One of the two tuples.
#[derive(Default)]
struct Tuple {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    src_port: u16,
    dst_port: u16,
    icmp: [Option<u16>; 3],
    counters: Option<(u64, u64)>,
}

fn flow(line: &str) -> Result<v1::Flow, String> {
    let mut words = line.split_ascii_whitespace().peekable();
    if words.next_if(|word| matches!(*word, "ipv4" | "ipv6")).is_some() {
        number::<u8>("the family", words.next().unwrap_or_default())?;
    }
    words.next();
    let protocol: u8 = number("the protocol's number", words.next().unwrap_or_default())?;
    let mut tuples: Vec<Tuple> = Vec::with_capacity(2);
    let mut flow = v1::Flow { protocol: protocol.into(), ..v1::Flow::default() };
    let mut flags = vec!["CONFIRMED"];
    let mut replied = true;
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            match word {
                "[UNREPLIED]" => replied = false,
                "[ASSURED]" => flags.push("ASSURED"),
                "[OFFLOAD]" => flags.push("OFFLOAD"),
                "[HW_OFFLOAD]" => flags.push("HW_OFFLOAD"),
                state
                    if protocol == 6
                        && tuples.is_empty()
                        && !state.starts_with(|c: char| c.is_ascii_digit()) =>
                {
                    flow.tcp_state = tcp_state(state).into();
                }
                _ => {}
            }
            continue;
        };
        if key == "src" {
            tuples.push(Tuple::default());
        }
        let of_tuple =
            matches!(key, "src" | "dst" | "sport" | "dport" | "type" | "code" | "packets" | "bytes");
        match tuples.last_mut() {
            None if of_tuple => return Err(format!("{key} comes before src")),
            Some(tuple) if of_tuple || key == "id" && tuple.expects_id() => tuple.take(key, value)?,
            _ => match key {
                "mark" => flow.mark = number(key, value)?,
                "zone" => flow.zone = number::<u16>(key, value)?.into(),
                "id" => flow.conntrack_id = number(key, value)?,
                _ => {}
            },
        }
    }
    let [original, reply] = &tuples[..] else {
        return Err(format!("expected two tuples, found {}", tuples.len()));
    };
    fill(&mut flow, original, reply)?;
    if replied {
        flags.push("SEEN_REPLY");
    }
    flow.status |= status_bits(&flags.join("|"));
    Ok(flow)
}

impl Tuple {
    /// A ping's identifier comes behind its type and code; another `id` is the flow's own.
    fn expects_id(&self) -> bool {
        matches!(self.icmp, [Some(_), Some(_), None])
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let (packets, bytes) = self.counters.unwrap_or_default();
        match key {
            "src" => self.src = Some(address(key, value)?),
            "dst" => self.dst = Some(address(key, value)?),
            "sport" => self.src_port = number(key, value)?,
            "dport" => self.dst_port = number(key, value)?,
            "type" => self.icmp[0] = Some(number::<u8>(key, value)?.into()),
            "code" => self.icmp[1] = Some(number::<u8>(key, value)?.into()),
            "id" => self.icmp[2] = Some(number(key, value)?),
            "packets" => self.counters = Some((counter(key, value)?, bytes)),
            _ => self.counters = Some((packets, counter(key, value)?)),
        }
        Ok(())
    }

    fn addresses(&self) -> Result<(IpAddr, IpAddr), String> {
        match (self.src, self.dst) {
            (Some(src), Some(dst)) if src.is_ipv4() == dst.is_ipv4() => Ok((src, dst)),
            _ => Err("expected src and dst of one family in each tuple".to_owned()),
        }
    }
}

/// Puts the tuples into the flow.
fn fill(flow: &mut v1::Flow, original: &Tuple, reply: &Tuple) -> Result<(), String> {
    let (src, dst) = original.addresses()?;
    let (reply_src, reply_dst) = reply.addresses()?;
    if src.is_ipv4() != reply_src.is_ipv4() {
        return Err("expected two tuples of one family".to_owned());
    }
    let bytes = |address| octets(address).into();
    let (src_port, dst_port) = (original.src_port, original.dst_port);
    flow.src_ip = bytes(src);
    flow.dst_ip = bytes(dst);
    (flow.src_port, flow.dst_port) = (src_port.into(), dst_port.into());
    let reversed = (dst, src, dst_port, src_port);
    if (reply_src, reply_dst, reply.src_port, reply.dst_port) != reversed {
        flow.reply_src_ip = bytes(reply_src);
        flow.reply_dst_ip = bytes(reply_dst);
        (flow.reply_src_port, flow.reply_dst_port) = (reply.src_port.into(), reply.dst_port.into());
        if (reply_dst, reply.dst_port) != (src, src_port) {
            flow.status |= status_bits("SRC_NAT");
        }
        if (reply_src, reply.src_port) != (dst, dst_port) {
            flow.status |= status_bits("DST_NAT");
        }
    }
    if let [Some(kind), Some(code), id] = original.icmp {
        (flow.icmp_type, flow.icmp_code) = (kind.into(), code.into());
        flow.icmp_id = id.unwrap_or(0).into();
    }
    (flow.packets_orig, flow.bytes_orig) = original.counters.unwrap_or_default();
    (flow.packets_reply, flow.bytes_reply) = reply.counters.unwrap_or_default();
    flow.no_counters = original.counters.is_none() && reply.counters.is_none();
    let (direction, device, remote) = direction_by_addresses(src, reply_src);
    flow.direction = direction.into();
    (flow.device, flow.remote) = (device.into(), remote.into());
    Ok(())
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what}: expected a number, got {:?}", printable(text, 40)))
}

/// What the database can keep: 63 bits.
fn counter(what: &str, text: &str) -> Result<u64, String> {
    number(what, text).map(|count: u64| count.min(i64::MAX.cast_unsigned()))
}

fn address(what: &str, text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{what}: expected an IP address, got {:?}", printable(text, 60)))
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
