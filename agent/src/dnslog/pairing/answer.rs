//! An answer while it is being told, line by line.

use std::net::IpAddr;

use netmon_proto::v1::DnsAnswer;

use super::{
    super::{
        line::{Data, Line, Source},
        name::{name_text, record_text},
        rr_type,
    },
    MOST_RECORDS,
    question::octets,
};

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Answer {
        source: Source,
        rcode: u32,
        answers: Vec<DnsAnswer>,
    },
    /// Nothing yet: the client comes again over TCP.
    Truncated,
}

impl Outcome {
    pub(super) fn failed(source: Source, rcode: u32) -> Self {
        Self::Answer { source, rcode, answers: Vec::new() }
    }
}

/// Which questions an answer may be for, by its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    Any,
    Type(u16),
    /// TXT or PTR.
    Text,
    NotAddress,
}

impl Hint {
    pub(super) fn admits(self, asked: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Type(told) => asked == told || asked == rr_type::ANY,
            Self::Text => asked == rr_type::TXT || asked == rr_type::PTR,
            Self::NotAddress => asked != rr_type::A && asked != rr_type::AAAA,
        }
    }
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) at_ms: u64,
    pub(super) pid: u32,
    pub(super) serial: Option<u32>,
    pub(super) source: Source,
    /// It is for a question with a smaller id.
    pub(super) asked_before: u64,
    /// Of the question, where it is known.
    pub(super) id: Option<u64>,
    /// The first name told.
    pub(super) name: String,
    pub(super) hint: Hint,
    /// The name told last.
    owner: String,
    /// The last line was a CNAME, whose target is the next line's name.
    chained: bool,
    /// Nothing can follow.
    ended: bool,
    rcode: u32,
    answers: Vec<DnsAnswer>,
    pub(super) left_out: u64,
}

impl Open {
    pub(super) fn new(at_ms: u64, line: &Line<'_>, asked_before: u64, source: Source, name: String) -> Self {
        Self {
            at_ms,
            pid: line.pid,
            serial: line.serial,
            source,
            asked_before,
            id: None,
            owner: name.clone(),
            name,
            hint: Hint::Any,
            chained: false,
            ended: false,
            rcode: 0,
            answers: Vec::new(),
            left_out: 0,
        }
    }

    /// Not genuine, unless records follow all the same (the client asked for them unchecked).
    pub(super) fn set_bogus(&mut self) {
        self.rcode = 2;
    }

    pub(super) fn is_bogus(&self) -> bool {
        self.rcode == 2 && !self.ended
    }

    /// An error that could not be verified is still that error.
    pub(super) fn fail(&mut self, rcode: u32) {
        (self.rcode, self.ended) = (rcode, true);
    }

    /// A chain of names from the cache that leads nowhere yet.
    pub(super) fn is_unfinished(&self) -> bool {
        self.chained && matches!(self.source, Source::Cached | Source::Local)
    }

    /// Whether a line of this process goes on with it.
    pub(super) fn goes_on_with(
        &self,
        serial: Option<u32>,
        source: Source,
        name: &str,
        data: Data<'_>,
        as_text: bool,
    ) -> bool {
        if self.ended || serial != self.serial {
            return false;
        }
        let both_asked = self.source == Source::Reply;
        let now_asked = source == Source::Reply;
        if serial.is_some() {
            // What was filtered out of a reply is told as configured.
            return both_asked || !now_asked;
        }
        let same_kind = both_asked == now_asked || both_asked && source == Source::Local && self.chained;
        same_kind && (self.chained || self.owner == name && (as_text || self.has_room_for(data)))
    }

    /// Records of two types, or the same one twice, are two answers.
    fn has_room_for(&self, data: Data<'_>) -> bool {
        if self.answers.is_empty() {
            return true;
        }
        match data {
            Data::Address(address) => {
                let record = address_record(&self.owner, address);
                self.hint.admits(type_of(address)) && !self.answers.contains(&record)
            }
            Data::Text(_) => self.hint == Hint::Text,
            Data::Type(rr_type::RRSIG) => true,
            Data::Type(_) => !matches!(self.hint, Hint::Type(rr_type::A | rr_type::AAAA)),
            Data::Cname | Data::NxDomain | Data::NoData(_) => false,
        }
    }

    /// Adds what a line tells.
    pub(super) fn add(&mut self, at_ms: u64, source: Source, name: String, data: Data<'_>) {
        self.at_ms = at_ms;
        if source == Source::Stale {
            self.source = source;
        }
        if self.chained
            && let Some(cname) = self.answers.last_mut()
        {
            cname.text.clone_from(&name);
        }
        self.chained = false;
        self.owner = name;
        self.rcode = 0;
        match data {
            Data::Address(address) => {
                if self.hint != Hint::Text {
                    self.hint = Hint::Type(type_of(address));
                }
                self.push(address_record(&self.owner, address));
            }
            Data::Text(text) => {
                self.hint = Hint::Text;
                let rr_type = if self.owner.parse::<IpAddr>().is_ok() { rr_type::PTR } else { rr_type::TXT };
                let text = match rr_type {
                    rr_type::PTR => name_text(text).unwrap_or_default(),
                    _ => record_text(text),
                };
                self.push(DnsAnswer { text, ..record(&self.owner, rr_type) });
            }
            Data::Type(told) => {
                // Signatures come along with what was asked for.
                if told != rr_type::RRSIG || self.answers.is_empty() {
                    self.hint = Hint::Type(told);
                }
                self.push(record(&self.owner, told));
            }
            Data::Cname => {
                self.chained = true;
                self.push(record(&self.owner, rr_type::CNAME));
            }
            Data::NxDomain => {
                (self.rcode, self.ended) = (3, true);
            }
            Data::NoData(told) => {
                self.hint = if told == 0 { Hint::NotAddress } else { Hint::Type(told) };
                self.ended = true;
            }
        }
    }

    fn push(&mut self, answer: DnsAnswer) {
        if self.answers.len() < MOST_RECORDS {
            self.answers.push(answer);
        } else {
            self.left_out += 1;
        }
    }

    /// What it comes to, for a question of this type.
    pub(super) fn outcome(self) -> Outcome {
        Outcome::Answer { source: self.source, rcode: self.rcode, answers: self.answers }
    }

    /// What reads like an address is the text of a TXT record.
    pub(super) fn read_as_text(&mut self) {
        for answer in self.answers.iter_mut().filter(|answer| !answer.address.is_empty()) {
            let v4 = <[u8; 4]>::try_from(&answer.address[..]).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(&answer.address[..]).map(IpAddr::from));
            answer.text = address.map(|address| address.to_string()).unwrap_or_default();
            answer.address = bytes::Bytes::new();
            answer.r#type = rr_type::TXT.into();
        }
    }
}

/// Of the record that holds it.
pub(super) fn type_of(address: IpAddr) -> u16 {
    if address.is_ipv4() { rr_type::A } else { rr_type::AAAA }
}

fn record(owner: &str, rr_type: u16) -> DnsAnswer {
    DnsAnswer { name: owner.to_owned(), r#type: rr_type.into(), ..DnsAnswer::default() }
}

fn address_record(owner: &str, address: IpAddr) -> DnsAnswer {
    DnsAnswer { address: octets(address), ..record(owner, type_of(address)) }
}
