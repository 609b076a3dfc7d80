//! Answers that do not tell for which of several questions they are.

use std::collections::BTreeSet;

use netmon_proto::v1::DnsResponse;

use super::{
    MOST_LOOSE, Pairing,
    answer::{Hint, Outcome},
    question::{Question, Stage},
};

#[derive(Debug)]
pub(super) struct Loose {
    pub(super) at_ms: u64,
    pub(super) pid: u32,
    /// It is for a question with a smaller id.
    pub(super) asked_before: u64,
    /// An error tells no name.
    pub(super) name: Option<String>,
    pub(super) hint: Hint,
    pub(super) outcome: Outcome,
}

impl Loose {
    pub(super) fn may_be_for(&self, question: &Question) -> bool {
        question.id < self.asked_before
            && question.pid == self.pid
            && self.hint.admits(question.rr_type)
            && match &self.name {
                Some(name) => question.is_about(name),
                // Who was not asked cannot fail.
                None => question.stage != Stage::Asked,
            }
    }
}

impl Pairing {
    /// Keeps an answer until it is clear for which question it is, which may be now.
    pub(super) fn keep_loose(&mut self, loose: Loose, out: &mut Vec<DnsResponse>) {
        if self.loose.len() >= MOST_LOOSE {
            self.loose.remove(0);
            self.stats.unpaired += 1;
        }
        self.loose.push(loose);
        self.settle(out);
    }

    /// Gives the answers away that can only be for the questions that are left.
    pub(super) fn settle(&mut self, out: &mut Vec<DnsResponse>) {
        let mut place = 0;
        while let Some(loose) = self.loose.get(place) {
            let wanted: BTreeSet<(u16, &str)> = self
                .waiting
                .iter()
                .filter(|question| loose.may_be_for(question))
                .map(|question| (question.rr_type, question.name.as_str()))
                .collect();
            // As many answers compete for them: those of the same name, or, without one, all. Later ones may
            // be for later questions.
            let competes = |other: &&Loose| {
                other.pid == loose.pid
                    && other.asked_before <= loose.asked_before
                    && (loose.name.is_none() || other.name == loose.name)
            };
            let rivals = self.loose.iter().filter(competes).count();
            if wanted.len() > rivals {
                place += 1;
                continue;
            }
            let oldest = self.waiting.iter().position(|question| loose.may_be_for(question));
            let loose = self.loose.remove(place);
            match oldest {
                Some(oldest) => {
                    self.answer_all(oldest, &loose, out);
                    // One question less may settle an answer before this one.
                    place = 0;
                }
                None => self.stats.unpaired += 1,
            }
        }
    }

    /// Gives the oldest answer to the youngest question that it may be for: older ones that still wait have
    /// probably been forgotten by their resolver.
    pub(super) fn guess(&mut self, out: &mut Vec<DnsResponse>) {
        if self.loose.is_empty() {
            return;
        }
        let loose = self.loose.remove(0);
        match self.waiting.iter().rposition(|question| loose.may_be_for(question)) {
            Some(youngest) => self.answer_all(youngest, &loose, out),
            None => self.stats.unpaired += 1,
        }
        self.settle(out);
    }
}
