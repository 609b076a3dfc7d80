//! The gRPC services: `collector` takes what agents report, `console` is the read side for `grpcurl`
//! and scripts. Both only translate between the protocol and [`crate::ingest`] or [`crate::store`].

mod collector;
mod console;
mod hosts;
mod lists;
mod routers;
mod top;
mod values;

use std::sync::Arc;

use netmon_proto::{
    MAX_MESSAGE_BYTES,
    v1::{collector_server::CollectorServer, console_server::ConsoleServer},
};
use tonic::{Request, Status, service::Routes};

use crate::{auth::Token, clock::Clock, enrich::Enrichment, ingest::Ingest, store::Reader};

/// The largest question of health and reflection, which need no token: names of services and symbols.
const MAX_OPEN_MESSAGE_BYTES: usize = 4096;

/// Everything that speaks gRPC: both services, health, and reflection in both its versions.
///
/// # Errors
/// The embedded descriptors do not decode, which a test would have shown.
pub async fn routes(
    ingest: Ingest,
    reader: Reader,
    token: Token,
    clock: Arc<dyn Clock>,
    known: Arc<Enrichment>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let collector = collector::CollectorService::new(ingest.clone(), clock.clone());
    let console = console::ConsoleService::new(ingest, reader, clock, known);
    let check = move |request: Request<()>| authorize(&token, request);

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CollectorServer<collector::CollectorService>>().await;
    health.set_serving::<ConsoleServer<console::ConsoleService>>().await;

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(netmon_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let collector = CollectorServer::new(collector).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let console = ConsoleServer::new(console).max_decoding_message_size(64 * 1024);
    let mut routes = Routes::builder();
    routes
        .add_service(tonic::service::interceptor::InterceptedService::new(collector, check.clone()))
        .add_service(tonic::service::interceptor::InterceptedService::new(console, check))
        .add_service(health_service.max_decoding_message_size(MAX_OPEN_MESSAGE_BYTES))
        .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_OPEN_MESSAGE_BYTES))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_OPEN_MESSAGE_BYTES));
    Ok(routes.routes())
}

fn authorize(token: &Token, request: Request<()>) -> Result<Request<()>, Status> {
    let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if token.accepts_header(given) {
        Ok(request)
    } else {
        Err(Status::unauthenticated(
            "expected metadata `authorization: Bearer TOKEN` with this server's token",
        ))
    }
}
