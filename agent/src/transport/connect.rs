//! From a URL to an open stream: connect, Hello, Welcome.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use netmon_proto::{
    MAX_MESSAGE_BYTES,
    v1::{Hello, ServerFrame, Welcome, server_frame},
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::{
    codec::{FrameCodec, Outgoing},
    connection::{Objection, Spoken},
    failure::Failure,
    tls::Tls,
};

const METHOD: &str = "/netmon.v1.Collector/Stream";
const USER_AGENT: &str = concat!("netmon-agent/", env!("CARGO_PKG_VERSION"));

/// A dead peer is noticed after the sum of both at the latest, even when nothing is being sent.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything one attempt needs; it owns it, so that the attempt can be polled from anywhere.
pub(super) struct Attempt {
    pub(super) url: String,
    pub(super) tls: Tls,
    /// A connection that is still good.
    pub(super) channel: Option<Channel>,
    pub(super) authorization: AsciiMetadataValue,
    pub(super) hello: Hello,
    pub(super) connect_timeout: Duration,
    pub(super) hello_timeout: Duration,
}

/// A stream that the server has welcomed.
pub(super) struct Opened {
    pub(super) channel: Channel,
    pub(super) sender: UnboundedSender<Outgoing>,
    pub(super) frames: Streaming<ServerFrame>,
    pub(super) welcome: Welcome,
}

impl Attempt {
    pub(super) async fn run(self) -> Result<Opened, Failure> {
        let hello_timeout = self.hello_timeout;
        let link = match self.channel {
            Some(channel) => Link { channel, objection: Objection::default() },
            None => connect(&self.url, &self.tls, self.connect_timeout).await?,
        };
        let greeting = greet(link.channel.clone(), self.authorization, self.hello);
        let opened = timeout(hello_timeout, greeting).await;
        opened.map_err(|_| Failure::HelloTimeout(hello_timeout))?.map_err(|failure| link.cause(failure))
    }
}

/// A connection, and what was found wrong with the first thing that the other side said.
pub(super) struct Link {
    pub(super) channel: Channel,
    objection: Objection,
}

impl Link {
    /// Why a call over it really failed.
    pub(super) fn cause(&self, failure: Failure) -> Failure {
        self.objection.get().map_or(failure, Failure::OtherProtocol)
    }
}

pub(super) async fn connect(url: &str, tls: &Tls, limit: Duration) -> Result<Link, Failure> {
    timeout(limit, dial(url, tls)).await.map_err(|_| Failure::ConnectTimeout(limit))?
}

async fn dial(url: &str, tls: &Tls) -> Result<Link, Failure> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(|error| Failure::connect(&error))?
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connection = tls.connect(url, Spoken::Http2).await?;
    let objection = connection.objection();
    // The channel gets this one connection; when it ends, the transport makes another attempt, with its delay.
    let mut once = Some(TokioIo::new(connection));
    let connector = service_fn(move |_| std::future::ready(once.take().ok_or("the connection has ended")));
    let channel = endpoint.connect_with_connector(connector).await;
    Ok(Link { channel: channel.map_err(|error| Failure::connect(&error))?, objection })
}

async fn greet(channel: Channel, authorization: AsciiMetadataValue, hello: Hello) -> Result<Opened, Failure> {
    // Unbounded, but never holds more than the window of events that the transport keeps to.
    let (sender, receiver) = unbounded_channel();
    // The receiver is in hand, so this cannot fail.
    let _ = sender.send(Outgoing::Hello(Box::new(hello)));
    let mut request = Request::new(UnboundedReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", authorization);

    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    client.ready().await.map_err(|error| Failure::connect(&error))?;
    let response = client.streaming(request, PathAndQuery::from_static(METHOD), FrameCodec).await?;
    let mut frames = response.into_inner();
    match frames.message().await?.ok_or(Failure::Ended)?.frame {
        Some(server_frame::Frame::Welcome(welcome)) => Ok(Opened { channel, sender, frames, welcome }),
        _ => Err(Failure::Protocol("its first frame was not a Welcome")),
    }
}
