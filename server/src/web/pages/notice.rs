//! The notice above every page, until somebody has read it.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};

use super::{App, WebError};
use crate::store::SET_ASIDE;

/// `POST /notice`: it was read.
pub(in crate::web) async fn acknowledge(State(app): State<App>) -> Result<Response, WebError> {
    app.ingest.chore(|writer| writer.forget_setting(SET_ASIDE)).await?;
    app.ingest.health().set_notice(None);
    Ok(Redirect::to("/").into_response())
}
