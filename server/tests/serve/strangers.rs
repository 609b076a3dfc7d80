//! What somebody without the token may do: little.

use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{self, server_reflection_request::MessageRequest},
    v1alpha,
};

use crate::client::Agent;
use crate::server::Server;

fn health(agent: &Agent, service: String) -> Result<(), Status> {
    agent.call(|channel| async move {
        HealthClient::new(channel).check(HealthCheckRequest { service }).await.map(drop)
    })
}

fn reflection(agent: &Agent, host: String) -> Result<(), Status> {
    let message_request = Some(MessageRequest::FileContainingSymbol("netmon.v1.Console".to_owned()));
    let question = v1::ServerReflectionRequest { host, message_request };
    agent.call(|channel| async move {
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
        let mut answers = client.server_reflection_info(tokio_stream::iter([question])).await?.into_inner();
        answers
            .message()
            .await
            .and_then(|answer| answer.map(drop).ok_or_else(|| Status::out_of_range("no answer")))
    })
}

fn old_reflection(agent: &Agent, host: String) -> Result<(), Status> {
    use v1alpha::server_reflection_request::MessageRequest;
    let question = v1alpha::ServerReflectionRequest {
        host,
        message_request: Some(MessageRequest::ListServices("*".to_owned())),
    };
    agent.call(|channel| async move {
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
        let mut answers = client.server_reflection_info(tokio_stream::iter([question])).await?.into_inner();
        answers
            .message()
            .await
            .and_then(|answer| answer.map(drop).ok_or_else(|| Status::out_of_range("no answer")))
    })
}

#[test]
fn a_strangers_message_is_short() {
    let server = Server::start();
    let stranger = Agent::with_token(&server, "wrong");
    health(&stranger, "netmon.v1.Collector".to_owned()).unwrap();
    for ask in [health, reflection, old_reflection] {
        let refused = ask(&stranger, "x".repeat(5000)).unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    }
    reflection(&stranger, "netmon.example".to_owned()).unwrap();
    old_reflection(&stranger, "netmon.example".to_owned()).unwrap();
}

#[test]
fn a_strangers_form_is_small() {
    let server = Server::start();
    let small = format!("token={}", "x".repeat(4000));
    assert_eq!(server.post("/login", &small).status().as_u16(), 401);
    let large = format!("token={}", "x".repeat(5000));
    assert_eq!(server.post("/login", &large).status().as_u16(), 413);
}
