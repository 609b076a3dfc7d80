//! Whois (RFC 3912), asked when a person wants to know: one address, the registry that IANA names for it, and
//! where that one refers to.
//!
//! Only the address is ever sent. A referral is a stranger's word: it is followed to public addresses alone,
//! so that nobody can have this server talk to the LAN.

use std::{net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::is_public;

/// The start where nothing else is configured.
pub const DEFAULT_SERVER: &str = "whois.iana.org";
const PORT: u16 = 43;
const MOST_BYTES: u64 = 64 * 1024;
const MOST_REFERRALS: usize = 2;
/// For one server, from the name to the last byte.
const LIMIT: Duration = Duration::from_secs(8);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhoisError {
    /// It is a private address, or the like.
    #[error("{0} is not a public address: no registry knows it")]
    NotPublic(IpAddr),
    /// The server cannot be asked.
    #[error("{server} cannot be asked: {why}")]
    Server {
        /// Which.
        server: String,
        /// In the system's words.
        why: String,
    },
    /// It took too long.
    #[error("{0} did not answer within {LIMIT:?}")]
    Slow(String),
}

/// Asks about an address, beginning at `server` (`HOST` or `HOST:PORT`), which is the operator's choice and
/// may be anywhere.
///
/// # Errors
/// Nobody could be asked. Where a referral fails the answer so far is given.
pub async fn ask(server: &str, address: IpAddr) -> Result<String, WhoisError> {
    if !is_public(address) {
        return Err(WhoisError::NotPublic(address));
    }
    follow(server, address, is_public).await
}

async fn follow(
    server: &str,
    address: IpAddr,
    permitted: impl Fn(IpAddr) -> bool,
) -> Result<String, WhoisError> {
    let mut answer = one(server, address, |_| true).await?;
    for _ in 0..MOST_REFERRALS {
        let Some(next) = referral(&answer) else { break };
        match one(&next, address, &permitted).await {
            Ok(text) => answer = text,
            Err(_) => break,
        }
    }
    Ok(answer)
}

async fn one(
    server: &str,
    address: IpAddr,
    permitted: impl Fn(IpAddr) -> bool,
) -> Result<String, WhoisError> {
    let failed = |why: String| WhoisError::Server { server: server.to_owned(), why };
    let talk = async {
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| failed("expected HOST:PORT".to_owned()))?),
            None => (server, PORT),
        };
        let found = lookup_host((host, port)).await.map_err(|error| failed(error.to_string()))?;
        let targets: Vec<_> = found.filter(|target| permitted(target.ip())).collect();
        if targets.is_empty() {
            return Err(failed("it has no public address".to_owned()));
        }
        let talk = async {
            let mut stream = TcpStream::connect(&targets[..]).await?;
            stream.write_all(format!("{address}\r\n").as_bytes()).await?;
            let mut bytes = Vec::new();
            stream.take(MOST_BYTES).read_to_end(&mut bytes).await?;
            Ok::<_, std::io::Error>(bytes)
        };
        let bytes = talk.await.map_err(|error| failed(error.to_string()))?;
        Ok(text(&bytes))
    };
    timeout(LIMIT, talk).await.map_err(|_| WhoisError::Slow(server.to_owned()))?
}

/// Lines of printable text; some registries still write Latin-1.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect()
}

/// `refer: HOST` (IANA), `ReferralServer: whois://HOST[:PORT]` (ARIN).
fn referral(answer: &str) -> Option<String> {
    let next = answer.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        match key.trim() {
            "refer" => Some(value.trim()),
            "ReferralServer" => value.trim().strip_prefix("whois://"),
            _ => None,
        }
    })?;
    let host = next.trim_end_matches('/').to_ascii_lowercase();
    let well = host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'));
    (well && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one question, and gives the question back.
    async fn serve(answer: String) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 64];
            let length = stream.read(&mut question).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&question[..length]).into_owned()
        });
        (name, task)
    }

    fn google() -> IpAddr {
        "8.8.8.8".parse().unwrap()
    }

    #[tokio::test]
    async fn referrals_are_followed() {
        let (second, asked_second) = serve("OrgName: Google LLC\r\n\u{1b}[2J<b>\n".to_owned()).await;
        let (first, asked_first) = serve(format!("% IANA\nrefer:   {second}\n")).await;
        let answer = follow(&first, google(), |_| true).await.unwrap();
        assert_eq!(answer, "OrgName: Google LLC\n[2J<b>\n");
        assert_eq!(asked_first.await.unwrap(), "8.8.8.8\r\n");
        assert_eq!(asked_second.await.unwrap(), "8.8.8.8\r\n");
    }

    #[tokio::test]
    async fn a_referral_into_the_lan_is_not_followed() {
        let (inside, _never_asked) = serve("secret".to_owned()).await;
        let (first, _) = serve(format!("ReferralServer: whois://{inside}/\n")).await;
        let answer = ask(&first, google()).await.unwrap();
        assert!(answer.starts_with("ReferralServer"), "{answer}");
    }

    #[tokio::test]
    async fn who_cannot_be_asked_is_named() {
        let private = "192.168.1.1".parse().unwrap();
        let error = ask("127.0.0.1:1", private).await.unwrap_err().to_string();
        assert_eq!(error, "192.168.1.1 is not a public address: no registry knows it");
        let error = ask("127.0.0.1:1", google()).await.unwrap_err().to_string();
        assert!(error.starts_with("127.0.0.1:1 cannot be asked: Connection refused"), "{error}");
    }
}
