//! What a file of a list holds, beside what the list holds.

use crate::lists::filled;

#[test]
fn a_file_may_have_more_rows_than_a_page() {
    let server = filled(2_345);
    assert_eq!(server.read("/api/v1/flows.jsonl?limit=2000").1.lines().count(), 2_000);
    assert_eq!(server.read("/api/v1/flows.jsonl?limit=5000000").1.lines().count(), 2_345);
    for path in [
        "api/v1/flows.csv?limit=5000001",
        "api/v1/flows?limit=1001",
        "api/v1/live?limit=1001",
        "flows?limit=1001",
    ] {
        let (status, why) = server.read(&format!("/{path}"));
        let expected = "is not within 1 to 1000, of a file within 1 to 5000000";
        assert!(status == 400 && why.contains(expected), "{path}: {why}");
    }
    assert_eq!(server.read("/api/v1/top.csv?limit=1001").0, 400);
}

#[test]
fn a_file_has_no_order_that_would_end_it() {
    let server = filled(3);
    // An order of the newest 20,000 alone would end a file with them.
    let (status, why) = server.read("/api/v1/flows.csv?sort=bytes&port=443");
    assert!(status == 400 && why.contains("sort: this order is one of the newest 20,000 rows"), "{why}");
    assert_eq!(server.read("/api/v1/flows.csv?sort=newest&limit=1").0, 200);
    let (_, page) = server.read("/flows?sort=bytes&port=443");
    for (kind, link) in [
        ("CSV", "/api/v1/flows.csv?port=443"),
        ("JSON lines", "/api/v1/flows.jsonl?port=443"),
        ("JSON", "/api/v1/flows?sort=bytes&#38;port=443"),
    ] {
        assert!(page.contains(&format!("<a href=\"{link}\">{kind}</a>")), "{kind}: {page}");
    }
    let (_, page) = server.read("/devices?sort=last_seen");
    assert!(page.contains("<a href=\"/api/v1/devices.csv?sort=last_seen\">CSV</a>"), "{page}");
}
