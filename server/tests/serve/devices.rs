//! The page of a device, and what a person may say of it.

use netmon_proto::v1::{self, event::Kind};

use crate::client::{self, Agent};
use crate::lists::filled;
use crate::server::Server;

fn post(server: &Server, path: &str, form: &str) -> (u16, String) {
    let mut answer = server.post_as_reader(path, form);
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), location.unwrap_or(body))
}

#[test]
fn a_person_names_a_device() {
    let server = filled(3);
    let (status, page) = server.read("/devices/1");
    assert_eq!(status, 200);
    assert!(
        page.contains("<h1>192.168.1.20</h1>") && page.contains("href=\"/flows?device=192.168.1.20"),
        "{page}"
    );
    assert!(page.contains("100 % of"), "no name explains what it moved: {page}");
    // Without a session nothing changes: a form of another site brings no cookie (SameSite=Strict).
    assert_eq!(server.post("/devices/1/name", "name=Anna").status().as_u16(), 401);
    assert!(server.read("/devices/1").1.contains("<h1>192.168.1.20</h1>"));

    let hostile = "name=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    assert_eq!(post(&server, "/devices/1/name", hostile), (303, "/devices/1".to_owned()));
    for path in ["/devices/1", "/devices"] {
        let (_, page) = server.read(path);
        assert!(page.contains("&#60;script&#62;alert(1)"), "{path}: {page}");
        assert!(!page.contains("<script>alert"), "{path}: {page}");
    }
    assert_eq!(server.total("/api/v1/devices?q=ALERT"), 1);
    assert_eq!(server.total("/api/v1/devices?q=nobody"), 0);

    for (path, form, status, expected) in [
        ("/devices/1/name", "name=++", 400, "name: expected 1 to 100 bytes"),
        ("/devices/1/name", "name=a%00", 400, "name: expected 1 to 100 bytes"),
        ("/devices/99/name", "name=x", 404, "nothing at this address"),
        ("/devices/1/merge", "address=here", 400, "address: expected the IPv4 or IPv6 address"),
        ("/devices/1/merge", "address=192.168.1.99", 400, "no device behind this router has 192.168.1.99"),
        ("/devices/1/merge", "address=192.168.1.20", 400, "these two are one device already"),
        ("/devices/1/split", "", 400, "not part of another one"),
    ] {
        let (given, body) = post(&server, path, form);
        assert!(given == status && body.contains(expected), "{path} {form}: {given} {body}");
    }
    assert_eq!(server.read("/devices/99").0, 404);
}

/// A page on another port of the same host is of the same site, and its form has the cookie.
#[test]
fn a_form_of_another_origin_changes_nothing() {
    let server = filled(3);
    let login = format!("token={}", crate::server::TOKEN);
    for (path, form) in
        [("/devices/1/name", "name=Anna"), ("/login", login.as_str()), ("/logout", ""), ("/notice", "")]
    {
        for site in ["cross-site", "same-site"] {
            let mut answer = server.post_from(site, path, form);
            let page = answer.body_mut().read_to_string().unwrap();
            assert!(
                answer.status() == 403 && page.contains("a page of another site"),
                "{path} {site}: {page}"
            );
            assert!(answer.headers().get("set-cookie").is_none(), "{path} {site}");
        }
        assert_eq!(server.post_from("same-origin", path, form).status().as_u16(), 303, "{path}");
    }
    assert!(server.read("/devices/1").1.contains("<h1>Anna</h1>"));
    // What only reads may be followed from anywhere.
    let linked = server.request("/login").header("Sec-Fetch-Site", "cross-site").call().unwrap();
    assert_eq!(linked.status().as_u16(), 200);
}

#[test]
fn a_person_merges_two_devices_and_splits_them_again() {
    let server = filled(3);
    let mut other = client::ended(9);
    if let Some(Kind::Flow(flow)) = &mut other.kind {
        flow.src_ip = vec![192, 168, 1, 21].into();
    }
    Agent::new(&server).report("attic", vec![other]).unwrap();
    let addresses = || -> Vec<String> {
        let (_, devices) = server.read("/api/v1/devices");
        let devices: serde_json::Value = serde_json::from_str(&devices).unwrap();
        let items = devices["items"].as_array().unwrap();
        let mut found: Vec<String> =
            items.iter().map(|device| device["address"].as_str().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    assert_eq!(addresses(), ["192.168.1.20", "192.168.1.21"]);
    assert!(!server.read("/devices/1").1.contains("Shown as part of it"));

    assert_eq!(server.post("/devices/2/merge", "address=192.168.1.20").status().as_u16(), 401);
    let merge = "address=+192.168.1.20+";
    assert_eq!(post(&server, "/devices/2/merge", merge), (303, "/devices/1".to_owned()));
    assert_eq!(addresses(), ["192.168.1.20"]);
    let (_, page) = server.read("/devices/1");
    let part = "<a href=\"/devices/2\">192.168.1.21</a>";
    assert!(page.contains("Shown as part of it") && page.contains(part), "{page}");
    assert!(page.contains("action=\"/devices/2/split\""), "{page}");
    assert!(!server.read("/devices").1.contains(">192.168.1.21<"));
    let (given, why) = post(&server, "/devices/2/merge", merge);
    assert!(given == 400 && why.contains("these two are one device already"), "{why}");

    assert_eq!(server.post("/devices/2/split", "").status().as_u16(), 401);
    assert_eq!(post(&server, "/devices/2/split", ""), (303, "/devices/2".to_owned()));
    assert_eq!(addresses(), ["192.168.1.20", "192.168.1.21"]);
    assert!(!server.read("/devices/1").1.contains(part));
    assert_eq!(server.read("/devices/2").0, 200);
}

/// What an hour's columns say has to hold of connections from outside, too.
#[test]
fn hours_tell_who_sent_what_moved() {
    let server = Server::start();
    let mut inbound = client::ended(1);
    if let Some(Kind::Flow(flow)) = &mut inbound.kind {
        std::mem::swap(&mut flow.src_ip, &mut flow.dst_ip);
        std::mem::swap(&mut flow.device, &mut flow.remote);
        flow.direction = v1::Direction::In.into();
        (flow.bytes_orig, flow.bytes_reply) = (70, 9_000);
    }
    Agent::new(&server).report("attic", vec![inbound]).unwrap();
    let (_, page) = server.read("/devices/1");
    assert!(page.contains("<h1>192.168.1.20</h1>"), "{page}");
    let columns: Vec<&str> = page
        .split("<th scope=\"col\" class=\"num\">")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap())
        .collect();
    assert_eq!(columns, ["Sent by who began", "Sent by who answered", "Flows"]);
    assert!(page.contains("<td class=\"num\">70 B</td><td class=\"num\">9.0 kB</td>"), "{page}");
}
