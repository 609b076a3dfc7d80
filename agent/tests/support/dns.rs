//! A name server of the internet and clients of the LAN, without a DNS library: what the agent makes of the
//! same messages is compared with what is found here.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use super::network::Host;

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const PTR: u16 = 12;
pub(crate) const MX: u16 = 15;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const HTTPS: u16 = 65;

/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(15);

/// One record, as text: owner, type, and its data where a log tells it.
pub(crate) type Record = (String, u16, String);

/// A question and its answer, as a client saw them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exchange {
    pub(crate) client: IpAddr,
    pub(crate) name: String,
    pub(crate) rr_type: u16,
    pub(crate) rcode: u16,
    pub(crate) answers: BTreeSet<Record>,
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The name at this place, and what follows it there.
fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let (mut labels, mut end) = (Vec::new(), None);
    loop {
        let len = usize::from(message[at]);
        if len >= 0xc0 {
            end.get_or_insert(at + 2);
            at = (len & 0x3f) << 8 | usize::from(message[at + 1]);
        } else if len == 0 {
            return (labels.join("."), end.unwrap_or(at + 1));
        } else {
            labels.push(String::from_utf8_lossy(&message[at + 1..at + 1 + len]).to_lowercase());
            at += 1 + len;
        }
    }
}

fn number_at(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

/// Answers for every name, by its first letters. It serves until this program ends.
pub(crate) fn serve(host: &Host, address: IpAddr) {
    let (udp, tcp) = host.within(|| {
        (
            UdpSocket::bind((address, 53)).expect("a socket"),
            TcpListener::bind((address, 53)).expect("a socket"),
        )
    });
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, client)) = udp.recv_from(&mut buffer) {
            let (question, udp) = (buffer[..len].to_vec(), udp.try_clone().expect("a socket"));
            thread::spawn(move || {
                let (answer, pause) = answer_to(&question, true);
                thread::sleep(pause);
                let _ = udp.send_to(&answer, client);
            });
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            thread::spawn(move || serve_tcp(stream));
        }
    });
}

fn serve_tcp(mut stream: TcpStream) {
    let mut len = [0; 2];
    while stream.read_exact(&mut len).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut question).expect("a question");
        let (answer, _) = answer_to(&question, false);
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend(answer);
        stream.write_all(&framed).expect("sent");
    }
}

