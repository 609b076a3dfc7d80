//! Which answer belongs to which question, from the lines of the log alone. Pure, bounded, `now` given.
//!
//! With `log-queries=extra` every line carries its question's number, and pairing is exact. Without it:
//! - dnsmasq does one thing at a time, so what it answers itself follows the question at once;
//! - a reply has a name, and mostly tells its type; it answers everybody who waits for this name and type,
//!   as dnsmasq itself asks once for all of them. A client that asks again meanwhile is answered once;
//! - an error tells no name, NXDOMAIN no type. It waits until as many questions are left that it may be
//!   for as there are such answers, but not long: then it is taken for the answer to the youngest of them.
//!
//! Lines about one question are written by one process; dnsmasq serves each TCP connection by its own.
//!
//! An answer has no end either: it is over when another line comes, or none for a moment.

mod answer;
mod loose;
mod question;
mod take;

use std::{collections::VecDeque, net::IpAddr};

use netmon_proto::v1::DnsResponse;

use super::line::{Line, Source, What};
use answer::{Open, Outcome};
use loose::Loose;
use question::{Question, Stage};

/// Questions that wait for an answer; dnsmasq itself passes on 150 at a time (`dns-forward-max`).
const MOST_WAITING: usize = 1024;
/// Answers that are being told at a time, each by another process of dnsmasq (20 for TCP).
const MOST_OPEN: usize = 32;
/// Answers whose question is not yet known.
const MOST_LOOSE: usize = 64;
/// Records of one answer; more are counted.
const MOST_RECORDS: usize = 128;
/// The lines of one answer are written at once.
const QUIET_MS: u64 = 200;
/// How long an answer waits until it is clear for which question it is.
const LOOSE_MS: u64 = 3000;
/// dnsmasq gives up after 10 seconds, resolvers of clients a little later.
const UNANSWERED_MS: u64 = 20_000;

/// What came of the questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairingStats {
    /// Questions heard.
    pub questions: u64,
    /// Answers told.
    pub answered: u64,
    /// Questions without an answer in the log.
    pub unanswered: u64,
    /// Questions that a client asked again before it had an answer.
    pub repeated: u64,
    /// Answers that were too long for UDP: the client asks again over TCP.
    pub truncated: u64,
    /// Answers to questions that are not known: asked before the first line, or answered already.
    pub unpaired: u64,
    /// Records of very long answers that were left out.
    pub records_left_out: u64,
    /// Names that no question can have.
    pub bad_names: u64,
    /// Lines that dnsmasq or the rotation of the log lost.
    pub lost: u64,
}

/// The questions that wait, and the answers that are being told.
#[derive(Debug, Default)]
pub struct Pairing {
    waiting: VecDeque<Question>,
    open: Vec<Open>,
    loose: Vec<Loose>,
    /// The answer before, for questions of which the log then says that they are duplicates.
    last: Option<Told>,
    next_id: u64,
    serials: Serials,
    stats: PairingStats,
}

/// An answer that was told.
#[derive(Debug)]
struct Told {
    name: String,
    rr_type: u16,
    server: Option<IpAddr>,
    outcome: Outcome,
}

/// The numbers of questions, to notice what is missing where the log was cut.
#[derive(Debug, Default)]
struct Serials {
    last: Option<(u32, u32)>,
    /// The last one before the cut.
    before_cut: Option<(u32, u32)>,
}

/// dnsmasq sets as many numbers aside for each TCP connection (TCP_MAX_QUERIES).
const SERIALS_OF_A_CONNECTION: u32 = 100;

impl Serials {
    /// How many questions are missing before this one.
    fn see(&mut self, pid: u32, serial: u32) -> u64 {
        if self.last.is_some_and(|(known, last)| known != pid && last < serial) {
            // A child, which has numbers of its own; a new dnsmasq begins anew.
            return 0;
        }
        self.last = Some((pid, serial));
        match self.before_cut.take() {
            Some((known, last)) if known == pid && serial > last => {
                u64::from((serial - last - 1) % SERIALS_OF_A_CONNECTION)
            }
            _ => 0,
        }
    }
}

impl Pairing {
    /// What came of the questions so far.
    pub fn stats(&self) -> &PairingStats {
        &self.stats
    }

