//! Whose network an address is in, and in which country, from files in MaxMind's format (.mmdb).
//!
//! GeoLite2 and DB-IP have the ASN and the country in two files, IPinfo has both in one, under other names.
//! All files are asked, the first that knows something wins.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use maxminddb::{PathElement, Reader, path};

use super::reload::Reloaded;

/// Names of organisations are for display.
const MOST_CHARS: usize = 100;

/// What is known of an address. `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Number of the autonomous system.
    pub asn: Option<u32>,
    /// Who runs it.
    pub organisation: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
}

impl Network {
    /// Its number and who runs it, as far as they are known: "AS64500 Example Networks".
    #[must_use]
    pub fn label(&self) -> String {
        let number = self.asn.map(|asn| format!("AS{asn}"));
        let runs: Vec<String> = number.into_iter().chain(self.organisation.clone()).collect();
        runs.join(" ")
    }

    /// Whether a text, in lower case, is part of the label or is the country.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.label().to_lowercase().contains(text)
            || self.country.as_ref().is_some_and(|country| country.eq_ignore_ascii_case(text))
    }
}

/// The files.
#[derive(Debug)]
pub struct Networks {
    files: Vec<Reloaded<Reader<Vec<u8>>>>,
}

impl Networks {
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let open = |bytes| Reader::from_source(bytes).map_err(|error| error.to_string());
        Self { files: paths.iter().map(|path| Reloaded::new(path.clone(), open)).collect() }
    }

    pub(super) fn refresh(&self) {
        self.files.iter().for_each(Reloaded::refresh);
    }

    /// What the files know of an address.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Network {
        let mut known = Network::default();
        for reader in self.files.iter().filter_map(Reloaded::get) {
            let Record(found) = Record::of(&reader, address);
            known.asn = known.asn.or(found.asn);
            known.organisation = known.organisation.or(found.organisation);
            known.country = known.country.or(found.country);
        }
        known
    }
}

struct Record(Network);

impl Record {
    /// A file that is damaged in this place knows nothing of it.
    fn of(reader: &Arc<Reader<Vec<u8>>>, address: IpAddr) -> Self {
        let Ok(found) = reader.lookup(address) else { return Self(Network::default()) };
        let text = |names: &[PathElement<'_>]| found.decode_path::<String>(names).ok().flatten();
        let number = found.decode_path::<u32>(&path!["autonomous_system_number"]).ok().flatten();
        Self(Network {
            asn: number.or_else(|| text(&path!["asn"])?.trim_start_matches("AS").parse().ok()),
            organisation: text(&path!["autonomous_system_organization"])
                .or_else(|| text(&path!["as_name"]))
                .map(|name| name.chars().filter(|c| !c.is_control()).take(MOST_CHARS).collect()),
            country: text(&path!["country", "iso_code"])
                .or_else(|| text(&path!["country_code"]))
                .filter(|code| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())),
        })
    }
}

#[cfg(test)]
#[path = "../../tests/support/mmdb.rs"]
mod mmdb;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::mmdb::{map, mmdb, number, string};
    use super::*;

    #[test]
    fn files_of_several_makers_complete_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (asn, country, both) =
            (dir.path().join("asn"), dir.path().join("country"), dir.path().join("both"));
        let organisation = string("Example \u{1}Networks");
        let data = map(&[
            ("autonomous_system_number", number(64500)),
            ("autonomous_system_organization", organisation),
        ]);
        fs::write(&asn, mmdb([203, 0, 112, 0], 23, &data)).unwrap();
        let data = map(&[("country", map(&[("iso_code", string("NL"))]))]);
        fs::write(&country, mmdb([203, 0, 113, 0], 24, &data)).unwrap();
        let data =
            map(&[("asn", string("AS64501")), ("as_name", string("Other")), ("country_code", string("<b>"))]);
        fs::write(&both, mmdb([198, 51, 100, 0], 24, &data)).unwrap();

        let networks = Networks::new(&[asn.clone(), country, both, dir.path().join("missing")]);
        networks.refresh();
        let find = |address: &str| networks.find(address.parse().unwrap());
        let example = Some("Example Networks".to_owned());
        let expected =
            Network { asn: Some(64500), organisation: example.clone(), country: Some("NL".to_owned()) };
        assert_eq!(find("203.0.113.9"), expected);
        assert_eq!(find("203.0.112.9"), Network { asn: Some(64500), organisation: example, country: None });
        let expected = Network { asn: Some(64501), organisation: Some("Other".to_owned()), country: None };
        assert_eq!(find("198.51.100.7"), expected, "a country that is none is not shown");
        assert_eq!(find("192.0.2.1"), Network::default());
        let (known, half) = (find("203.0.113.9"), find("203.0.112.9"));
        assert_eq!(
            (known.label().as_str(), Network::default().label().as_str()),
            ("AS64500 Example Networks", "")
        );
        for text in ["as64500", "64500 example", "nl", "networks"] {
            assert!(known.says(text), "{text}");
        }
        for (network, text) in
            [(&known, "de"), (&known, "as6450 "), (&half, "nl"), (&Network::default(), "as")]
        {
            assert!(!network.says(text), "{text}");
        }
        assert_eq!(find("2001:db8::1"), Network::default());

        fs::write(dir.path().join("next"), mmdb([203, 0, 113, 0], 24, &map(&[("asn", string("AS1"))])))
            .unwrap();
        fs::rename(dir.path().join("next"), &asn).unwrap();
        networks.refresh();
        assert_eq!(find("203.0.113.9").asn, Some(1), "a file that was replaced is read again");
    }

    #[test]
    fn a_damaged_file_knows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let whole = mmdb([203, 0, 113, 0], 24, &map(&[("asn", string("AS64501"))]));
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0xff;
            fs::write(&path, &damaged).unwrap();
            let networks = Networks::new(std::slice::from_ref(&path));
            networks.refresh();
            // It may still be right; it must not panic.
            let _ = networks.find("203.0.113.9".parse().unwrap());
        }
    }
}
