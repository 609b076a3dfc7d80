//! What each kind of line does.

use std::net::IpAddr;

use netmon_proto::v1::DnsResponse;

use super::{
    super::{
        line::{Data, Line, Source, What},
        name::name_text,
        rr_type,
    },
    MOST_OPEN, MOST_WAITING, Pairing, Told,
    answer::{Hint, Open, Outcome, type_of},
    loose::Loose,
    question::{Question, Stage},
};

impl Pairing {
    /// Whether the line is one more of an answer that is being told.
    pub(super) fn go_on(&mut self, line: &Line<'_>, now_ms: u64) -> bool {
        let Some(open) = self.open.iter_mut().find(|open| open.pid == line.pid) else { return false };
        match line.what {
            What::Answer { source, name, data } => {
                let Some(name) = name_text(name) else { return false };
                // A TXT record that reads like an address, unless somebody waits for an address.
                let asked = |rr_type: u16| {
                    self.waiting.iter().any(|question| {
                        question.pid == line.pid && question.rr_type == rr_type && question.is_about(&name)
                    })
                };
                let as_text = match (data, open.hint) {
                    (Data::Address(address), Hint::Text) => !asked(type_of(address)),
                    (Data::Text(_), Hint::Type(told @ (rr_type::A | rr_type::AAAA))) => !asked(told),
                    _ => false,
                };
                if !open.goes_on_with(line.serial, source, &name, data, as_text) {
                    return false;
                }
                open.add(now_ms, source, name, data);
            }
            What::Failed { rcode, .. } if open.is_bogus() && open.serial == line.serial => {
                open.fail(rcode.into());
            }
            _ => return false,
        }
        true
    }

    pub(super) fn on_query(
        &mut self,
        line: &Line<'_>,
        rr_type: u16,
        name: &[u8],
        client: IpAddr,
        now_ms: u64,
        out: &mut Vec<DnsResponse>,
    ) {
        let Some(name) = name_text(name) else {
            self.stats.bad_names += 1;
            return;
        };
        self.stats.questions += 1;
        if let Some(serial) = line.serial {
            self.stats.lost += self.serials.see(line.pid, serial);
        } else if self.waits_already(line.pid, client, rr_type, &name, out) {
            self.stats.repeated += 1;
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            self.give_up();
        }
        self.waiting.push_back(Question {
            id: self.next_id,
            at_ms: now_ms,
            pid: line.pid,
            serial: line.serial,
            client,
            port: line.client.map_or(0, |(_, port)| port),
            address: Question::address_of(&name, rr_type),
            name,
            rr_type,
            stage: Stage::Asked,
            server: None,
        });
        self.next_id += 1;
    }

    /// Whether this client waits for this already. Without numbers the two cannot be told apart, nor from
    /// one question that was sent twice.
    fn waits_already(
        &mut self,
        pid: u32,
        client: IpAddr,
        rr_type: u16,
        name: &str,
        out: &mut Vec<DnsResponse>,
    ) -> bool {
        let same = |question: &Question| {
            question.client == client
                && question.rr_type == rr_type
                && question.name == name
                && question.stage != Stage::Refreshing
        };
        let Some(place) = self.waiting.iter().position(same) else { return false };
        let question = &self.waiting[place];
        let cut_short = |loose: &Loose| loose.outcome == Outcome::Truncated && loose.may_be_for(question);
        let Some(found) = self.loose.iter().position(cut_short) else { return question.pid == pid };
        // It comes again over TCP, so it was this one whose answer did not fit.
        let loose = self.loose.remove(found);
        self.answer_all(place, &loose, out);
        false
    }

    pub(super) fn on_forwarded(&mut self, line: &Line<'_>, name: &[u8], server: Option<IpAddr>) {
        let Some(name) = name_text(name) else { return };
        let newest = self.waiting.iter().rposition(|question| match line.serial {
            Some(serial) => question.serial == Some(serial),
            None => question.pid == line.pid && question.name == name,
        });
        let Some(place) = newest else { return };
        let question = &mut self.waiting[place];
        if question.stage == Stage::Asked {
            question.stage = Stage::Forwarded;
            question.server = server;
        } else if question.server.is_none() {
            question.server = server;
        }
    }

