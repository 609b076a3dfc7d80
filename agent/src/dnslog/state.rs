//! What was heard so far, and what is in the way. Outlives a failure of the part.

use std::time::Duration;

use netmon_proto::v1::{DnsResponse, Event, Gap, GapCause, event::Kind};
use tokio::time::Instant;

use super::{
    follow::{FollowStats, Follower, Found},
    line::{Parsed, parse_line},
    lines::Piece,
    pairing::Pairing,
};
use crate::{host, metrics::Figure, parts::State};

/// So long nobody may have asked anything.
const SILENT: Duration = Duration::from_secs(600);
/// So long dnsmasq may have written of everything but questions.
const NO_QUESTION: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct DnsLogState {
    pub(super) started: Instant,
    pub(super) pairing: Pairing,
    /// Where we are in the file, so that a failure of the part does not lose the place.
    pub(super) follower: Option<Follower>,
    pub(super) follow_stats: FollowStats,
    /// What keeps the log from being read, one sentence with the remedy.
    pub(super) trouble: Option<String>,
    /// `logread` here does not know `-e`.
    pub(super) logread_is_plain: bool,
    lines: u64,
    parse_errors: u64,
    too_long: u64,
    /// Lines of dnsmasq about other things than questions.
    remarks: u64,
    foreign: u64,
    /// Of what was lost, how much was told.
    lost_told: u64,
}

impl Default for DnsLogState {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            pairing: Pairing::default(),
            follower: None,
            follow_stats: FollowStats::default(),
            trouble: None,
            logread_is_plain: false,
            lines: 0,
            parse_errors: 0,
            too_long: 0,
            remarks: 0,
            foreign: 0,
            lost_told: 0,
        }
    }
}

/// Answers as they are found.
pub(super) type Responses = Vec<DnsResponse>;

impl DnsLogState {
    /// Time for the pairing and the follower: since the start of the part.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, found: Found<'_>, now_ms: u64, out: &mut Responses) {
        let line = match found {
            Found::Cut => return self.pairing.cut(),
            Found::Piece(Piece::TooLong) => {
                self.lines += 1;
                self.too_long += 1;
                return;
            }
            Found::Piece(Piece::Line([])) => return,
            Found::Piece(Piece::Line(line)) => line,
        };
        self.lines += 1;
        match parse_line(line) {
            Ok(Parsed::Question(line)) => self.pairing.take(&line, now_ms, out),
            Ok(Parsed::Remark) => self.remarks += 1,
            Ok(Parsed::Foreign) => self.foreign += 1,
            Err(_) => self.parse_errors += 1,
        }
    }

    /// As events of now, with what was lost since the last time.
    pub(super) fn events(&mut self, responses: Responses) -> Vec<Event> {
        let time_us = host::now_us();
        let answers = responses.into_iter().map(Kind::DnsResponse);
        let lost = self.pairing.stats().lost;
        let count = lost - std::mem::replace(&mut self.lost_told, lost);
        let gap = (count > 0).then(|| {
            Kind::Gap(Gap {
                cause: GapCause::LogLines.into(),
                count,
                detail: "lines of dnsmasq's log, or questions that should be in it".to_owned(),
                ..Gap::default()
            })
        });
        answers.chain(gap).map(|kind| Event { time_us, kind: Some(kind) }).collect()
    }

    /// Why it may be that nothing is heard.
    fn silence(&self) -> Option<&'static str> {
        if self.pairing.stats().questions > 0 || self.trouble.is_some() {
            return None;
        }
        let heard = self.started.elapsed();
        if heard >= NO_QUESTION && self.remarks > 0 {
            return Some(
                "dnsmasq writes its log, but no questions: set log-queries=extra (OpenWrt: uci set dhcp.@dnsmasq[0].logqueries=1)",
            );
        }
        (heard >= SILENT).then_some(
            "no DNS question was heard for ten minutes: is log-queries=extra set, and dns_log right?",
        )
    }
}

impl State for DnsLogState {
    fn figures(&self, out: &mut Vec<Figure>) {
        let stats = self.pairing.stats();
        let follow = self.follower.as_ref().map_or(self.follow_stats, |follower| follower.stats);
        for (name, help, value) in [
            ("dns_lines", "Lines of dnsmasq's log", self.lines),
            (
                "dns_parse_errors",
                "Lines of dnsmasq's log that were not understood",
                self.parse_errors + stats.bad_names,
            ),
            ("dns_log_lines_too_long", "Lines that were too long to be read", self.too_long),
            ("dns_log_lines_foreign", "Lines of other programs in the same log", self.foreign),
            ("dns_log_questions", "Questions in the log", stats.questions),
            ("dns_log_answers", "Answers told from the log", stats.answered),
            ("dns_log_unanswered", "Questions whose answer is not in the log", stats.unanswered),
            ("dns_log_repeated", "Questions asked again before they were answered", stats.repeated),
            ("dns_log_truncated", "Answers too long for UDP, asked for again over TCP", stats.truncated),
            ("dns_log_unpaired", "Answers whose question is not known", stats.unpaired),
            ("dns_log_records_left_out", "Records of very long answers", stats.records_left_out),
            ("dns_log_lost", "Lines or questions that the log lost", stats.lost),
            ("dns_log_looks", "Times the log was looked at", follow.looks),
            ("dns_log_rotations", "Rotations of the log by rename", follow.rotations),
            ("dns_log_truncations", "Rotations of the log by truncation", follow.truncations),
            (
                "dns_log_recovered_bytes",
                "Bytes read from the copy of a truncated log",
                follow.recovered_bytes,
            ),
        ] {
            out.push(Figure::counter(name, help, value));
        }
    }

    fn warnings(&self, out: &mut Vec<String>) {
        out.extend(self.trouble.clone());
        out.extend(self.silence().map(str::to_owned));
    }
}
