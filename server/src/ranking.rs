//! Rankings as they are asked for, over HTTP and over gRPC alike: what stands for what was not said.

use crate::{
    domain::{Micros, RouterId},
    store::{Reader, StoreError, TopBy, TopFilter, TopList},
};

/// The rows of a ranking of which no number was said.
const DEFAULT_LIMIT: usize = 10;
/// The span of one of which no beginning was said.
const DEFAULT_SPAN: Micros = 24 * 60 * 60 * 1_000_000;
/// The end of the year 9999, the last that a time can be written in. No sum of times leaves 63 bits before it.
const LAST: Micros = 253_402_300_800_000_000;

/// A question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) by: TopBy,
    /// Seen by this router; `None`: by any.
    pub(crate) router: Option<RouterId>,
    /// `None`: a day before the end.
    pub(crate) from: Option<Micros>,
    /// `None`: now.
    pub(crate) to: Option<Micros>,
    pub(crate) limit: Option<usize>,
}

/// Why there is no ranking.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RankingError {
    /// The span ends where it begins, or before.
    #[error("expected a time before the end of the span, which is now where none is given")]
    Backwards,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who moved most. Blocks.
pub(crate) fn read(reader: &Reader, question: Question, now: Micros) -> Result<TopList, RankingError> {
    let to = question.to.unwrap_or(now).clamp(0, LAST);
    let from = question.from.unwrap_or(to - DEFAULT_SPAN).clamp(0, LAST);
    if from >= to {
        return Err(RankingError::Backwards);
    }
    let limit = question.limit.unwrap_or(DEFAULT_LIMIT);
    Ok(reader.top(&TopFilter { by: question.by, router: question.router, from, to, limit })?)
}
