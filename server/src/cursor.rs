//! Cursors as they are given out: the place where a page ended, and a mark of the list that it belongs to.

use std::fmt::{Debug, Write as _};

use sha2::{Digest as _, Sha256};

use crate::store::Position;

/// Bytes of the mark.
const MARK: usize = 4;

/// `asked` is all that was asked for but the paging.
pub(crate) fn encode(list: &str, asked: &dyn Debug, position: Position) -> String {
    position.to_bytes().iter().chain(&mark(list, asked)).fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where the next page begins. `None`: it is a cursor of another list, or of this one with other filters, and would begin
/// at a place that means nothing.
pub(crate) fn decode(list: &str, asked: &dyn Debug, text: &str) -> Option<Position> {
    let bytes: [u8; Position::LENGTH + MARK] = bytes(text)?;
    let (position, given) = bytes.split_at(Position::LENGTH);
    (given == mark(list, asked)).then(|| position.try_into().map(Position::from_bytes).ok()).flatten()
}

fn mark(list: &str, asked: &dyn Debug) -> [u8; MARK] {
    let digest = Sha256::digest(format!("{list} {asked:?}"));
    std::array::from_fn(|place| digest[place])
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_fits_its_own_query_alone() {
        let cursor = encode("flows", &(1, "a"), Position::after_id(7));
        assert_eq!(decode("flows", &(1, "a"), &cursor).unwrap(), Position::after_id(7));
        for (list, asked, text) in [
            ("gaps", (1, "a"), cursor.as_str()),
            ("flows", (1, "b"), &cursor),
            ("flows", (1, "a"), &cursor[2..]),
            ("flows", (1, "a"), &cursor.replace('7', "g")),
            ("flows", (1, "a"), "7"),
            ("flows", (1, "a"), "\u{e9}"),
        ] {
            assert!(decode(list, &asked, text).is_none(), "{text}");
        }
    }
}