fn answer_to(question: &[u8], udp: bool) -> (Vec<u8>, Duration) {
    let (name, end) = name_at(question, 12);
    let rr_type = number_at(question, end);
    let mut records: Vec<(String, u16, Vec<u8>)> = Vec::new();
    let (mut rcode, mut truncated) = (0_u16, false);
    let mut owner = name.clone();
    let chain: &[&str] = match name.split(['-', '.']).next().unwrap_or_default() {
        "chain" => &["middle.test", "end.test"],
        "chainnx" => &["nxend.test"],
        "chainempty" => &["emptyend.test"],
        _ => &[],
    };
    for target in chain {
        records.push((owner, CNAME, name_bytes(target)));
        owner = (*target).to_owned();
    }
    match owner.split(['-', '.']).next().unwrap_or_default() {
        "fail" => rcode = 2,
        "refused" => rcode = 5,
        "nx" | "nxend" => rcode = 3,
        "empty" | "emptyend" => {}
        "big" if udp => truncated = true,
        _ => {
            let data: Vec<Vec<u8>> = match rr_type {
                A if name.starts_with("big") => (1..=60).map(|last| vec![198, 51, 100, last]).collect(),
                A => vec![vec![198, 51, 100, 80], vec![198, 51, 100, 81]],
                AAAA => vec![[&[0x20, 1, 0xd, 0xb8, 0, 0x51][..], &[0; 9], &[0x80]].concat()],
                TXT => vec![b"\x0bv=spf1 -all".to_vec(), b"\x0810.0.0.1".to_vec()],
                PTR => vec![name_bytes("pointed.test")],
                MX => vec![[&[0, 10][..], &name_bytes("mail.test")].concat()],
                HTTPS => vec![vec![0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2']],
                _ => Vec::new(),
            };
            records.extend(data.into_iter().map(|data| (owner.clone(), rr_type, data)));
        }
    }
    let flags = 0x8180 | rcode | u16::from(truncated) << 9;
    let mut answer = question[..2].to_vec();
    for number in [flags, 1, records.len() as u16, 0, 0] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(&question[12..end + 4]);
    for (owner, rr_type, data) in records {
        answer.extend(name_bytes(&owner));
        answer.extend([&rr_type.to_be_bytes()[..], &[0, 1, 0, 0, 1, 44]].concat());
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    let pause = if name.starts_with("slow") { 300 } else { 0 };
    (answer, Duration::from_millis(pause))
}

/// A client with an address of its own.
#[derive(Debug)]
pub(crate) struct Client {
    address: IpAddr,
    server: SocketAddr,
    socket: UdpSocket,
    asked: u16,
}

impl Client {
    pub(crate) fn new(host: &Host, address: IpAddr, server: IpAddr) -> Self {
        let socket = host.within(|| UdpSocket::bind((address, 0)).expect("a socket"));
        socket.set_read_timeout(Some(LIMIT)).expect("set");
        Self { address, server: (server, 53).into(), socket, asked: 0 }
    }

    /// Something that may be part of a name, of this client alone.
    pub(crate) fn label(&self) -> String {
        self.address.to_string().replace(['.', ':'], "x")
    }

    fn question(number: u16, name: &str, rr_type: u16) -> Vec<u8> {
        let mut question = number.to_be_bytes().to_vec();
        question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        question.extend(name_bytes(name));
        question.extend([&rr_type.to_be_bytes()[..], &[0, 1]].concat());
        question
    }

    /// Asks for addresses, and does not wait for an answer.
    pub(crate) fn send_only(&self, name: &str) {
        // Nobody may listen yet.
        let _ = self.socket.send_to(&Self::question(0, name, A), self.server);
    }

    /// Asks once, over TCP where the answer is too long for UDP.
    pub(crate) fn ask(&mut self, host: &Host, name: &str, rr_type: u16) -> Exchange {
        self.asked += 1;
        let question = Self::question(self.asked, name, rr_type);
        self.socket.send_to(&question, self.server).expect("sent");
        let mut buffer = [0; 4096];
        let len = loop {
            let len =
                self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{name} {rr_type}: {error}"));
            if number_at(&buffer, 0) == self.asked {
                break len;
            }
        };
        if buffer[2] & 2 == 0 {
            return self.read(&buffer[..len]);
        }
        let answer = host.within(|| {
            let mut stream = connect_from(self.address, self.server);
            let framed = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
            stream.write_all(&framed).expect("sent");
            let mut len = [0; 2];
            stream.read_exact(&mut len).expect("a length");
            let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut answer).expect("an answer");
            answer
        });
        self.read(&answer)
    }

    fn read(&self, message: &[u8]) -> Exchange {
        let (name, end) = name_at(message, 12);
        let rr_type = number_at(message, end);
        let mut at = end + 4;
        let mut answers = BTreeSet::new();
        for _ in 0..number_at(message, 6) {
            let (owner, end) = name_at(message, at);
            let (rr_type, len) = (number_at(message, end), usize::from(number_at(message, end + 8)));
            let data = end + 10;
            let bytes = &message[data..data + len];
            let text = match (rr_type, len) {
                (A, 4) => IpAddr::from(<[u8; 4]>::try_from(bytes).expect("four")).to_string(),
                (AAAA, 16) => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("sixteen")).to_string(),
                (CNAME | PTR, _) => name_at(message, data).0,
                (TXT, _) => String::from_utf8_lossy(&bytes[1..]).into_owned(),
                // A log has no more than the type.
                _ => String::new(),
            };
            answers.insert((owner, rr_type, text));
            at = data + len;
        }
        Exchange { client: self.address, name, rr_type, rcode: u16::from(message[3] & 15), answers }
    }
}

/// A device has several addresses here, so the kernel must not choose.
fn connect_from(address: IpAddr, server: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let own = socket(family, SocketType::STREAM, None).expect("a socket");
    bind(&own, &SocketAddr::new(address, 0)).expect("bound");
    connect(&own, &server).expect("connected");
    TcpStream::from(own)
}
