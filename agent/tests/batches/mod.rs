//! A strict server of JSON batches for tests: takes what the original agent posted and nothing else, and
//! misbehaves on request. A batch whose events are the same bytes as an earlier one's counts once.

use std::{
    collections::{HashSet, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The token that the server accepts.
pub(crate) const TOKEN: &str = "s3cret";

/// What the server does with one post. Without instructions it takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers with this status and takes nothing.
    Answer(u16),
    /// Answers 503 and asks for so many seconds of peace.
    Busy(u64),
    /// Reads the post and never answers.
    Hang,
    /// Reads the post, takes it, and resets the connection.
    TakeAndReset,
    /// Resets the connection in the middle of the post.
    Reset,
    /// Takes it, and says so in words that are no HTTP.
    Rubbish,
    /// Takes it, says 200, and never sends the rest of the answer.
    Stall,
}

/// One post that was taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Post {
    pub(crate) sent_at: String,
    /// The bytes between the brackets of `events`.
    pub(crate) raw: String,
    pub(crate) events: Vec<Value>,
}

/// What a server keeps.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) behaviours: VecDeque<Behaviour>,
    /// All posts that were read whole, with the status that they got, refused ones included.
    pub(crate) posts: Vec<(u16, Post)>,
    /// Events but heartbeats, counted once.
    pub(crate) events: Vec<Value>,
    pub(crate) heartbeats: usize,
    /// Posts whose events had been taken before.
    pub(crate) repeated: usize,
    /// What was not as the original agent did it.
    pub(crate) faults: Vec<String>,
    /// A post with this in it is refused with 422.
    pub(crate) poison: Option<String>,
    /// A post with more bytes is refused with 413. Zero: none is.
    pub(crate) largest: usize,
    pub(crate) connections: usize,
    taken: HashSet<String>,
}

