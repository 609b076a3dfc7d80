//! Who made a network card, by the first bits of its address.

use std::{collections::HashMap, path::Path};

use super::reload::Reloaded;

/// For display.
const MOST_CHARS: usize = 80;
/// The bit of the first byte that says that nobody gave out the address (IEEE 802, clause 8): phones make
/// one up for each network.
const LOCALLY_ADMINISTERED: u8 = 0x02;

/// By prefix in upper-case hexadecimal digits, 6, 7 or 9 of them.
type Table = HashMap<String, String>;

/// The table that the user gave, and behind it the bundled one.
#[derive(Debug)]
pub struct Vendors {
    own: Option<Reloaded<Table>>,
}

impl Vendors {
    pub(super) fn new(own: Option<&Path>) -> Self {
        Self { own: own.map(|path| Reloaded::new(path.to_owned(), parse)) }
    }

    pub(super) fn refresh(&self) {
        if let Some(own) = &self.own {
            own.refresh();
        }
    }

    /// The maker; `None`: not known.
    #[must_use]
    pub fn find(&self, mac: [u8; 6]) -> Option<String> {
        let digits = digits(mac);
        let own = self.own.as_ref().and_then(Reloaded::get);
        let named = own.and_then(|table| {
            [9, 7, 6].into_iter().find_map(|length| table.get(digits.get(..length)?).cloned())
        });
        named.or_else(|| vendor(mac))
    }
}

/// The maker by the bundled table (IEEE's MA-L, MA-M and MA-S registries).
#[must_use]
pub fn vendor(mac: [u8; 6]) -> Option<String> {
    if mac[0] & LOCALLY_ADMINISTERED != 0 {
        return None;
    }
    oui_data::lookup(&digits(mac)).map(|record| record.organization().to_owned())
}

fn digits(mac: [u8; 6]) -> String {
    mac.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Wireshark's `manuf` and nmap's lists, lines of a prefix and a name: `00:00:0C  Cisco  Cisco Systems, Inc`,
/// `00000C Cisco Systems`; or IEEE's CSV: `MA-L,00000C,"Cisco Systems, Inc",address`.
fn parse(bytes: Vec<u8>) -> Result<Table, String> {
    let mut table = Table::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = match line.strip_prefix("MA-").and_then(|rest| rest.split_once(',')) {
            Some((_, rest)) => csv(rest),
            None => plain(line),
        };
        if let Some((prefix, name)) = entry {
            table.insert(prefix, name.chars().filter(|c| !c.is_control()).take(MOST_CHARS).collect());
        }
    }
    if table.is_empty() {
        return Err("expected lines such as `00:00:0C Cisco Systems`, or IEEE's CSV".to_owned());
    }
    Ok(table)
}

fn csv(rest: &str) -> Option<(String, &str)> {
    let (prefix, rest) = rest.split_once(',')?;
    let name = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?.0,
        None => rest.split(',').next()?,
    };
    Some((known_length(prefix.to_ascii_uppercase())?, name))
}

/// The last column is the long name, where columns are divided by tabs.
fn plain(line: &str) -> Option<(String, &str)> {
    let (prefix, rest) = line.split_once(char::is_whitespace)?;
    let (prefix, bits) = match prefix.split_once('/') {
        Some((prefix, bits)) => (prefix, Some(bits.parse::<usize>().ok()?)),
        None => (prefix, None),
    };
    let mut digits: String = prefix.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    digits.make_ascii_uppercase();
    if let Some(bits) = bits {
        digits = digits.get(..bits / 4)?.to_owned();
    }
    let name = rest.rsplit('\t').find(|column| !column.trim().is_empty())?.trim();
    Some((known_length(digits)?, name))
}

fn known_length(digits: String) -> Option<String> {
    let well = matches!(digits.len(), 6 | 7 | 9) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    well.then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_table_knows_makers_and_no_made_up_addresses() {
        assert_eq!(vendor([0x00, 0x00, 0x0c, 1, 2, 3]).as_deref(), Some("Cisco Systems, Inc"));
        assert_eq!(vendor([0x02, 0x00, 0x0c, 1, 2, 3]), None, "made up by a phone");
    }

    #[test]
    fn tables_of_several_makers_are_read() {
        let text = "# comment\n00:00:0C\tCisco\tOwn name\n0055DA0/28\tShort\tTwenty-eight bits\n\
                    70-B3-D5-00-1 Thirty-six bits\nMA-L,A1B2C3,\"Quoted, Inc\",somewhere\n\
                    MA-L,A1B2C4,Bare,somewhere\nnonsense here\n00:1 short\n";
        let mut table: Vec<_> = parse(text.into()).unwrap().into_iter().collect();
        table.sort();
        let expected = [
            ("00000C", "Own name"),
            ("0055DA0", "Twenty-eight bits"),
            ("70B3D5001", "Thirty-six bits"),
            ("A1B2C3", "Quoted, Inc"),
            ("A1B2C4", "Bare"),
        ];
        assert_eq!(table, expected.map(|(prefix, name)| (prefix.to_owned(), name.to_owned())));
        assert!(parse(b"<html>".to_vec()).unwrap_err().starts_with("expected lines"));
    }

    #[test]
    fn the_users_table_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manuf");
        std::fs::write(&path, "00:00:0C Mine\n02:AA:BB Made up, and known\n").unwrap();
        let vendors = Vendors::new(Some(&path));
        vendors.refresh();
        assert_eq!(vendors.find([0, 0, 0x0c, 1, 2, 3]).as_deref(), Some("Mine"));
        assert_eq!(vendors.find([2, 0xaa, 0xbb, 1, 2, 3]).as_deref(), Some("Made up, and known"));
        assert_eq!(vendors.find([0, 0, 0, 1, 2, 3]), vendor([0, 0, 0, 1, 2, 3]));
    }
}
