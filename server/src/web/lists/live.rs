//! What is open now, from the writer's memory.

use super::{
    FlowItem, List, decoded,
    params::{list_params, page_size},
};
use crate::{
    cursor,
    engine::LiveSnapshot,
    store::Position,
    web::{App, WebError},
};

list_params! {
    /// Which part of the open flows; the newest come first.
    LiveParams {}
}

/// A part of the open flows.
pub(in crate::web) async fn live(app: &App, params: &LiveParams) -> Result<List<FlowItem>, WebError> {
    let (cursor, limit) = params.own_paging();
    let asked = params.own_without_paging();
    let before = cursor.map(|text| decoded("live", &asked, text)).transpose()?;
    let limit = page_size(limit)?;
    app.look(move |snapshot| newest(snapshot, &asked, before, limit)).await
}

fn newest(
    snapshot: &LiveSnapshot,
    asked: &LiveParams,
    before: Option<Position>,
    limit: usize,
) -> List<FlowItem> {
    let mut open: Vec<_> = snapshot.flows.iter().filter(|flow| flow.ended_at.is_none()).collect();
    let total = open.len() as u64;
    open.sort_unstable_by_key(|flow| std::cmp::Reverse(flow.record.id));
    open.retain(|flow| before.is_none_or(|before| flow.record.id.0 < before.id()));
    let more = open.len() > limit;
    open.truncate(limit);
    let next = open
        .last()
        .filter(|_| more)
        .map(|flow| cursor::encode("live", asked, Position::after_id(flow.record.id.0)));
    let items = open.into_iter().map(|flow| FlowItem::new(flow.router.to_string(), &flow.record)).collect();
    List { items, next, total, total_capped: false }
}
