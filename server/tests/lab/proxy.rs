//! A way from the agent to the server that can hold back what it carries.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use crate::daemon::{PROXY_PORT, SERVER_PORT};
use crate::namespaces::SERVER;

/// Listens beside the server until the process ends.
pub(crate) struct Proxy {
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

/// A connection of the agent, and the one to the server that it is passed on to.
pub(crate) struct Connection {
    agent: TcpStream,
    server: TcpStream,
    /// What the agent has sent since it is held back. `None`: everything is passed on.
    held: Mutex<Option<Vec<u8>>>,
    answered: AtomicBool,
}

impl Proxy {
    /// Begins to listen.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((SERVER, PROXY_PORT))?;
        let connections = Arc::<Mutex<Vec<Arc<Connection>>>>::default();
        let opened = Arc::clone(&connections);
        thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                // Without a server the agent's connection just ends, too.
                let Ok(connection) = Connection::open(agent) else { continue };
                let (up, down) = (Arc::clone(&connection), Arc::clone(&connection));
                thread::spawn(move || up.pass_up());
                thread::spawn(move || down.pass_down());
                lock(&opened).push(connection);
            }
        });
        Ok(Self { connections })
    }

    /// Holds back whatever the agent sends on its present connections, and drops all answers to it.
    pub(crate) fn hold(&self) -> Vec<Arc<Connection>> {
        let held = std::mem::take(&mut *lock(&self.connections));
        for connection in &held {
            *lock(&connection.held) = Some(Vec::new());
        }
        held
    }

    /// Whether the server has said something on a connection since the last `hold`.
    pub(crate) fn has_answered(&self) -> bool {
        lock(&self.connections).iter().any(|connection| connection.answered.load(Ordering::Relaxed))
    }
}

impl Connection {
    fn open(agent: TcpStream) -> io::Result<Arc<Self>> {
        let server = TcpStream::connect((SERVER, SERVER_PORT))?;
        agent.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Arc::new(Self { agent, server, held: Mutex::new(None), answered: AtomicBool::new(false) }))
    }

    /// Ends it for the agent. The server hears nothing of that.
    pub(crate) fn cut(&self) {
        // It may have ended already.
        self.agent.shutdown(Shutdown::Both).ok();
    }

    /// Passes on what was held back. Returns how many bytes that were.
    pub(crate) fn release(&self) -> io::Result<usize> {
        let bytes = lock(&self.held).take().unwrap_or_default();
        (&self.server).write_all(&bytes)?;
        Ok(bytes.len())
    }

    fn pass_up(&self) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = (&self.agent).read(&mut buffer) {
            let mut held = lock(&self.held);
            let passed = match &mut *held {
                Some(held) => held.write_all(&buffer[..length]),
                None => (&self.server).write_all(&buffer[..length]),
            };
            if passed.is_err() {
                break;
            }
        }
        if lock(&self.held).is_none() {
            self.end();
        }
    }

    fn pass_down(&self) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = (&self.server).read(&mut buffer) {
            if lock(&self.held).is_none() {
                self.answered.store(true, Ordering::Relaxed);
                // Where the agent has gone, the server must not notice.
                (&self.agent).write_all(&buffer[..length]).ok();
            }
        }
        self.end();
    }

    fn end(&self) {
        // Either side may have ended already.
        self.agent.shutdown(Shutdown::Both).ok();
        self.server.shutdown(Shutdown::Both).ok();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}
