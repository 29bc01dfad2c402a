//! Which cache shards there are, and what they may cost.

use std::{fmt, net::Ipv6Addr, net::SocketAddr, time::Duration};

use axum::http::{
    Uri,
    uri::{Authority, Scheme},
};
use serde::{Serialize, Serializer};
use service::config::{Problems, as_seconds};

use super::{check_time, check_time_max};
use crate::args::Args;

/// Shards of one proxy.
pub(crate) const SHARDS_MAX: usize = 64;
/// What a cache shard takes.
const NAMESPACE_BYTES_MAX: usize = 64;
const HOST_DEFAULT: &str = "127.0.0.1";
const PORT_DEFAULT: u16 = 50052;
const DNS: &str = "dns:";

/// Where the cache shards are, and what they may cost.
#[derive(Debug, Clone, Serialize)]
pub struct ShardConfig {
    /// Where they answer.
    pub shards: Shards,
    /// How long a vector is kept there.
    #[serde(rename = "ttl_seconds", serialize_with = "as_seconds")]
    pub ttl: Duration,
    /// How long a request waits for them.
    #[serde(rename = "timeout_seconds", serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// Bytes of vectors that wait to be stored, for all of them.
    pub write_back_bytes_max: usize,
    /// Whether they keep how each text begins.
    pub keeps_texts: bool,
    /// How long after a shard joined its keys are looked up at their owner before it as well.
    #[serde(rename = "join_window_seconds", serialize_with = "as_seconds")]
    pub join_window: Duration,
    /// How often a DNS name is resolved.
    #[serde(rename = "resolve_interval_seconds", serialize_with = "as_seconds")]
    pub resolve_interval: Duration,
}

/// The cache shards, or how they are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shards {
    /// These.
    Listed(Vec<ShardAddress>),
    /// All addresses of a name, watched.
    Dns {
        /// The name.
        host: String,
        /// The port of each.
        port: u16,
    },
}

/// Where one shard answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardAddress {
    /// `host:port` as it was configured: what decides which keys it owns.
    pub name: String,
    /// The same to connect to.
    pub url: Uri,
}

impl ShardAddress {
    /// Reads `host:port` or `http://host:port`.
    fn read(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let wrong = || format!("`{text}` is not like host:50052");
        let authority: Authority = name.parse().map_err(|_| wrong())?;
        let is_plain = authority.port_u16().is_some() && !authority.host().is_empty() && !name.contains('@');
        is_plain.then_some(()).ok_or_else(wrong)?;
        let url = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query("/").build();
        Ok(Self { name: name.to_owned(), url: url.map_err(|_| wrong())? })
    }

    /// Of a resolved address.
    ///
    /// # Errors
    /// If it makes no URL.
    pub(crate) fn of(address: SocketAddr) -> Result<Self, String> {
        Self::read(&address.to_string())
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(shards) => {
                let names: Vec<_> = shards.iter().map(|shard| shard.name.as_str()).collect();
                formatter.write_str(&names.join(","))
            }
            Self::Dns { host, port } => write!(formatter, "{DNS}{host}:{port}"),
        }
    }
}

