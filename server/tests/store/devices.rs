//! Devices as they are listed and shown: names, hardware addresses, what is part of what.

use netmon_server::domain::{Changes, Identity, Mac, Observed, RouterId};
use netmon_server::store::{DatabaseUrl, DeviceFilter, DeviceRow, Page, Reader};

use crate::opened;
use crate::sample::{NOON, ended, ip, open, tcp};

const PHONE: Mac = [2, 0, 0, 0, 0, 7];

fn identity(router: RouterId, host_name: &str, addresses: &[&str]) -> Changes {
    let what = Identity {
        mac: Some(PHONE),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        host_name: host_name.to_owned(),
        vendor_class: String::new(),
        lease_until: None,
        interface: String::new(),
        last_seen: NOON,
    };
    Changes { identities: vec![Observed { router, time: NOON, what }], ..Changes::default() }
}

fn listed(reader: &Reader, text: Option<&str>) -> Vec<DeviceRow> {
    let filter = DeviceFilter { text: text.map(str::to_owned), ..DeviceFilter::default() };
    let page = reader.devices(&filter, Page { before: None, limit: 10 }).unwrap();
    assert_eq!(reader.count_devices(&filter, 10).unwrap().total, page.items.len() as u64);
    page.items
}

fn name(row: &DeviceRow) -> &str {
    row.name.as_deref().unwrap_or("-")
}

/// The address of the flow turns out to be the phone's: one device is listed, with the phone's name.
pub(crate) fn a_device_is_listed_once_by_its_best_name(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let reader = store.reader();
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    let before = listed(&reader, None);
    assert_eq!((before.len(), name(&before[0]), before[0].mac), (1, "-", None));

    writer.commit(&identity(router, "Annas-Phone", &["192.168.1.20", "fd77::20"])).unwrap();
    let rows = listed(&reader, None);
    assert_eq!((rows.len(), name(&rows[0]), rows[0].mac), (1, "Annas-Phone", Some(PHONE)));
    assert_ne!(rows[0].id, before[0].id, "the one with the MAC is the whole");
    for (text, found) in [("annas", 1), ("00:00:07", 1), ("1.20", 1), ("ben", 0)] {
        assert_eq!(listed(&reader, Some(text)).len(), found, "{text}");
    }
    let phone = rows[0].id;
    assert_eq!(reader.device_at(router, ip("fd77::20")).unwrap(), Some(phone));
    assert_eq!(reader.device_at(router, ip("fd77::21")).unwrap(), None);

    // What a person says wins, also where it was said of the part.
    writer.name_device(before[0].id, "Anna", NOON).unwrap();
    assert_eq!(name(&listed(&reader, None)[0]), "Anna");
    writer.name_device(phone, "Ben", NOON + 1).unwrap();
    assert_eq!(name(&listed(&reader, None)[0]), "Ben");

    let detail = reader.device(phone).unwrap().unwrap();
    assert_eq!(detail.parts.iter().map(|part| part.id).collect::<Vec<_>>(), [before[0].id]);
    assert_eq!(detail.addresses.len(), 2);
    assert_eq!(reader.device(phone + 1_000).unwrap(), None);

    // Taken apart they are two, each with what was said of it.
    assert!(writer.split_device(before[0].id, NOON).unwrap());
    let names: Vec<String> = listed(&reader, None).iter().map(|row| name(row).to_owned()).collect();
    assert_eq!(names, ["Ben", "Anna"]);
    assert!(reader.device(phone).unwrap().unwrap().parts.is_empty());
}

/// Of ended flows with remote hosts.
pub(crate) fn the_unexplained_share_is_told(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let flow = |id: i64, bytes: i64, named: bool| {
        let mut flow = tcp(router, id);
        (flow.counters.bytes_orig, flow.counters.bytes_reply) = (bytes, bytes);
        flow.before = netmon_server::domain::Counters::default();
        flow.name = flow.name.filter(|_| named);
        flow
    };
    let mut inside = flow(3, 1_000, false);
    inside.remote = None;
    let changes = Changes {
        open: vec![open(&flow(4, 10_000, false))],
        ..ended(&[flow(1, 10, true), flow(2, 5, false), inside])
    };
    writer.commit(&changes).unwrap();
    let device = listed(&store.reader(), None)[0].id;
    assert_eq!(store.reader().device(device).unwrap().unwrap().bytes, (30, 10));
}
