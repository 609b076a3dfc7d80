//! The lists: a page as JSON, or all of it as a file.

use axum::{Json, Router, extract::State, response::Response, routing::get};

use super::super::{
    App, WebError,
    lists::{
        Asked, DeviceItem, DeviceParams, DnsItem, DnsParams, DomainItem, DomainParams, DropItem, DropParams,
        FlowItem, FlowParams, Format, GapItem, GapParams, HostItem, HostParams, List, Listing, LiveParams,
        RouterItem, RouterParams, export, find, live,
    },
};

pub(super) fn router() -> Router<App> {
    list_routes(Router::new()).route("/live", get(live_flows))
}

async fn answer<L: Listing>(app: &App, params: &L) -> Result<Json<List<L::Item>>, WebError> {
    let found = find(app, params).await?;
    Ok(Json(List {
        items: found.rows.into_iter().map(|row| L::item(row, &app.enrichment)).collect(),
        next: found.next,
        total: found.count.total,
        total_capped: found.count.capped,
    }))
}

/// The three handlers of each list and their routes. A macro, because their descriptions must name types.
macro_rules! lists {
    ($($(#[$docs:meta])* $name:ident: $path:literal, $params:ty, $item:ty;)*) => {
        $(pub(super) mod $name {
            use super::*;

            $(#[$docs])*
            #[utoipa::path(
                get, path = $path, operation_id = stringify!($name), tag = "lists", params($params),
                responses((status = 200, description = "A part of the list", body = List<$item>)),
            )]
            pub(in super::super) async fn json(
                State(app): State<App>,
                asked: Asked<$params>,
            ) -> Result<Json<List<$item>>, WebError> {
                answer(&app, &asked.params).await
            }

            $(#[$docs])*
            ///
            /// CSV with a line of names first; nested fields have a dot in their names.
            #[utoipa::path(
                get, path = concat!($path, ".csv"), operation_id = concat!(stringify!($name), "_csv"),
                tag = "exports", params($params),
                responses((status = 200, description = "All of the list", body = String, content_type = "text/csv")),
            )]
            pub(in super::super) async fn csv(
                State(app): State<App>,
                asked: Asked<$params>,
            ) -> Result<Response, WebError> {
                export(app, asked.params, Format::Csv).await
            }

            $(#[$docs])*
            ///
            /// One item a line.
            #[utoipa::path(
                get, path = concat!($path, ".jsonl"), operation_id = concat!(stringify!($name), "_jsonl"),
                tag = "exports", params($params),
                responses((status = 200, description = "All of the list", body = String, content_type = "application/jsonl")),
            )]
            pub(in super::super) async fn json_lines(
                State(app): State<App>,
                asked: Asked<$params>,
            ) -> Result<Response, WebError> {
                export(app, asked.params, Format::JsonLines).await
            }
        })*

        fn list_routes(router: Router<App>) -> Router<App> {
            router$(
                .route(concat!("/", stringify!($name)), get($name::json))
                .route(concat!("/", stringify!($name), ".csv"), get($name::csv))
                .route(concat!("/", stringify!($name), ".jsonl"), get($name::json_lines))
            )*
        }
    };
}

lists! {
    /// Every router that ever reported.
    routers: "/api/v1/routers", RouterParams, RouterItem;
    /// Devices in the LANs.
    devices: "/api/v1/devices", DeviceParams, DeviceItem;
    /// Addresses outside.
    hosts: "/api/v1/hosts", HostParams, HostItem;
    /// Flows, open and ended together.
    flows: "/api/v1/flows", FlowParams, FlowItem;
    /// Answers to questions for names.
    dns: "/api/v1/dns", DnsParams, DnsItem;
    /// Packets that firewalls dropped.
    drops: "/api/v1/drops", DropParams, DropItem;
    /// Names that were asked for.
    domains: "/api/v1/domains", DomainParams, DomainItem;
    /// What is missing, and why; the newest first.
    gaps: "/api/v1/gaps", GapParams, GapItem;
}

/// Open flows, as they are in memory: some seconds ahead of `flows`. The newest come first.
#[utoipa::path(
    get, path = "/api/v1/live", operation_id = "live", tag = "lists", params(LiveParams),
    responses((status = 200, description = "A part of the list", body = List<FlowItem>)),
)]
pub(super) async fn live_flows(
    State(app): State<App>,
    asked: Asked<LiveParams>,
) -> Result<Json<List<FlowItem>>, WebError> {
    Ok(Json(live(&app, &asked.params).await?))
}
