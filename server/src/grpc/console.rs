//! `netmon.v1.Console`: the read side.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use netmon_proto::v1::{self, console_server::Console, event::Kind};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::{
    lists::{self, List},
    top,
};
use crate::{clock::Clock, enrich::Enrichment, ingest::Ingest, store::Reader};

/// See the module.
pub(super) struct ConsoleService {
    ingest: Ingest,
    reader: Reader,
    clock: Arc<dyn Clock>,
    known: Arc<Enrichment>,
}

impl ConsoleService {
    pub(super) fn new(ingest: Ingest, reader: Reader, clock: Arc<dyn Clock>, known: Arc<Enrichment>) -> Self {
        Self { ingest, reader, clock, known }
    }

    /// A page of a list, read off the runtime's workers.
    async fn list<L: List<Entry: Send> + Send + 'static>(
        &self,
        request: Request<L>,
    ) -> Result<(Vec<L::Entry>, v1::PageInfo), Status> {
        let (reader, known) = (self.reader.clone(), Arc::clone(&self.known));
        tokio::task::spawn_blocking(move || lists::answer(&reader, &known, request.into_inner()))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
    }
}

type Tail = Pin<Box<dyn Stream<Item = Result<v1::TailResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Console for ConsoleService {
    type TailStream = Tail;

    async fn list_routers(
        &self,
        request: Request<v1::ListRoutersRequest>,
    ) -> Result<Response<v1::ListRoutersResponse>, Status> {
        let (routers, page) = self.list(request).await?;
        Ok(Response::new(v1::ListRoutersResponse { routers, page: Some(page) }))
    }

    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        let (devices, page) = self.list(request).await?;
        Ok(Response::new(v1::ListDevicesResponse { devices, page: Some(page) }))
    }

    async fn list_flows(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<v1::ListFlowsResponse>, Status> {
        let (flows, page) = self.list(request).await?;
        Ok(Response::new(v1::ListFlowsResponse { flows, page: Some(page) }))
    }

    async fn list_dns(
        &self,
        request: Request<v1::ListDnsRequest>,
    ) -> Result<Response<v1::ListDnsResponse>, Status> {
        let (answers, page) = self.list(request).await?;
        Ok(Response::new(v1::ListDnsResponse { answers, page: Some(page) }))
    }

    async fn list_drops(
        &self,
        request: Request<v1::ListDropsRequest>,
    ) -> Result<Response<v1::ListDropsResponse>, Status> {
        let (drops, page) = self.list(request).await?;
        Ok(Response::new(v1::ListDropsResponse { drops, page: Some(page) }))
    }

    async fn list_top(
        &self,
        request: Request<v1::ListTopRequest>,
    ) -> Result<Response<v1::ListTopResponse>, Status> {
        let (reader, now) = (self.reader.clone(), self.clock.now());
        let answer = tokio::task::spawn_blocking(move || top::answer(&reader, request.get_ref(), now))
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(answer))
    }

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Tail>, Status> {
        let wanted = request.into_inner();
        if let Some(unknown) = wanted.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(Status::invalid_argument(format!(
                "kind {unknown:?} is not known, expected one of {}",
                KINDS.join(", ")
            )));
        }
        let mut events = self.ingest.tail();
        let stream = async_stream::stream! {
            loop {
                match events.recv().await {
                    Ok((router, event)) => {
                        let for_us = wanted.router_id.is_empty() || *wanted.router_id == *router;
                        let kind = kind_name(&event);
                        if for_us && (wanted.kinds.is_empty() || wanted.kinds.iter().any(|wanted| wanted == kind)) {
                            yield Ok(v1::TailResponse { router_id: router.to_string(), event: Some(event), missed: 0 });
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        yield Ok(v1::TailResponse { router_id: String::new(), event: None, missed });
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let (hosts, page) = self.list(request).await?;
        Ok(Response::new(v1::ListHostsResponse { hosts, page: Some(page) }))
    }

    async fn list_domains(
        &self,
        request: Request<v1::ListDomainsRequest>,
    ) -> Result<Response<v1::ListDomainsResponse>, Status> {
        let (domains, page) = self.list(request).await?;
        Ok(Response::new(v1::ListDomainsResponse { domains, page: Some(page) }))
    }

    async fn list_gaps(
        &self,
        request: Request<v1::ListGapsRequest>,
    ) -> Result<Response<v1::ListGapsResponse>, Status> {
        let (gaps, page) = self.list(request).await?;
        Ok(Response::new(v1::ListGapsResponse { gaps, page: Some(page) }))
    }
}

const KINDS: [&str; 9] = [
    "flow",
    "firewall_drop",
    "dns_response",
    "dns_bucket",
    "host_identity",
    "router_health",
    "heartbeat",
    "gap",
    "table_sync",
];

fn kind_name(event: &v1::Event) -> &'static str {
    match event.kind {
        None => "",
        Some(Kind::Flow(_)) => "flow",
        Some(Kind::FirewallDrop(_)) => "firewall_drop",
        Some(Kind::DnsResponse(_)) => "dns_response",
        Some(Kind::DnsBucket(_)) => "dns_bucket",
        Some(Kind::HostIdentity(_)) => "host_identity",
        Some(Kind::RouterHealth(_)) => "router_health",
        Some(Kind::Heartbeat(_)) => "heartbeat",
        Some(Kind::Gap(_)) => "gap",
        Some(Kind::TableSync(_)) => "table_sync",
    }
}
