//! What a browser or a script gets over HTTP: pages, live updates, JSON, metrics.
//!
//! Never names diesel, never writes. Every value from the network that reaches HTML goes through askama's
//! escaping; the Content-Security-Policy allows nothing inline and nothing from elsewhere.

mod api;
mod assets;
mod batch;
mod connection;
mod error;
mod format;
mod kept;
mod lists;
mod live_feed;
mod metrics;
mod pages;
mod session;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};

use tokio::sync::Semaphore;

pub use connection::{OverTls, Refusal, RefusedConnections};
pub(crate) use error::WebError;
pub use live_feed::LiveFeed;

use kept::Kept;

use crate::{
    auth::Token,
    clock::Clock,
    engine::LiveSnapshot,
    enrich::Enrichment,
    ingest::Ingest,
    store::{Reader, Totals},
};

/// What every handler may use.
#[derive(Clone)]
pub struct App {
    /// The road of events: live state and health.
    pub ingest: Ingest,
    /// The database, for reading.
    pub reader: Reader,
    /// Who may read.
    pub token: Token,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The live view, shared by all who look at it.
    pub live: Arc<LiveFeed>,
    /// What is known of hosts and devices from elsewhere.
    pub enrichment: Arc<Enrichment>,
    /// Where whois questions go first; `None`: nowhere.
    pub whois_server: Option<Arc<str>>,
    /// Connections that were refused, counted by the listener.
    pub refused: Arc<RefusedConnections>,
    /// What the metrics tell of the database; `None`: it did not answer.
    stored: Arc<Kept<Option<Arc<metrics::Stored>>>>,
    /// The sums over all tables; or why there are none.
    totals: Arc<Kept<Result<Totals, String>>>,
    /// A place for each export that may run.
    exports: Arc<Semaphore>,
    /// A place for each HTTP batch that may be in memory.
    bodies: Arc<Semaphore>,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        ingest: Ingest,
        reader: Reader,
        token: Token,
        clock: Arc<dyn Clock>,
        enrichment: Arc<Enrichment>,
        whois_server: Option<Arc<str>>,
    ) -> Self {
        let live = Arc::new(LiveFeed::new(ingest.clone()));
        let exports = Arc::new(Semaphore::new(lists::AT_ONCE));
        let bodies = Arc::new(Semaphore::new(batch::BODIES));
        let (refused, stored) = (Arc::default(), Arc::new(Kept::new(metrics::lasts)));
        Self {
            ingest,
            reader,
            token,
            clock,
            live,
            enrichment,
            whois_server,
            refused,
            stored,
            totals: Arc::new(Kept::new(api::totals_last)),
            exports,
            bodies,
        }
    }

    /// Reads from the database off the runtime's workers.
    async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Reader) -> Result<T, WebError> + Send + 'static,
    ) -> Result<T, WebError> {
        let reader = self.reader.clone();
        blocking(move || body(&reader)).await?
    }

    /// Looks at all that is open off the runtime's workers: there may be a hundred thousand.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&LiveSnapshot) -> T + Send + 'static,
    ) -> Result<T, WebError> {
        let snapshot = self.live.snapshot().await;
        blocking(move || look(&snapshot)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WebError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| WebError::Internal(error.to_string()))
}

/// All HTTP routes.
pub fn router(app: App) -> Router {
    let for_people = Router::new()
        .route("/", get(pages::live::page))
        .route("/live/events", get(pages::live::events))
        .route("/routers", get(pages::routers::page))
        .route("/flows", get(pages::flows::page))
        .route("/top", get(pages::top::page))
        .route("/devices", get(pages::devices::page))
        .route("/devices/{id}", get(pages::device::page))
        .route("/devices/{id}/name", axum::routing::post(pages::device::name))
        .route("/devices/{id}/merge", axum::routing::post(pages::device::merge))
        .route("/devices/{id}/split", axum::routing::post(pages::device::split))
        .route("/hosts", get(pages::hosts::page))
        .route("/hosts/{address}", get(pages::host::page))
        .route("/hosts/{address}/whois", axum::routing::post(pages::host::ask))
        .route("/gaps", get(pages::gaps::page))
        .route("/notice", axum::routing::post(pages::notice::acknowledge))
        .route("/dns", get(pages::dns::page))
        .route("/domains", get(pages::domains::page))
        .route("/drops", get(pages::drops::page))
        .nest("/api/v1", api::router())
        .route_layer(middleware::from_fn_with_state(app.clone(), session::require));
    Router::new()
        .merge(for_people)
        .route("/api/v1/netmon/events/batch", axum::routing::post(batch::post))
        .route("/up", get(up))
        .route("/metrics", get(metrics::page))
        .route("/login", pages::login::route())
        .route("/logout", axum::routing::post(pages::login::logout))
        .route("/assets/{name}", get(assets::serve))
        .fallback(error::not_found)
        .layer(middleware::from_fn(session::refuse_foreign))
        .layer(middleware::from_fn(security_headers))
        .with_state(app)
}

/// `GET /up`: 200 while what comes in is also committed.
async fn up(State(app): State<App>) -> Result<&'static str, WebError> {
    match app.ingest.health().failing() {
        None => Ok("up\n"),
        Some(why) => Err(WebError::Unavailable(why)),
    }
}

async fn security_headers(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
