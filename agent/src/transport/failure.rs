//! Why a connection to the server failed, in words that say what to do.

use std::{error::Error, time::Duration};

use tonic::{Code, Status};

use crate::spool::NeverSent;

/// The end of an attempt or of a stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}; is netmon-server running there, and does the firewall let this host in?")]
    Connect(String),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    OtherProtocol(&'static str),
    #[error("no connection within {0:?}; is server_url right, and does the firewall let this host in?")]
    ConnectTimeout(Duration),
    #[error("connected, but no Welcome within {0:?}; is it a netmon-server, and is it alive?")]
    HelloTimeout(Duration),
    #[error("no acknowledgement within {0:?}; is the server overloaded, or its disk full?")]
    AckTimeout(Duration),
    #[error("the server refused the token: auth_token must equal the server's NETMON_API_TOKEN")]
    Token,
    #[error("the server does not know netmon.v1.Collector; is it a netmon-server of this version?")]
    NotNetmon,
    #[error("no answer within {0:?}; is the server overloaded, or its disk full?")]
    AnswerTimeout(Duration),
    #[error("the connection broke: {0}")]
    Broke(String),
    #[error("the server answered {0}")]
    Answer(u16),
    #[error("the server answered {0}: it has no /api/v1/netmon/events/batch; is server_url right?")]
    NoSuchPath(u16),
    #[error("the server refused a batch with {0}; it is tried again, then in parts")]
    Refused(u16),
    #[error("the server ended the stream")]
    Ended,
    #[error("the server said {code:?}: {message}")]
    Status { code: Code, message: String },
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    NeverSent(#[from] NeverSent),
}

impl Failure {
    pub(super) fn connect(error: &tonic::transport::Error) -> Self {
        Self::Connect(innermost(error))
    }

    /// The label of the metric that counts failures.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::ConnectTimeout(_)
            | Self::HelloTimeout(_)
            | Self::AckTimeout(_)
            | Self::AnswerTimeout(_) => "timeout",
            Self::Broke(_) => "broken",
            Self::Answer(status) | Self::NoSuchPath(status) | Self::Refused(status) => status_label(*status),
            Self::Token => "unauthenticated",
            Self::NotNetmon => "unimplemented",
            Self::Ended => "ended",
            Self::Status { .. } => "status",
            Self::OtherProtocol(_) | Self::Protocol(_) | Self::NeverSent(_) => "protocol",
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Token,
            Code::Unimplemented => Self::NotNetmon,
            code => {
                let own = status.message();
                let text = status.source().map_or_else(|| own.to_owned(), innermost);
                Self::Status { code, message: one_line(&text) }
            }
        }
    }
}

/// The usual ones by themselves, the rest by their class: a server must not choose how many labels there are.
fn status_label(status: u16) -> &'static str {
    const ALONE: [(u16, &str); 12] = [
        (400, "400"),
        (403, "403"),
        (404, "404"),
        (405, "405"),
        (408, "408"),
        (413, "413"),
        (422, "422"),
        (429, "429"),
        (500, "500"),
        (502, "502"),
        (503, "503"),
        (504, "504"),
    ];
    if let Some((_, label)) = ALONE.iter().find(|(known, _)| *known == status) {
        return label;
    }
    match status / 100 {
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The last cause of a chain of errors is the one that names the fact ("connection refused").
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    one_line(&last.to_string())
}

/// What a stranger wrote, fit for a log.
fn one_line(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
