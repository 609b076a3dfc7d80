//! Conntrack entries made and removed through ctnetlink: much faster than packets.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_CREATE: u16 = 0x400;
const CT_NEW: u16 = 1 << 8;
const CT_DELETE: u16 = 1 << 8 | 2;
const NESTED: u16 = 0x8000;
/// Messages of one system call.
const AT_ONCE: usize = 64;

/// Source address and port of a made-up UDP flow; the destination is always 198.51.100.1:53.
pub(crate) type Source = ([u8; 4], u16);

/// The `number`th of many different sources.
pub(crate) fn source(number: u32) -> Source {
    let [_, a, b, _] = (number << 2).to_be_bytes();
    ([10, 1, a, b], 1024 + (number % 50_000) as u16)
}

pub(crate) struct Injector {
    socket: Socket,
    message: Vec<u8>,
    count: usize,
}

impl Injector {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Injector { socket, message: Vec::new(), count: 0 })
    }

    /// Makes an entry that lives for `timeout_s`.
    pub(crate) fn create(&mut self, source: Source, timeout_s: u32) {
        let start = self.begin(CT_NEW, NLM_F_CREATE);
        self.tuple(1, source, false);
        self.tuple(2, source, true);
        self.attribute(7, &timeout_s.to_be_bytes());
        self.end(start);
    }

    /// Removes an entry.
    pub(crate) fn delete(&mut self, source: Source) {
        let start = self.begin(CT_DELETE, 0);
        self.tuple(1, source, false);
        self.end(start);
    }

    /// Removes every entry.
    pub(crate) fn flush_table(&mut self) {
        self.send();
        let start = self.begin(CT_DELETE, 0);
        // AF_UNSPEC: of all families.
        self.message[start + 16] = 0;
        self.end(start);
        self.send();
    }

    /// Sends what was collected.
    pub(crate) fn send(&mut self) {
        if !self.message.is_empty() {
            let sent = self.socket.send(&self.message, 0).expect("send to the kernel");
            assert_eq!(sent, self.message.len());
        }
        self.message.clear();
        self.count = 0;
    }

    fn begin(&mut self, message_type: u16, flags: u16) -> usize {
        let start = self.message.len();
        self.message.extend_from_slice(&[0; 4]);
        self.message.extend_from_slice(&message_type.to_ne_bytes());
        self.message.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.message.extend_from_slice(&[0; 8]);
        // nfgenmsg: AF_INET.
        self.message.extend_from_slice(&[2, 0, 0, 0]);
        start
    }

    fn end(&mut self, start: usize) {
        let length = (self.message.len() - start) as u32;
        self.message[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.count += 1;
        if self.count == AT_ONCE {
            self.send();
        }
    }

    fn tuple(&mut self, kind: u16, (address, port): Source, reversed: bool) {
        let (mut addresses, mut ports) = ([address, [198, 51, 100, 1]], [port, 53]);
        if reversed {
            addresses.reverse();
            ports.reverse();
        }
        self.nest(kind, |this| {
            this.nest(1, |this| {
                this.attribute(1, &addresses[0]);
                this.attribute(2, &addresses[1]);
            });
            this.nest(2, |this| {
                this.attribute(1, &[17]);
                this.attribute(2, &ports[0].to_be_bytes());
                this.attribute(3, &ports[1].to_be_bytes());
            });
        });
    }

    fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.message.len();
        self.message.extend_from_slice(&[0; 2]);
        self.message.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inner(self);
        let length = (self.message.len() - start) as u16;
        self.message[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.message.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.message.extend_from_slice(&kind.to_ne_bytes());
        self.message.extend_from_slice(value);
        self.message.resize(self.message.len().next_multiple_of(4), 0);
    }
}
