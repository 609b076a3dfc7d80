//! Finds the parts of a JSON text without understanding them, so that one event that is wrong in whatever way does not
//! take its neighbours with it. Never recurses, never allocates.

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn skip_white_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over this byte and white space before it.
    fn take(&mut self, expected: u8) -> bool {
        self.skip_white_space();
        let is_there = self.bytes.get(self.at) == Some(&expected);
        self.at += usize::from(is_there);
        is_there
    }

    /// Steps over a string that begins here.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// The next value, with nothing around it.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.skip_white_space();
        let begin = self.at;
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                _ if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b'}' | b']' | b',' | b':' => return None,
                _ => self.scalar(),
            }
            if depth == 0 {
                return self.bytes.get(begin..self.at);
            }
        }
    }

    /// Steps over a number or a word.
    fn scalar(&mut self) {
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        while self.bytes.get(self.at).is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_white_space();
        self.at >= self.bytes.len()
    }
}

/// Calls `member` with each key (its quotes included) and value of the object that the text is. False: it is none.
pub(super) fn object<'a>(text: &'a [u8], mut member: impl FnMut(&'a [u8], &'a [u8])) -> bool {
    let mut scan = Scan::new(text);
    let mut walk = || -> Option<()> {
        if !scan.take(b'{') {
            return None;
        }
        if scan.take(b'}') {
            return Some(());
        }
        loop {
            let key = scan.value().filter(|key| key.first() == Some(&b'"'))?;
            if !scan.take(b':') {
                return None;
            }
            member(key, scan.value()?);
            if scan.take(b'}') {
                return Some(());
            }
            if !scan.take(b',') {
                return None;
            }
        }
    };
    walk().is_some() && scan.is_at_end()
}

/// Calls `item` with each item of the array that the text is. False: it is none.
pub(super) fn array<'a>(text: &'a [u8], mut item: impl FnMut(&'a [u8])) -> bool {
    let mut scan = Scan::new(text);
    let mut walk = || -> Option<()> {
        if !scan.take(b'[') {
            return None;
        }
        if scan.take(b']') {
            return Some(());
        }
        loop {
            item(scan.value()?);
            if scan.take(b']') {
                return Some(());
            }
            if !scan.take(b',') {
                return None;
            }
        }
    };
    walk().is_some() && scan.is_at_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Option<Vec<&str>> {
        let mut found = Vec::new();
        array(text.as_bytes(), |item| found.push(std::str::from_utf8(item).unwrap())).then_some(found)
    }

    #[test]
    fn items_are_found_whatever_is_in_them() {
        for (text, expected) in [
            ("[]", Some(vec![])),
            (
                " [ 1 , NaN, {\"a\": [\"]\\\"\"]}, \"x\" ] ",
                Some(vec!["1", "NaN", "{\"a\": [\"]\\\"\"]}", "\"x\""]),
            ),
            ("[1,]", None),
            ("[,1]", None),
            ("[1 2]", None),
            ("[1]x", None),
            ("[\"a]", None),
            ("[\"a\\", None),
            ("[{]", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(items(text), expected, "{text}");
        }
        let deep = format!("[{}{}, 7]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(items(&deep).unwrap()[1], "7");
    }

    #[test]
    fn members_are_found_in_their_order() {
        let members = |text: &str| {
            let mut found = Vec::new();
            object(text.as_bytes(), |key, value| {
                found.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
            })
            .then_some(found.join(" ").replace('\\', ""))
        };
        assert_eq!(members("{}").as_deref(), Some(""));
        assert_eq!(members("{\"a\":1, \"a\" : {}}").as_deref(), Some("\"a\"=1 \"a\"={}"));
        for text in ["{\"a\"}", "{a:1}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1", "[]", "{}{}"] {
            assert_eq!(members(text), None, "{text}");
        }
    }
}
