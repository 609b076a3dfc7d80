//! One remote host: what is known of it, and a button that asks whois.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};

use super::{App, Frame, WebError, render};
use crate::{
    store::{HostFilter, Page},
    web::{api::whois, format, lists::Pairs},
};

#[derive(Template)]
#[template(path = "host/page.html")]
struct HostPage {
    frame: Frame,
    address: String,
    name: Option<String>,
    network: String,
    country: String,
    first_seen: String,
    last_seen: String,
    flows: String,
    drops: String,
    /// What whois said, and when.
    whois: Option<(String, String)>,
    asks_whois: bool,
}

/// `GET /hosts/{address}`.
pub(in crate::web) async fn page(State(app): State<App>, Path(address): Path<String>) -> Response {
    match shown(&app, &address).await {
        Ok(page) => page,
        Err(error) => error.into_page(),
    }
}

async fn shown(app: &App, address: &str) -> Result<Response, WebError> {
    let address = whois::parse(address)?;
    let (host, said) = app
        .read(move |reader| {
            let filter = HostFilter { address: Some(address), ..HostFilter::default() };
            let host = reader.hosts(&filter, Page { before: None, limit: 1 })?.items.pop();
            Ok((host.ok_or(WebError::NotFound)?, reader.whois(address)?))
        })
        .await?;
    let network = app.enrichment.networks.find(address);
    let shown = address.to_string();
    let list = |path: &str| Pairs::default().link(path, &[("host", &shown)]);
    render(&HostPage {
        frame: Frame::new(app, "hosts"),
        name: host.name,
        country: network.country.clone().unwrap_or_default(),
        network: network.label(),
        first_seen: format::rfc3339(host.first_seen),
        last_seen: format::rfc3339(host.last_seen),
        flows: list("/flows"),
        drops: list("/drops"),
        whois: said.map(|(answer, asked)| (answer, format::rfc3339(asked))),
        asks_whois: app.whois_server.is_some(),
        address: shown,
    })
}

/// `POST /hosts/{address}/whois`: asks now, because a person pressed the button.
pub(in crate::web) async fn ask(State(app): State<App>, Path(address): Path<String>) -> Response {
    let asked = async {
        let address = whois::parse(&address)?;
        whois::asked(&app, address).await?;
        Ok::<_, WebError>(address)
    };
    match asked.await {
        Ok(address) => Redirect::to(&format!("/hosts/{address}")).into_response(),
        Err(error) => error.into_page(),
    }
}