    pub(super) fn on_answer(
        &mut self,
        line: &Line<'_>,
        source: Source,
        name: &[u8],
        data: Data<'_>,
        now_ms: u64,
    ) {
        let Some(name) = name_text(name) else {
            self.stats.bad_names += 1;
            return;
        };
        let id = match line.serial {
            Some(serial) => {
                let known = self.waiting.iter().rfind(|question| question.serial == Some(serial));
                if known.is_none() {
                    self.stats.unpaired += 1;
                }
                // Its further lines are nobody's either.
                known.map_or(Some(u64::MAX), |question| Some(question.id))
            }
            // What is not asked for follows the question at once.
            None if source != Source::Reply => {
                let newest = self.waiting.iter().rfind(|question| question.pid == line.pid);
                newest
                    .filter(|question| question.stage == Stage::Asked && question.is_about(&name))
                    .map(|question| question.id)
            }
            None => None,
        };
        // Where it does not, it was filtered out of a reply.
        let source = if id.is_none() { Source::Reply } else { source };
        let mut open = Open::new(now_ms, line, self.next_id, source, name.clone());
        open.id = id;
        open.add(now_ms, source, name, data);
        self.begin(open);
    }

    fn begin(&mut self, open: Open) {
        if self.open.len() >= MOST_OPEN {
            self.open.remove(0);
            self.stats.unpaired += 1;
        }
        self.open.push(open);
    }

    /// The cache knew where a chain of names begins, but not where it ends: dnsmasq asks for all of it.
    pub(super) fn drop_unfinished(&mut self, line: &Line<'_>, name: &[u8]) {
        let Some(name) = name_text(name) else { return };
        self.open.retain(|open| {
            let its = open.pid == line.pid && open.serial == line.serial && open.name == name;
            !(its && open.is_unfinished())
        });
    }

    pub(super) fn on_failed(
        &mut self,
        line: &Line<'_>,
        source: Source,
        rcode: u32,
        now_ms: u64,
        out: &mut Vec<DnsResponse>,
    ) {
        self.end_unnamed(line, source, Outcome::failed(source, rcode), now_ms, out);
    }

    pub(super) fn on_truncated(&mut self, line: &Line<'_>, now_ms: u64, out: &mut Vec<DnsResponse>) {
        self.end_unnamed(line, Source::Reply, Outcome::Truncated, now_ms, out);
    }

    fn end_unnamed(
        &mut self,
        line: &Line<'_>,
        source: Source,
        outcome: Outcome,
        now_ms: u64,
        out: &mut Vec<DnsResponse>,
    ) {
        let id = match line.serial {
            Some(serial) => self.waiting.iter().rfind(|question| question.serial == Some(serial)),
            None if source == Source::Reply => {
                let loose = Loose {
                    at_ms: now_ms,
                    pid: line.pid,
                    asked_before: self.next_id,
                    name: None,
                    hint: Hint::Any,
                    outcome,
                };
                return self.keep_loose(loose, out);
            }
            None => self.waiting.iter().rfind(|question| question.pid == line.pid),
        };
        match id.map(|question| question.id) {
            Some(id) => self.end(id, outcome, out),
            None => self.stats.unpaired += 1,
        }
    }

    pub(super) fn on_duplicate(&mut self, line: &Line<'_>, out: &mut Vec<DnsResponse>) {
        let Some(told) = self.last.take() else { return };
        let same = |question: &Question| {
            question.serial == line.serial && question.rr_type == told.rr_type && question.name == told.name
        };
        if let Some(place) = self.waiting.iter().position(same)
            && let Some(question) = self.waiting.remove(place)
        {
            self.tell(question, told.server, &told.outcome, out);
        }
        self.last = Some(told);
    }

    pub(super) fn on_bogus(&mut self, line: &Line<'_>, name: &[u8], now_ms: u64) {
        let Some(name) = name_text(name) else { return };
        let mut open = Open::new(now_ms, line, self.next_id, Source::Reply, name);
        let asked = self.waiting.iter().rfind(|question| match line.serial {
            Some(serial) => question.serial == Some(serial),
            None => question.is_about(&open.name),
        });
        // The verdict on a part of the chain of trust is not about a question.
        let Some(asked) = asked else { return };
        open.id = line.serial.map(|_| asked.id);
        open.set_bogus();
        self.begin(open);
    }

