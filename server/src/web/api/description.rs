//! `GET /api/v1/openapi.json`: what is here, made from the types that do it.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Schema, Type,
        path::Parameter,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{lists, top, totals, whois};
use crate::web::{batch, lists::MOST_ROWS};

/// The description.
#[derive(OpenApi)]
#[openapi(
    info(title = "netmon", description = "Who on the LAN talks to whom: what netmon-server shows, and the original agent's way in."),
    paths(
        lists::routers::json, lists::routers::csv, lists::routers::json_lines,
        lists::devices::json, lists::devices::csv, lists::devices::json_lines,
        lists::hosts::json, lists::hosts::csv, lists::hosts::json_lines,
        lists::flows::json, lists::flows::csv, lists::flows::json_lines,
        lists::dns::json, lists::dns::csv, lists::dns::json_lines,
        lists::drops::json, lists::drops::csv, lists::drops::json_lines,
        lists::domains::json, lists::domains::csv, lists::domains::json_lines,
        lists::gaps::json, lists::gaps::csv, lists::gaps::json_lines,
        lists::live_flows, top::json, top::csv, totals::totals, whois::show, whois::ask, batch::post,
    ),
    modifiers(&Common),
)]
struct Description;

/// What all operations have in common: the token, and how they fail.
struct Common;

impl Modify for Common {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        let error = Object::builder()
            .property("error", Object::with_type(Type::String))
            .required("error")
            .description(Some("Why the request was not answered"));
        components.schemas.insert("Error".to_owned(), error.build().into());
        let failures = [
            ("400", "A parameter is unknown or its value is not what it takes"),
            ("401", "No or wrong token"),
            ("503", "The database cannot be read now"),
        ];
        for (status, text) in failures {
            components.responses.insert(status.to_owned(), RefOr::T(failure(text)));
        }
        description.security = Some(vec![SecurityRequirement::new("token", std::iter::empty::<String>())]);
        for (path, item) in &mut description.paths.paths {
            // A ranking has one limit for both.
            let is_file = path.contains('.') && path != "/api/v1/top.csv";
            let parameters = item.get.iter_mut().flat_map(|get| get.parameters.iter_mut().flatten());
            for parameter in parameters.filter(|_| is_file) {
                if let RefOr::T(Parameter { name, schema: Some(RefOr::T(Schema::Object(number))), .. }) =
                    parameter
                    && name == "limit"
                {
                    number.maximum = Some(MOST_ROWS.into());
                }
            }
            for operation in item.get.iter_mut().chain(&mut item.post) {
                for (status, _) in failures {
                    let response = Ref::new(format!("#/components/responses/{status}"));
                    operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::Ref(response));
                }
            }
        }
    }
}

fn failure(text: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
    ResponseBuilder::new().description(text).content("application/json", content).build()
}

pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}
