//! Asks the server whether it is there and takes the token, without being an agent to it.

use netmon_proto::v1::{ListRoutersRequest, PageRequest, Router, console_client::ConsoleClient};
use tokio::time::timeout;
use tonic::Request;

use super::{TransportConfig, connect::connect, failure::Failure};

/// As large as a page may be: others may have a name with ours in it.
const MOST_ROUTERS: u32 = 1000;

/// Why a server did not say what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// It is a netmon-server and answers, but not to this token.
    pub token_refused: bool,
    /// For a person, with the remedy.
    pub why: String,
}

impl TransportConfig {
    /// What each server says: the router as it knows it (none: it has not heard of it yet), or why it does
    /// not answer.
    pub async fn probe(&self) -> Vec<(String, Result<Option<Router>, Unanswered>)> {
        let mut answers = Vec::new();
        for url in &self.urls {
            let answer = self.ask(url).await.map_err(|failure| Unanswered {
                token_refused: matches!(failure, Failure::Token),
                why: failure.to_string(),
            });
            answers.push((url.clone(), answer));
        }
        answers
    }

    async fn ask(&self, url: &str) -> Result<Option<Router>, Failure> {
        let link = connect(url, &self.tls, self.connect_timeout).await?;
        let mut client = ConsoleClient::new(link.channel.clone());
        let page = PageRequest { size: MOST_ROUTERS, ..PageRequest::default() };
        let mut request = Request::new(ListRoutersRequest {
            page: Some(page),
            text: self.router_id.clone(),
            ..ListRoutersRequest::default()
        });
        request.metadata_mut().insert("authorization", self.authorization.clone());
        let answer = timeout(self.hello_timeout, client.list_routers(request)).await;
        let answer = answer.map_err(|_| Failure::HelloTimeout(self.hello_timeout))?;
        let routers = answer.map_err(|status| link.cause(status.into()))?.into_inner().routers;
        Ok(routers.into_iter().find(|router| router.router_id == self.router_id))
    }
}