    /// Ends the answers that nothing can be added to.
    pub(super) fn close(&mut self, which: impl Fn(&Open) -> bool, out: &mut Vec<DnsResponse>) {
        let mut place = 0;
        while let Some(open) = self.open.get(place) {
            if which(open) {
                let open = self.open.remove(place);
                self.stats.records_left_out += open.left_out;
                self.end_open(open, out);
            } else {
                place += 1;
            }
        }
    }

    fn end_open(&mut self, mut open: Open, out: &mut Vec<DnsResponse>) {
        if let Some(id) = open.id {
            let asked = self.waiting.iter().find(|question| question.id == id);
            let asked = asked.map_or(0, |question| question.rr_type);
            if open.is_unfinished() && asked != rr_type::CNAME && asked != rr_type::ANY {
                // The rest is being asked for, for somebody else, whose answer is this one's too.
                return;
            }
            if asked == rr_type::TXT {
                open.read_as_text();
            }
            return self.end(id, open.outcome(), out);
        }
        let waits = |question: &Question, hint: Hint| {
            question.pid == open.pid
                && question.id < open.asked_before
                && question.is_about(&open.name)
                && hint.admits(question.rr_type)
        };
        let mut hint = open.hint;
        if !self.waiting.iter().any(|question| waits(question, hint)) {
            // A TXT record that reads like something else.
            hint = Hint::Type(rr_type::TXT);
            if !self.waiting.iter().any(|question| waits(question, hint)) {
                self.stats.unpaired += 1;
                return;
            }
        }
        if hint == Hint::Text || hint == Hint::Type(rr_type::TXT) {
            open.read_as_text();
        }
        let name = open.name.clone();
        let loose = Loose {
            at_ms: open.at_ms,
            pid: open.pid,
            asked_before: open.asked_before,
            name: Some(name),
            hint,
            outcome: open.outcome(),
        };
        self.keep_loose(loose, out);
    }

    /// Tells the answer to this question, and to those that dnsmasq has joined to it.
    fn end(&mut self, id: u64, outcome: Outcome, out: &mut Vec<DnsResponse>) {
        let Some(place) = self.waiting.iter().position(|question| question.id == id) else { return };
        let source = match &outcome {
            Outcome::Answer { source, .. } => Some(*source),
            Outcome::Truncated => None,
        };
        if source == Some(Source::Stale) {
            // dnsmasq asks now what it should have known, and nobody waits for that.
            let question = &mut self.waiting[place];
            let again = Question { stage: Stage::Refreshing, name: question.name.clone(), ..*question };
            let question = std::mem::replace(question, again);
            return self.tell(question, None, &outcome, out);
        }
        let Some(question) = self.waiting.remove(place) else { return };
        let told =
            Told { name: question.name.clone(), rr_type: question.rr_type, server: question.server, outcome };
        let (client, numbered) = ((question.client, question.port), question.serial.is_some());
        self.tell(question, None, &told.outcome, out);
        if numbered {
            self.end_joined(id, client, &told, out);
            self.last = Some(told);
        }
        self.settle(out);
    }

    fn end_joined(&mut self, id: u64, client: (IpAddr, u16), told: &Told, out: &mut Vec<DnsResponse>) {
        let mut place = 0;
        while let Some(other) = self.waiting.get(place) {
            let same =
                other.rr_type == told.rr_type && other.name == told.name && other.stage != Stage::Refreshing;
            // The client sent it twice; dnsmasq answers under the number that came last.
            let again = same && other.id < id && (other.client, other.port) == client;
            let joined = same && other.stage == Stage::Asked;
            if again || joined {
                let Some(other) = self.waiting.remove(place) else { return };
                if again {
                    self.stats.repeated += 1;
                } else {
                    self.tell(other, told.server, &told.outcome, out);
                }
            } else {
                place += 1;
            }
        }
    }
}
