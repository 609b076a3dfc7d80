//! The token that lets agents and people in.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use subtle::ConstantTimeEq as _;

const FILE: &str = "token";

/// The server's token. An empty one lets nobody in.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The token's file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; expected a file that only this user can read, holding the token", path = path.display())]
pub struct TokenError {
    path: PathBuf,
    source: io::Error,
}

impl Token {
    /// The given one.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The one in the data directory; made there if there is none.
    ///
    /// # Errors
    /// The file can be neither read nor made.
    pub fn from_data(data: &Path) -> Result<Self, TokenError> {
        let path = data.join(FILE);
        let failed = |source| TokenError { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(Self(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let token = random_hex();
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Self(token))
    }

    /// Whether it is the same, compared in constant time.
    #[must_use]
    pub fn accepts(&self, given: &str) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(given.as_bytes()))
    }

    /// Whether an `Authorization` header holds it.
    #[must_use]
    pub fn accepts_header(&self, header: Option<&str>) -> bool {
        let Some((scheme, given)) = header.and_then(|header| header.split_once(' ')) else { return false };
        scheme.eq_ignore_ascii_case("bearer") && self.accepts(given.trim())
    }

    /// For the one place that shows it to the owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// 128 random bits from the operating system.
#[must_use]
pub fn random_hex() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_in_a_bearer_header_passes() {
        let token = Token::new("s3cret".to_owned());
        for (header, expected) in [
            (Some("Bearer s3cret"), true),
            (Some("bearer  s3cret "), true),
            (Some("Bearer s3cre"), false),
            (Some("Bearer s3cret2"), false),
            (Some("Basic s3cret"), false),
            (Some("s3cret"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(token.accepts_header(header), expected, "{header:?}");
        }
    }

    #[test]
    fn an_empty_token_lets_nobody_in() {
        assert!(!Token::new(String::new()).accepts_header(Some("Bearer ")));
        assert!(!Token::new(String::new()).accepts(""));
    }

    #[test]
    fn a_token_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().unwrap();
        let first = Token::from_data(data.path()).unwrap();
        assert_eq!(first.reveal().len(), 32);
        assert!(Token::from_data(data.path()).unwrap().accepts(first.reveal()));
        let mode = fs::metadata(data.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
