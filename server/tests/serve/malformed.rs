//! Frames of gRPC in which there is no message of the protocol: their call ends with a reason, and nobody else's.

use std::time::Duration;

use netmon_proto::v1::{self, collector_client::CollectorClient, server_frame};
use prost::{Message as _, bytes::Buf as _, bytes::BufMut as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use crate::client::{self, Agent};
use crate::server::Server;

/// Sends bytes as they are, and gives those that come.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, frame: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, frame: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; frame.remaining()];
        frame.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

async fn client(channel: &Channel) -> Grpc<Channel> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    client
}

async fn report(agent: &Agent, channel: &Channel, bytes: &[u8]) -> Result<v1::Ack, Status> {
    let path = PathAndQuery::from_static("/netmon.v1.Collector/Report");
    let request = agent.authorized(bytes.to_vec());
    let answer = client(channel).await.unary(request, path, Raw).await?.into_inner();
    Ok(v1::Ack::decode(&answer[..]).unwrap())
}

/// Sends these frames and closes its side. Gives the last sequence that was acknowledged.
async fn stream(agent: &Agent, channel: &Channel, frames: Vec<Vec<u8>>) -> Result<u64, Status> {
    let path = PathAndQuery::from_static("/netmon.v1.Collector/Stream");
    let request = agent.authorized(tokio_stream::iter(frames));
    let mut answers = client(channel).await.streaming(request, path, Raw).await?.into_inner();
    let mut last = 0;
    while let Some(answer) = answers.message().await? {
        if let Some(server_frame::Frame::Ack(ack)) = v1::ServerFrame::decode(&answer[..]).unwrap().frame {
            last = ack.sequence;
        }
    }
    Ok(last)
}

/// Messages that are broken, each in its way, made of a good one.
fn broken(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let behind = |tail: &[u8]| [good, tail].concat();
    vec![
        ("words", b"no message at all".to_vec()),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("a varint without end behind it", behind(&[0xff; 11])),
        ("a field with the number 0", behind(&[0x00, 0x01])),
        ("a type of field that there is not", behind(&[0x0f])),
        ("a length of 2^63", behind(&[0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        ("a group that does not end", behind(&[0x7b])),
        ("groups in groups", behind(&[0x7b; 100_000])),
        ("a field of another type", behind(&[0x0d, 0, 0, 0, 0])),
    ]
}

#[test]
fn a_message_that_is_none_harms_its_own_call_alone() {
    let server = Server::start();
    let agent = Agent::new(&server);
    let all = async |channel: Channel| {
        // A stream on the same connection that goes on all the time.
        let (frames, sent) = mpsc::unbounded_channel();
        let request = agent.authorized(UnboundedReceiverStream::new(sent));
        frames.send(client::hello("attic", 7, 1)).unwrap();
        let answers = CollectorClient::new(channel.clone()).stream(request).await;
        let mut answers = answers.unwrap().into_inner();
        assert!(matches!(
            answers.message().await.unwrap().unwrap().frame,
            Some(server_frame::Frame::Welcome(_))
        ));
        let mut sequence = 0;
        let mut goes_on = async || {
            sequence += 1;
            frames.send(client::batch(sequence, vec![client::ended(sequence)])).unwrap();
            match answers.message().await.unwrap().unwrap().frame {
                Some(server_frame::Frame::Ack(ack)) => {
                    assert_eq!((ack.sequence, ack.accepted), (sequence, 1))
                }
                other => panic!("{other:?}"),
            }
            sequence
        };

        let events = vec![client::ended(1_000_000)];
        let batch =
            v1::Batch { router_id: "cellar".to_owned(), events: events.clone(), ..v1::Batch::default() };
        for (what, bytes) in broken(&batch.encode_to_vec()) {
            let refused = report(&agent, &channel, &bytes).await.expect_err(what);
            assert_eq!(refused.code(), Code::Internal, "{what}: {refused}");
            assert!(refused.message().contains("decode"), "{what}: {refused}");
            goes_on().await;
        }
        let hello = client::hello("cellar", 9, 1).encode_to_vec();
        let frame = client::batch(1, events).encode_to_vec();
        for (what, bytes) in broken(&frame) {
            for frames in [vec![bytes.clone()], vec![hello.clone(), bytes]] {
                let refused = stream(&agent, &channel, frames).await.expect_err(what);
                assert_eq!(refused.code(), Code::Internal, "{what}: {refused}");
                assert!(refused.message().contains("decode"), "{what}: {refused}");
            }
            goes_on().await;
        }
        // Nothing of it was stored, not even what stood before the fault.
        let sequence = goes_on().await;
        assert_eq!(server.total("/api/v1/flows"), sequence);
        // The same without a fault is taken.
        assert_eq!(stream(&agent, &channel, vec![hello, frame]).await.unwrap(), 1);
        assert_eq!(report(&agent, &channel, &batch.encode_to_vec()).await.unwrap().accepted, 1);
        assert!(server.read("/api/v1/totals").1.contains("\"agree\":true"));
    };
    agent.call(async |channel| {
        tokio::time::timeout(Duration::from_secs(60), all(channel)).await.expect("every call is answered");
    });
}
