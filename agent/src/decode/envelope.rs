//! The netlink messages of one datagram.

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of a subsystem, for its decoder.
    Message {
        /// `nlmsg_type`.
        message_type: u16,
        /// `nlmsg_flags`.
        flags: u16,
        /// What follows the header.
        payload: &'a [u8],
        /// NLM_F_DUMP_INTR: the table changed so much that the dump is not a consistent picture.
        interrupted: bool,
    },
    /// The end of a dump, with the errno that ended it, zero when all went well.
    Done {
        /// A positive errno, or zero.
        errno: i32,
        /// As in `Message`.
        interrupted: bool,
    },
    /// The answer to a request: a positive errno, or zero for an acknowledgement.
    Error(i32),
}

/// A datagram that does not split into messages. The rest of it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("netlink header at byte {0} does not fit its datagram")]
pub struct FrameError(pub usize);

/// Iterates over the messages of one datagram. After an error nothing more comes.
#[derive(Clone, Debug)]
pub struct Envelopes<'a> {
    datagram: &'a [u8],
    position: usize,
}

impl<'a> Envelopes<'a> {
    /// Over the messages in `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Envelopes { datagram, position: 0 }
    }
}

impl<'a> Iterator for Envelopes<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.position;
            let rest = self.datagram.get(start..).filter(|rest| !rest.is_empty())?;
            let Some((length, message_type, flags, payload)) = split(rest) else {
                self.position = self.datagram.len();
                return Some(Err(FrameError(start)));
            };
            self.position = start.saturating_add(length.next_multiple_of(4));
            let interrupted = flags & NLM_F_DUMP_INTR != 0;
            return Some(Ok(match message_type {
                NLMSG_NOOP => continue,
                // Both begin with an errno, negative. A kernel that leaves it out means zero.
                NLMSG_ERROR => Frame::Error(errno(payload)),
                NLMSG_DONE => Frame::Done { errno: errno(payload), interrupted },
                _ => Frame::Message { message_type, flags, payload, interrupted },
            }));
        }
    }
}

fn split(rest: &[u8]) -> Option<(usize, u16, u16, &[u8])> {
    let header = rest.first_chunk::<HEADER_BYTES>()?;
    let [l0, l1, l2, l3, t0, t1, f0, f1, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
    let payload = rest.get(HEADER_BYTES..length)?;
    Some((length, u16::from_ne_bytes([t0, t1]), u16::from_ne_bytes([f0, f1]), payload))
}

fn errno(payload: &[u8]) -> i32 {
    payload.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes).saturating_neg())
}
