//! Where a page of a list ended.

/// The place in a list after which the next page begins. Rows that come in meanwhile do not move it. What is in
/// it means something to its list alone, and any value is safe: at worst it is a place where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// What the list is sorted by, in the last row.
    pub(super) key: i64,
    /// The last row's id.
    pub(super) id: i64,
}

impl Position {
    /// The length of [`Self::to_bytes`].
    pub const LENGTH: usize = 16;

    /// After the row with this id in a list that is sorted by nothing else.
    #[must_use]
    pub fn after_id(id: i64) -> Self {
        Self { key: 0, id }
    }

    pub(super) fn new(key: i64, id: i64) -> Self {
        Self { key, id }
    }

    /// What the last row is sorted by, in lists that are sorted by a column of 64 bits.
    pub(super) fn number(self) -> i64 {
        self.key
    }

    /// The id of the last row, for lists that are not the database's.
    #[must_use]
    pub fn id(self) -> i64 {
        self.id
    }

    /// To be given to a reader.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        for (place, number) in bytes.chunks_exact_mut(8).zip([self.key, self.id]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// What a reader gave back.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let number = |place: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[place..place + 8]);
            i64::from_be_bytes(number)
        };
        Self { key: number(0), id: number(8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was() {
        let position = Position { key: i64::MIN, id: i64::MAX };
        assert_eq!(Position::from_bytes(position.to_bytes()), position);
    }
}
