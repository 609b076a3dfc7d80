//! Where a page of a list ended.

/// The place in a list after which the next page begins. Rows that come in meanwhile do not move it. What is in
/// it means something to its list alone, and any value is safe: at worst it is a place where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// What the list is sorted by, in the last row. An address takes 128 bits.
    pub(super) key: i128,
    /// The last row's id.
    pub(super) id: i64,
    /// The window that the list is sorted in holds rows with smaller ids alone.
    pub(super) below: i64,
}

impl Position {
    /// The length of [`Self::to_bytes`].
    pub const LENGTH: usize = 32;

    /// After the row with this id in a list that is sorted by nothing else.
    #[must_use]
    pub fn after_id(id: i64) -> Self {
        Self::new(0, id)
    }

    pub(super) fn new(key: impl Into<i128>, id: i64) -> Self {
        Self { key: key.into(), id, below: i64::MAX }
    }

    /// What the last row is sorted by, in lists that are sorted by a column of 64 bits.
    pub(super) fn number(self) -> i64 {
        i64::try_from(self.key).unwrap_or(i64::MAX)
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
        bytes[..16].copy_from_slice(&self.key.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.id.to_be_bytes());
        bytes[24..].copy_from_slice(&self.below.to_be_bytes());
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
        let key = (i128::from(number(0)) << 64) | i128::from(number(8).cast_unsigned());
        Self { key, id: number(16), below: number(24) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was() {
        for key in [i128::MIN, -1, 0, 1 << 64 | 1 << 63, i128::MAX] {
            let position = Position { key, id: i64::MAX, below: i64::MIN };
            assert_eq!(Position::from_bytes(position.to_bytes()), position);
        }
    }
}
