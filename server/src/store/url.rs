//! Where the database is.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the database is. Made with [`FromStr`] from `sqlite:PATH`, a plain path, `postgres://...` or
/// `postgresql://...`; printed without a password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A SQLite file, made where there is none.
    Sqlite(PathBuf),
    /// A libpq connection URI. The database must exist.
    Postgres(String),
}

impl FromStr for DatabaseUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite:").unwrap_or(text);
        // `sqlite:///srv/netmon.db` is as common as `sqlite:/srv/netmon.db`.
        let path = path.strip_prefix("//").unwrap_or(path);
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl DatabaseUrl {
    /// Whether it can be meant so: a path that is empty or looks like the URL of another database would become a file of
    /// that name. What is wrong with it is not told by its text, which may hold a password.
    pub(crate) fn is_plausible(&self) -> bool {
        let Self::Sqlite(path) = self else { return true };
        let path = path.to_string_lossy();
        !(path.is_empty()
            || path.contains("://")
            || path.starts_with("postgres:")
            || path.starts_with("postgresql:"))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// Hides the password in `scheme://user:password@host` and in the parameter `password=`.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    let mut shown = format!("{scheme}://");
    // The last '@' ends the user's part, also where a password holds one that should have been escaped.
    match before_query.rsplit_once('@') {
        Some((user, place)) => {
            let hidden = match user.split_once(':') {
                Some((name, _)) => format!("{name}:***"),
                None => user.to_owned(),
            };
            shown.push_str(&hidden);
            shown.push('@');
            shown.push_str(place);
        }
        None => shown.push_str(before_query),
    }
    for (index, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((key @ ("password" | "sslpassword"), _)) => shown.push_str(&format!("{key}=***")),
            _ => shown.push_str(parameter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: &str, shown: &str) {
        let url: DatabaseUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), shown);
        assert_eq!(matches!(url, DatabaseUrl::Postgres(_)), kind == "postgres", "{text}");
    }

    #[test]
    fn says_which_database_and_hides_passwords() {
        check("netmon.db", "sqlite", "sqlite:netmon.db");
        check("sqlite:data/netmon.db", "sqlite", "sqlite:data/netmon.db");
        check("sqlite:///srv/netmon.db", "sqlite", "sqlite:/srv/netmon.db");
        check("postgres://db/netmon", "postgres", "postgres://db/netmon");
        check("postgres://me:s@cret@db/netmon", "postgres", "postgres://me:***@db/netmon");
        check("postgresql://me@db/n?a=b&password=x", "postgres", "postgresql://me@db/n?a=b&password=***");
        check("postgresql:///n?host=/run/postgresql", "postgres", "postgresql:///n?host=/run/postgresql");
    }
    #[test]
    fn a_path_is_not_the_url_of_something_else() {
        let plausible = |text: &str| text.parse::<DatabaseUrl>().unwrap().is_plausible();
        for text in ["netmon.db", "sqlite:///srv/a:b.db", "postgres.db", "postgres://db/netmon"] {
            assert!(plausible(text), "{text}");
        }
        for text in ["", "sqlite:", "mysql://me@db/netmon", "Postgres://db/netmon", "postgres:db/netmon"] {
            assert!(!plausible(text), "{text}");
        }
    }
}
