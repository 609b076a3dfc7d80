//! The server under a service manager: readiness, the watchdog, the end. The manager is the test.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::{Command, Stdio},
    time::Duration,
};

use crate::server::command;

fn hear(manager: &UnixDatagram) -> String {
    let mut text = [0; 256];
    // A child that ends meanwhile interrupts the call.
    let len = loop {
        match manager.recv(&mut text) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => break result.expect("a word within the time limit"),
        }
    };
    String::from_utf8_lossy(&text[..len]).trim().to_owned()
}

/// What NOTIFY_SOCKET says, and the socket that it names.
fn check(name: &str, manager: &UnixDatagram) {
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut server = command(data.path())
        .env("NOTIFY_SOCKET", name)
        .env("WATCHDOG_USEC", "200000")
        .env_remove("WATCHDOG_PID")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(hear(manager), "READY=1");
    for _ in 0..3 {
        assert_eq!(hear(manager), "WATCHDOG=1");
    }
    assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    let end = loop {
        match hear(manager) {
            word if word == "WATCHDOG=1" => {}
            word => break word,
        }
    };
    assert_eq!(end, "STOPPING=1");
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_service_manager_hears_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    check(path.to_str().unwrap(), &UnixDatagram::bind(&path).unwrap());
    // The name of an abstract socket (unix(7)) begins with a zero byte, for which "@" stands.
    let name = format!("netmon-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    check(&format!("@{name}"), &UnixDatagram::bind_addr(&address).unwrap());
}
