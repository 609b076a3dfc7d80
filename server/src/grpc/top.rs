//! The console's rankings.

use netmon_proto::v1;
use tonic::Status;

use super::lists::{MAX_SIZE, figure};
use super::values::{failed, router, time, wrong};
use crate::{
    domain::Micros,
    enrich,
    ranking::{self, Question, RankingError},
    store::{Reader, TopBy, TopKey, TopRow},
};

/// Reads a ranking. Blocks.
pub(super) fn answer(
    reader: &Reader,
    request: &v1::ListTopRequest,
    now: Micros,
) -> Result<v1::ListTopResponse, Status> {
    if request.limit > MAX_SIZE {
        return Err(wrong("limit", request.limit, &format!("at most {MAX_SIZE}")));
    }
    let question = Question {
        by: by(request.by)?,
        router: router(reader, &request.router_id)?,
        from: time(request.from_us),
        to: time(request.to_us),
        limit: usize::try_from(request.limit).ok().filter(|limit| *limit != 0),
    };
    let list = ranking::read(reader, question, now).map_err(|error| match error {
        RankingError::Backwards => Status::invalid_argument(format!("from_us: {error}")),
        RankingError::Store(error) => failed(error),
    })?;
    Ok(v1::ListTopResponse {
        from_us: list.from,
        to_us: list.to,
        entries: list.rows.into_iter().map(entry).collect(),
    })
}

fn by(number: i32) -> Result<TopBy, Status> {
    Ok(match v1::TopBy::try_from(number) {
        Ok(v1::TopBy::Unspecified | v1::TopBy::Device) => TopBy::Device,
        Ok(v1::TopBy::Service) => TopBy::Service,
        Ok(v1::TopBy::Host) => TopBy::Host,
        Err(_) => return Err(wrong("by", number, "a netmon.v1.TopBy")),
    })
}

fn entry(row: TopRow) -> v1::TopEntry {
    let counters = row.sums.counters;
    let mut entry = v1::TopEntry {
        name: row.name.unwrap_or_default(),
        router_id: row.router_name.unwrap_or_default(),
        flows: figure(row.sums.flows),
        bytes_orig: figure(counters.bytes_orig),
        bytes_reply: figure(counters.bytes_reply),
        packets_orig: figure(counters.packets_orig),
        packets_reply: figure(counters.packets_reply),
        ..v1::TopEntry::default()
    };
    match row.key {
        TopKey::Address { id, address } => (entry.id, entry.address) = (id, address.to_string()),
        TopKey::Service { protocol, port } => {
            (entry.protocol, entry.port) = (protocol.into(), port.into());
            entry.name = enrich::service(protocol, port).unwrap_or_default().to_owned();
        }
        TopKey::Nobody => entry.set_rest(v1::TopRest::Nobody),
        TopKey::Others => entry.set_rest(v1::TopRest::Others),
    }
    entry
}