/// The server and what it keeps, shared with the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct BatchServer {
    kept: Arc<Mutex<Kept>>,
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks all connections, and frees the port.
    pub(crate) fn stop(mut self) -> SocketAddr {
        self.end();
        self.address
    }

    fn end(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.stop.store(true, Ordering::Relaxed);
        for stream in self.streams.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        let _ = accepting.join();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl BatchServer {
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no test panics while it holds this")
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.kept().behaviours.push_back(behaviour);
    }

    /// Waits until the server has something, for so long at most.
    pub(crate) fn until(&self, limit: Duration, is_so: impl Fn(&Kept) -> bool) -> bool {
        let limit = Instant::now() + limit;
        while !is_so(&self.kept()) {
            if Instant::now() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    pub(crate) fn start(&self) -> Running {
        self.start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    pub(crate) fn start_at(&self, address: SocketAddr) -> Running {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (server, stopped, open) = (self.clone(), Arc::clone(&stop), Arc::clone(&streams));
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.expect("a connection");
                open.lock().expect("no panic").push(stream.try_clone().expect("a copy"));
                let server = server.clone();
                let open = Arc::clone(&open);
                thread::spawn(move || server.serve(&stream, &open));
            }
        });
        Running { address, stop, streams, accepting: Some(accepting) }
    }

    fn serve(&self, stream: &TcpStream, open: &Mutex<Vec<TcpStream>>) {
        self.kept().connections += 1;
        let peer = stream.peer_addr().ok();
        let mut reader = BufReader::new(stream);
        while self.answer(&mut reader, stream) == Some(true) {}
        // The last copy of it closes it.
        open.lock().expect("no panic").retain(|other| other.peer_addr().ok() != peer);
    }

    /// One post. `None`: the client has gone; false: the connection is of no more use.
    fn answer(&self, reader: &mut BufReader<&TcpStream>, mut stream: &TcpStream) -> Option<bool> {
        let head = read_head(reader)?;
        let behaviour = self.kept().behaviours.pop_front();
        if behaviour == Some(Behaviour::Reset) {
            reset(stream);
            return Some(false);
        }
        let length = header(&head, "content-length").and_then(|text| text.parse::<usize>().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let (mut status, mut taken) = (200, false);
        match behaviour {
            Some(Behaviour::Answer(said)) => status = said,
            Some(Behaviour::Busy(_)) => status = 503,
            Some(Behaviour::Hang) => {
                // Until somebody closes it.
                let _ = reader.read(&mut [0]);
                return Some(false);
            }
            _ => taken = true,
        }
        let (status, text) = self.judge(&head, &body, status, taken);
        let more = match behaviour {
            Some(Behaviour::TakeAndReset) => {
                reset(stream);
                return Some(false);
            }
            Some(Behaviour::Rubbish) => {
                stream.write_all(b"whatever\n\n").ok()?;
                return Some(false);
            }
            Some(Behaviour::Stall) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{").ok()?;
                let _ = reader.read(&mut [0]);
                return Some(false);
            }
            Some(Behaviour::Busy(seconds)) => format!("Retry-After: {seconds}\r\n"),
            _ => String::new(),
        };
        let length = text.len();
        let answer = format!("HTTP/1.1 {status} Whatever\r\n{more}Content-Length: {length}\r\n\r\n{text}");
        stream.write_all(answer.as_bytes()).ok()?;
        Some(true)
    }

    /// Looks at a post, and takes it if it may be taken. Gives the status and the text of the answer.
    fn judge(&self, head: &[String], body: &[u8], status: u16, may_take: bool) -> (u16, String) {
        let mut kept = self.kept();
        let post = match read_post(head, body) {
            Ok(post) => post,
            Err(Refused::Token) => return (401, "{}".to_owned()),
            Err(Refused::Fault(fault)) => {
                kept.faults.push(fault);
                return (400, "{}".to_owned());
            }
        };
        let poisoned = kept.poison.as_ref().is_some_and(|poison| post.raw.contains(poison));
        let too_large = kept.largest > 0 && body.len() > kept.largest;
        let status = match status {
            200 if too_large => 413,
            200 if poisoned => 422,
            status => status,
        };
        kept.posts.push((status, post.clone()));
        if !may_take || status != 200 {
            return (status, "{}".to_owned());
        }
        let accepted = post.events.len();
        if kept.taken.insert(post.raw) {
            let heartbeat = |event: &Value| event["type"] == "heartbeat";
            kept.heartbeats += post.events.iter().filter(|event| heartbeat(event)).count();
            kept.events.extend(post.events.into_iter().filter(|event| !heartbeat(event)));
        } else {
            kept.repeated += 1;
        }
        (status, format!("{{\"accepted\":{accepted},\"rejected\":0}}"))
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let mut fields = head.iter().skip(1).filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

enum Refused {
    Token,
    Fault(String),
}

fn read_post(head: &[String], body: &[u8]) -> Result<Post, Refused> {
    let fault = |what: &str| Refused::Fault(format!("{what}: {head:?} {}", String::from_utf8_lossy(body)));
    if head[0] != "POST /api/v1/netmon/events/batch HTTP/1.1" {
        return Err(fault("another request"));
    }
    if header(head, "content-type") != Some("application/json") || header(head, "host").is_none() {
        return Err(fault("a header is missing"));
    }
    if header(head, "authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Err(Refused::Token);
    }
    let text = std::str::from_utf8(body).map_err(|_| fault("not UTF-8"))?;
    let value: Value = serde_json::from_str(text).map_err(|_| fault("not JSON"))?;
    let keys: Vec<&String> = value.as_object().ok_or_else(|| fault("no object"))?.keys().collect();
    if keys.len() != 3 || value["router_id"] != "test" {
        return Err(fault("other keys"));
    }
    let sent_at = value["sent_at"].as_str().ok_or_else(|| fault("no sent_at"))?.to_owned();
    let events = value["events"].as_array().ok_or_else(|| fault("no events"))?.clone();
    for event in &events {
        let whole = event["type"].is_string() && event["ts"].is_string() && event["data"].is_object();
        if !whole || event.as_object().is_none_or(|event| event.len() != 3) {
            return Err(fault("not an event"));
        }
        if event["type"] == "heartbeat" && (events.len() > 1 || event["data"]["router_id"] != "test") {
            return Err(fault("not a heartbeat by itself"));
        }
    }
    let raw = text.split_once("\"events\":[").and_then(|(_, rest)| rest.strip_suffix("]}"));
    let raw = raw.ok_or_else(|| fault("another order"))?.to_owned();
    if events.is_empty() {
        return Err(fault("an empty batch"));
    }
    Ok(Post { sent_at, raw, events })
}

/// With a linger time of zero, closing a socket resets its connection (socket(7)).
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("set");
}
