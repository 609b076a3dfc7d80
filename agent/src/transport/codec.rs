//! Puts spooled batches on the wire as they are: a `Batch` on disk becomes an `AgentFrame` by a key and a
//! length before it, and the explanation of a hole, where there is one, by three fields behind it.

use bytes::BufMut;
use netmon_proto::v1::{AgentFrame, Hello, ServerFrame, agent_frame};
use prost::{Message, encoding::encode_varint};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::spool::{Explanation, Frame};

/// Key of `AgentFrame.batch` (field 2, length-delimited).
const BATCH_KEY: u8 = 0x12;
/// Keys of `Batch.lost_before`, `lost_events` and `lost_cause` (fields 2, 3 and 4, varints).
const LOST_KEYS: [u8; 3] = [0x10, 0x18, 0x20];

/// What goes up the stream.
#[derive(Debug)]
pub(super) enum Outgoing {
    Hello(Box<Hello>),
    Batch(Frame),
}

/// The codec of `Collector.Stream`.
#[derive(Debug, Default)]
pub(super) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Outgoing;
    type Decode = ServerFrame;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for FrameCodec {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match item {
            Outgoing::Hello(hello) => {
                let frame = AgentFrame { frame: Some(agent_frame::Frame::Hello(*hello)) };
                frame.encode(buf).map_err(|error| Status::internal(error.to_string()))
            }
            Outgoing::Batch(frame) => {
                buf.reserve(frame.payload.len() + 64);
                put_batch(&frame, buf);
                Ok(())
            }
        }
    }
}

impl Decoder for FrameCodec {
    type Item = ServerFrame;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<ServerFrame>, Status> {
        ServerFrame::decode(buf).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

fn put_batch(frame: &Frame, buf: &mut impl BufMut) {
    let mut lost = Vec::new();
    if let Some(Explanation { batches, events, cause }) = frame.lost {
        let cause = u64::try_from(cause as i32).unwrap_or(0);
        for (key, value) in LOST_KEYS.into_iter().zip([batches, events, cause]) {
            lost.put_u8(key);
            encode_varint(value, &mut lost);
        }
    }
    buf.put_u8(BATCH_KEY);
    encode_varint((frame.payload.len() + lost.len()) as u64, buf);
    buf.put_slice(&frame.payload);
    buf.put_slice(&lost);
}

#[cfg(test)]
mod tests {
    use netmon_proto::v1::{Batch, Event, GapCause};

    use super::*;

    #[test]
    fn a_spooled_batch_and_its_explanation_are_one_frame() {
        let mut batch =
            Batch { sequence: 900, events: vec![Event { time_us: 5, kind: None }], ..Batch::default() };
        let payload = batch.encode_to_vec().into();
        let mut frame = Frame { sequence: 900, events: 1, payload, lost: None };
        let decoded = |frame: &Frame| {
            let mut buf = Vec::new();
            put_batch(frame, &mut buf);
            AgentFrame::decode(&buf[..]).expect("a frame").frame
        };
        assert_eq!(decoded(&frame), Some(agent_frame::Frame::Batch(batch.clone())));

        frame.lost = Some(Explanation { batches: 300, events: 0, cause: GapCause::SpoolFull });
        (batch.lost_before, batch.lost_cause) = (300, GapCause::SpoolFull as i32);
        assert_eq!(decoded(&frame), Some(agent_frame::Frame::Batch(batch)));
    }
}