    /// Takes a line and appends the answers that are complete now.
    pub fn take(&mut self, line: &Line<'_>, now_ms: u64, out: &mut Vec<DnsResponse>) {
        if self.go_on(line, now_ms) {
            return;
        }
        if let What::Forwarded { name, .. } = line.what {
            self.drop_unfinished(line, name);
        }
        self.close(|open| open.pid == line.pid, out);
        match line.what {
            What::Query { rr_type, name, client } => self.on_query(line, rr_type, name, client, now_ms, out),
            What::Forwarded { name, server } => self.on_forwarded(line, name, server),
            What::Answer { source, name, data } => self.on_answer(line, source, name, data, now_ms),
            What::Failed { source, rcode } => self.on_failed(line, source, rcode.into(), now_ms, out),
            What::Truncated => self.on_truncated(line, now_ms, out),
            What::Duplicate => self.on_duplicate(line, out),
            What::Bogus { name } => self.on_bogus(line, name, now_ms),
            What::Lost(count) => self.stats.lost += count,
        }
    }

    /// Appends the answers that are complete because nothing more was said, and gives up on questions that
    /// nobody answers.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<DnsResponse>) {
        self.close(|open| open.at_ms.saturating_add(QUIET_MS) <= now_ms, out);
        while let Some(loose) = self.loose.first() {
            if loose.at_ms.saturating_add(LOOSE_MS) > now_ms {
                break;
            }
            self.guess(out);
        }
        while let Some(oldest) = self.waiting.front() {
            if oldest.at_ms.saturating_add(UNANSWERED_MS) > now_ms {
                break;
            }
            self.give_up();
        }
    }

    /// When [`Self::tick`] has something to do next. `None`: not before another line.
    pub fn deadline_ms(&self) -> Option<u64> {
        let quiet = self.open.iter().map(|open| open.at_ms.saturating_add(QUIET_MS));
        let loose = self.loose.first().map(|loose| loose.at_ms.saturating_add(LOOSE_MS));
        let oldest = self.waiting.front().map(|question| question.at_ms.saturating_add(UNANSWERED_MS));
        quiet.chain(loose).chain(oldest).min()
    }

    /// Ends all answers that are being told: no line will follow.
    pub fn finish(&mut self, out: &mut Vec<DnsResponse>) {
        self.close(|_| true, out);
    }

    /// Lines may be missing from here on. Where questions are numbered, what is missing is counted.
    pub fn cut(&mut self) {
        if self.serials.before_cut.is_none() {
            self.serials.before_cut = self.serials.last;
        }
    }

    /// Takes leave of the oldest question.
    fn give_up(&mut self) {
        if let Some(question) = self.waiting.pop_front() {
            self.stats.unanswered += u64::from(question.stage != Stage::Refreshing);
        }
    }

    /// Tells the answer to one question. Who answered may be known from another one.
    fn tell(
        &mut self,
        mut question: Question,
        server: Option<IpAddr>,
        outcome: &Outcome,
        out: &mut Vec<DnsResponse>,
    ) {
        question.server = question.server.or(server);
        if question.stage == Stage::Refreshing {
            return;
        }
        match outcome {
            Outcome::Truncated => self.stats.truncated += 1,
            Outcome::Answer { source, rcode, answers } => {
                self.stats.answered += 1;
                out.push(question.response(*source != Source::Reply, *rcode, answers.clone()));
            }
        }
    }

    /// Tells an answer to everyone who waits for what this question asked, before the answer came.
    fn answer_all(&mut self, place: usize, loose: &Loose, out: &mut Vec<DnsResponse>) {
        let Some(question) = self.waiting.remove(place) else { return };
        let (name, rr_type) = (question.name.clone(), question.rr_type);
        // One of them was forwarded, for all of them; it need not be the oldest.
        let server = question.server.or_else(|| {
            let same = |other: &&Question| other.rr_type == rr_type && other.name == name;
            self.waiting.iter().filter(same).find_map(|other| other.server)
        });
        self.tell(question, server, &loose.outcome, out);
        let mut place = 0;
        while let Some(other) = self.waiting.get(place) {
            let same = other.rr_type == rr_type && other.name == name;
            if same && other.pid == loose.pid && other.id < loose.asked_before {
                if let Some(other) = self.waiting.remove(place) {
                    self.tell(other, server, &loose.outcome, out);
                }
            } else {
                place += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
