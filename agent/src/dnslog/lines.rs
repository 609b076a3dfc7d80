//! Cuts bytes into lines, however they arrive.

/// dnsmasq writes at most 1024 bytes (MAX_MESSAGE), syslog adds a header.
const MOST_BYTES: usize = 8192;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A line, without its newline.
    Line(&'a [u8]),
    /// A line that is too long to be one; it is left out.
    TooLong,
}

/// What is not yet a line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// Up to the next newline there is nothing for us.
    skipping: bool,
}

impl Lines {
    /// Begins within a line.
    pub(super) fn skip_to_newline(&mut self) {
        self.skipping = true;
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Piece<'_>)) {
        while let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..newline], &bytes[newline + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.begun.len() + line.len() > MOST_BYTES {
                each(Piece::TooLong);
            } else if self.begun.is_empty() {
                each(Piece::Line(line));
            } else {
                self.begun.extend_from_slice(line);
                each(Piece::Line(&self.begun));
            }
            self.begun.clear();
        }
        if self.skipping {
            return;
        }
        if self.begun.len() + bytes.len() > MOST_BYTES {
            each(Piece::TooLong);
            self.skipping = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }

    /// Nothing follows: what has no newline is the last line.
    pub(super) fn end(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        if !self.begun.is_empty() && !self.skipping {
            each(Piece::Line(&self.begun));
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut each = |piece: Piece<'_>| {
            found.push(match piece {
                Piece::Line(line) => String::from_utf8_lossy(line).into_owned(),
                Piece::TooLong => "TOO LONG".to_owned(),
            });
        };
        for piece in pieces {
            lines.feed(piece, &mut each);
        }
        lines.end(&mut each);
        found
    }

    #[test]
    fn lines_are_found_however_they_arrive() {
        assert_eq!(cut(&[b"a\nb", b"", b"c", b"\n\nd"]), ["a", "bc", "", "d"]);
        let long = vec![b'x'; 1 << 20];
        assert_eq!(cut(&[b"a\n", &long, b"rest\nb\n"]), ["a", "TOO LONG", "b"]);
        let mut all = b"a\n".to_vec();
        all.extend_from_slice(&long);
        all.extend_from_slice(b"\nb\n");
        assert_eq!(cut(&[&all]), ["a", "TOO LONG", "b"]);
        let longest = [b'y'; MOST_BYTES];
        assert_eq!(cut(&[&longest[1..], b"y", b"\n"])[0].len(), MOST_BYTES);
        assert_eq!(cut(&[&longest, b"y\n"]), ["TOO LONG"]);
    }
}