impl Serialize for Shards {
    /// As it is written behind `--shards`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Checks the flags of the shards; `None` where they are switched off or wrong.
pub(super) fn shards(problems: &mut Problems, args: &Args) -> Option<ShardConfig> {
    if !args.shard_enabled {
        return None;
    }
    check_time(problems, "--shard-ttl", args.shard_ttl);
    check_time(problems, "--shard-timeout", args.shard_timeout);
    check_time(problems, "--shard-resolve-interval", args.shard_resolve_interval);
    check_time_max(problems, "--shard-join-window", args.shard_join_window);
    let (bytes, bytes_max) = (args.namespace.len(), NAMESPACE_BYTES_MAX);
    problems.require(
        bytes <= bytes_max,
        "--namespace",
        format_args!("has {bytes} bytes, the limit is {bytes_max}"),
    );
    let given: Vec<_> =
        args.shards.iter().map(|shard| shard.trim()).filter(|shard| !shard.is_empty()).collect();
    let shards = match given[..] {
        [] => one(problems, args),
        [name] if name.starts_with(DNS) => dns(problems, name),
        _ => listed(problems, &given),
    };
    let is_once = given.is_empty() || (args.shard_host.is_none() && args.shard_port.is_none());
    problems.require(is_once, "--shards", "stands beside --shard-host or --shard-port: give one of them");
    Some(ShardConfig {
        shards: shards?,
        ttl: args.shard_ttl,
        timeout: args.shard_timeout,
        write_back_bytes_max: args.write_back_bytes_max,
        keeps_texts: args.shard_texts,
        join_window: args.shard_join_window,
        resolve_interval: args.shard_resolve_interval,
    })
}

fn one(problems: &mut Problems, args: &Args) -> Option<Shards> {
    let (host, port) =
        (args.shard_host.as_deref().unwrap_or(HOST_DEFAULT), args.shard_port.unwrap_or(PORT_DEFAULT));
    // A bare IPv6 address has to be told from the port.
    let bracketed = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    match ShardAddress::read(&format!("{bracketed}:{port}")) {
        Ok(shard) => Some(Shards::Listed(vec![shard])),
        Err(_) => {
            problems.add("--shard-host", format_args!("`{host}` is not a host"));
            None
        }
    }
}

fn dns(problems: &mut Problems, text: &str) -> Option<Shards> {
    match ShardAddress::read(&text[DNS.len()..]) {
        Ok(ShardAddress { url, .. }) => {
            let (host, port) = (url.host().unwrap_or_default(), url.port_u16().unwrap_or_default());
            Some(Shards::Dns { host: host.to_owned(), port })
        }
        Err(_) => {
            problems.add("--shards", format_args!("`{text}` is not like dns:shards.example:50052"));
            None
        }
    }
}

fn listed(problems: &mut Problems, given: &[&str]) -> Option<Shards> {
    let flag = "--shards";
    let (count, count_max) = (given.len(), SHARDS_MAX);
    problems.require(
        count <= count_max,
        flag,
        format_args!("names {count} shards, the limit is {count_max}"),
    );
    if given.iter().any(|text| text.starts_with(DNS)) {
        problems.add(flag, "a name behind dns: stands alone");
        return None;
    }
    let mut shards: Vec<ShardAddress> = Vec::new();
    for text in given {
        match ShardAddress::read(text) {
            Ok(shard) if shards.iter().any(|known| known.name == shard.name) => {
                problems.add(flag, format_args!("`{}` is named twice", shard.name));
            }
            Ok(shard) => shards.push(shard),
            Err(error) => problems.add(flag, error),
        }
    }
    Some(Shards::Listed(shards))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use service::config::ConfigError;

    use super::*;
    use crate::config::Config;

    fn config(arguments: &[&str]) -> Result<Option<ShardConfig>, ConfigError> {
        let command = ["embedding-single"].iter().chain(arguments).copied();
        Config::try_from(Args::try_parse_from(command).unwrap()).map(|config| config.shard)
    }

    fn shown(arguments: &[&str]) -> String {
        config(arguments).unwrap().unwrap().shards.to_string()
    }

    fn mistake(arguments: &[&str]) -> String {
        config(arguments).unwrap_err().to_string()
    }

    #[test]
    fn shard_is_on_unless_it_is_switched_off() {
        assert_eq!(shown(&[]), "127.0.0.1:50052");
        assert_eq!(shown(&["--shard-port", "9"]), "127.0.0.1:9");
        assert_eq!(shown(&["--shard-host", "::1", "--shard-port", "9"]), "[::1]:9");
        assert_eq!(shown(&["--shards", ""]), "127.0.0.1:50052", "as compose files leave a variable empty");
        for off in ["false", "0", "no"] {
            assert!(config(&["--shard-enabled", off]).unwrap().is_none());
        }
        let error = mistake(&["--shard-host", "a b", "--namespace", &"n".repeat(65)]);
        assert!(error.contains("--shard-host: ") && error.contains("--namespace: "), "{error}");
    }

    #[test]
    fn several_shards_are_listed_by_host_and_port() {
        assert_eq!(shown(&["--shards", "a:1, http://b:2,[::1]:3,"]), "a:1,b:2,[::1]:3");
        let Shards::Listed(shards) = config(&["--shards", "http://b:2/"]).unwrap().unwrap().shards else {
            panic!("these are listed");
        };
        assert_eq!((shards[0].name.as_str(), shards[0].url.to_string()), ("b:2", "http://b:2/".to_owned()));
    }

    #[test]
    fn a_dns_name_is_told_from_a_list() {
        let shards = config(&["--shards", "dns:shards.example:50052"]).unwrap().unwrap().shards;
        assert_eq!(shards, Shards::Dns { host: "shards.example".to_owned(), port: 50052 });
        assert_eq!(shards.to_string(), "dns:shards.example:50052");
    }

    #[test]
    fn mistakes_in_the_list_are_named_by_its_flag() {
        let many = (1..=65).map(|port| format!("a:{port}")).collect::<Vec<_>>().join(",");
        for (list, part) in [
            ("a", "`a` is not like host:50052"),
            ("https://a:1", "`https://a:1` is not"),
            ("me@a:1", "`me@a:1` is not"),
            ("a:1,a:1", "`a:1` is named twice"),
            ("a:1,dns:b:2", "stands alone"),
            ("dns:b", "`dns:b` is not like dns:"),
            (&many, "names 65 shards, the limit is 64"),
        ] {
            let error = mistake(&["--shards", list]);
            assert!(error.contains("--shards: ") && error.contains(part), "{list}: {error}");
        }
        let error = mistake(&["--shards", "a:1", "--shard-port", "2"]);
        assert!(error.contains("--shards: stands beside"), "{error}");
    }

    #[test]
    fn printed_shards_can_be_given_again() {
        for list in ["a:1,b:2", "dns:shards.example:50052"] {
            let printed = serde_json::to_value(config(&["--shards", list]).unwrap().unwrap()).unwrap();
            assert_eq!(printed["shards"], list);
        }
    }
}
