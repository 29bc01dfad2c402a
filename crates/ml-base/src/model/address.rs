//! Addresses of the hub and the package index: http(s), without credentials in what is printed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use service::config::Secret;

/// Where a server's pages begin, such as `https://huggingface.co`. `user:password@` is taken off and kept secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    root: Address,
    /// The whole `Authorization` value, where the address carried a user.
    authorization: Option<Secret>,
}

impl Endpoint {
    /// The address of `path` below this one.
    pub(super) fn child(&self, path: &str) -> Result<Address, BadAddress> {
        format!("{}/{path}", self.root).parse()
    }

    /// The `Authorization` value that came with the address.
    pub(super) fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }
}

/// Not an http(s) address. Says nothing of the text, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("address must be http:// or https:// with a host")]
pub struct BadAddress;

impl FromStr for Endpoint {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let uri: Uri = text.trim().trim_end_matches('/').parse().map_err(|_| BadAddress)?;
        let authority = uri.authority().ok_or(BadAddress)?.as_str();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let root = Address::new(uri.scheme_str(), host, uri.path().trim_end_matches('/'))?;
        let authorization =
            user.map(|user| Secret::new(format!("Basic {}", BASE64.encode(percent_decoded(user)))));
        Ok(Self { root, authorization })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(out)
    }
}

/// One http(s) address, never with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    scheme: Scheme,
    host: Authority,
    path: String,
}

impl Address {
    fn new(scheme: Option<&str>, host: &str, path: &str) -> Result<Self, BadAddress> {
        let scheme = match scheme {
            Some("http") => Scheme::HTTP,
            Some("https") => Scheme::HTTPS,
            _ => return Err(BadAddress),
        };
        if !path.is_empty() {
            path.parse::<PathAndQuery>().map_err(|_| BadAddress)?;
        }
        Ok(Self { scheme, host: host.parse().map_err(|_| BadAddress)?, path: path.to_owned() })
    }

    /// What a link on this page, or a `Location` header, points to.
    pub(super) fn join(&self, link: &str) -> Result<Self, BadAddress> {
        let link = link.split('#').next().unwrap_or_default();
        if let Some(rest) = link.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme).parse();
        }
        if link.contains("://") {
            return link.parse();
        }
        if link.starts_with('/') {
            return Self::new(Some(self.scheme.as_str()), self.host.as_str(), link);
        }
        let folder =
            self.path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(to, _)| to);
        Self::new(Some(self.scheme.as_str()), self.host.as_str(), &without_dots(folder, link))
    }

    /// Whether a credential for `self` may be sent to `other`: same scheme, host and port.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        let port = |address: &Self| {
            address.host.port_u16().unwrap_or(if address.scheme == Scheme::HTTPS { 443 } else { 80 })
        };
        self.scheme == other.scheme
            && self.host.host().eq_ignore_ascii_case(other.host.host())
            && port(self) == port(other)
    }

    /// Whether going from `self` to `other` would give up encryption.
    pub(super) fn loses_encryption(&self, other: &Self) -> bool {
        self.scheme == Scheme::HTTPS && other.scheme != Scheme::HTTPS
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let uri: Uri = text.parse().map_err(|_| BadAddress)?;
        let host = uri.authority().ok_or(BadAddress)?;
        let host = host.as_str().rsplit_once('@').map_or(host.as_str(), |(_, host)| host);
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        Self::new(uri.scheme_str(), host, path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme, self.host, self.path)
    }
}

/// `link` relative to `folder`, with `.` and `..` resolved. A query after `?` is left alone.
fn without_dots(folder: &str, link: &str) -> String {
    let (link, query) = link.split_at(link.find('?').unwrap_or(link.len()));
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

/// `%41` becomes `A`; anything that is not a pair of hex digits stays.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let code = pair.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        decoded.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(page: &str, link: &str) -> String {
        page.parse::<Address>().unwrap().join(link).unwrap().to_string()
    }

    #[test]
    fn links_of_an_index_page_are_resolved_like_a_browser_does() {
        let page = "https://index.example/simple/some-model/";
        assert_eq!(joined(page, "https://files.example/a.whl#sha256=0"), "https://files.example/a.whl");
        assert_eq!(joined(page, "//files.example/a.whl"), "https://files.example/a.whl");
        assert_eq!(joined(page, "/packages/a.whl?x=1"), "https://index.example/packages/a.whl?x=1");
        assert_eq!(joined(page, "../../packages/a.whl"), "https://index.example/packages/a.whl");
        assert_eq!(joined(page, "a.whl"), "https://index.example/simple/some-model/a.whl");
        assert_eq!(joined("http://host:81/x?y=/z", "a"), "http://host:81/a");
    }

    #[test]
    fn credential_stays_with_scheme_host_and_port() {
        let hub: Address = "https://hub.example/a".parse().unwrap();
        let may = |text: &str| hub.same_origin(&text.parse().unwrap());
        assert!(may("https://hub.example/b") && may("https://HUB.example:443/"));
        assert!(hub.loses_encryption(&"http://hub.example/".parse().unwrap()));
        assert!(
            !may("http://hub.example/") && !may("https://hub.example:8443/") && !may("https://cdn.example/")
        );
    }

    #[test]
    fn user_and_password_are_sent_and_never_printed() {
        let index: Endpoint = "https://ann:p%40ss@index.example/simple/".parse().unwrap();
        assert_eq!(index.to_string(), "https://index.example/simple");
        assert_eq!(index.child("x/").unwrap().to_string(), "https://index.example/simple/x/");
        let expected = format!("Basic {}", BASE64.encode("ann:p@ss"));
        assert_eq!(index.authorization().unwrap().expose(), expected);
        assert!(!format!("{index:?}").contains("ann") && !format!("{index:?}").contains("QW"));
        let leaked = "https://ann:secret@files.example/a".parse::<Address>().unwrap();
        assert_eq!(leaked.to_string(), "https://files.example/a");
    }

    #[test]
    fn what_is_not_http_is_refused_without_repeating_it() {
        for text in ["", "huggingface.co", "ftp://host/", "file:///etc", "https://", "https://a b/"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.to_string(), "address must be http:// or https:// with a host", "{text}");
        }
    }
}
