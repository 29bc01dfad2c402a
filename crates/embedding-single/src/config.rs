//! The configuration in force: every value checked, every default filled in.

mod shards;

use std::{net::SocketAddr, time::Duration};

use axum::http::{HeaderValue, Uri, uri::Scheme};
use serde::{Serialize, Serializer};
use service::{
    auth::ApiKey,
    config::{ConfigError, Problems, Secret, as_seconds},
    edition::{Edition, EditionLimits},
    server::ServerLimits,
    telemetry::LogFormat,
};

pub(crate) use self::shards::SHARDS_MAX;
pub use self::shards::{ShardAddress, ShardConfig, Shards};
use crate::{
    args::{Args, Precision},
    lookup::l1::admission::Admission,
};

/// The longest time any setting may name, so that moments computed from it exist.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Full requests that may wait for a call, unless the arguments say otherwise.
const QUEUED_REQUESTS: usize = 8;
/// Calls that a balancer lets through to one replica, unless that has fewer permits.
const REPLICA_CALLS_MAX: usize = 32;

/// What a proxy runs with.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name in `/health`.
    pub instance: String,
    /// Where ml-base answers.
    #[serde(serialize_with = "as_text")]
    pub ml_base_url: Uri,
    /// Profile the defaults came from.
    pub edition: Edition,
    /// Part of every cache key.
    pub namespace: String,
    /// Width served where a request asks for none; `None` is the full width.
    pub dimensions: Option<u32>,
    /// No request may ask for a width that its model was not trained for.
    pub forbid_untrained_dimensions: bool,
    /// Precision classes of vectors that are taken.
    pub precision_classes: Vec<Precision>,
    /// Bounds of L1.
    pub cache: CacheLimits,
    /// The cache shards; `None` where there is only L1.
    pub shard: Option<ShardConfig>,
    /// Bounds of requests.
    pub requests: RequestLimits,
    /// Bounds of calls to ml-base.
    pub misses: MissLimits,
    /// `--api-key` as given.
    #[serde(rename = "api_key")]
    pub api_key_argument: Option<Secret>,
    /// The key itself.
    #[serde(skip)]
    pub api_key: ApiKey,
    /// Origins of web pages that may call.
    pub cors_origins: Vec<String>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Bounds of the socket side.
    pub server: ServerLimits,
}

/// Bounds of L1.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CacheLimits {
    /// Vectors; 0 turns it off.
    pub entries_max: usize,
    /// Bytes, overhead included.
    pub bytes_max: usize,
    /// Who may enter once it is full.
    pub admission: Admission,
    /// How long a vector is kept.
    #[serde(rename = "ttl_seconds", serialize_with = "as_seconds")]
    pub ttl: Duration,
}

/// Bounds of requests.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RequestLimits {
    /// Requests at once.
    pub requests_max: usize,
    /// Texts of one request.
    pub texts_max: usize,
    /// Bytes of one text.
    pub text_bytes_max: usize,
    /// Bytes of one body.
    pub body_bytes_max: usize,
    /// Bytes of all bodies at once.
    pub body_budget_bytes: usize,
    /// Time within which a request is answered.
    #[serde(rename = "timeout_seconds", serialize_with = "as_seconds")]
    pub timeout: Duration,
}

/// Bounds of calls to ml-base.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MissLimits {
    /// Calls at once.
    pub calls_max: usize,
    /// Texts of one call.
    pub chunk_texts_max: usize,
    /// Bytes of one call.
    pub chunk_bytes_max: usize,
    /// Texts waiting for a call.
    pub queue_texts_max: usize,
    /// Bytes waiting for a call.
    pub queue_bytes_max: usize,
    /// Time a computation may take, waiting and retry included.
    #[serde(rename = "compute_timeout_seconds", serialize_with = "as_seconds")]
    pub compute_timeout: Duration,
}

fn as_text<S: Serializer>(uri: &Uri, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(uri)
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    /// Checks the arguments.
    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let address = problems.address("--host", &args.host, args.port);
        let ml_base_url = ml_base_url(&mut problems, &args.ml_base_url);
        let edition = args.edition.limits();
        let cache = cache_limits(&mut problems, &args, &edition);
        let shard = shards::shards(&mut problems, &args);
        let requests = request_limits(&mut problems, &args, &edition);
        let misses = miss_limits(&mut problems, &args, &edition, &requests);
        let api_key = api_key(&mut problems, args.api_key.as_ref());
        problems.require(args.dimensions != Some(0), "--dimensions", "is 0, the least is 1");
        problems.require(!args.namespace.is_empty(), "--namespace", "is empty");
        check_origins(&mut problems, &args.cors_origins);
        let config = address.zip(ml_base_url).map(|(address, ml_base_url)| Self {
            address,
            instance: args.instance,
            ml_base_url,
            edition: args.edition,
            namespace: args.namespace,
            dimensions: args.dimensions,
            forbid_untrained_dimensions: args.forbid_untrained_dimensions,
            precision_classes: args.precision_classes,
            cache,
            shard,
            requests,
            misses,
            api_key_argument: args.api_key,
            api_key,
            cors_origins: args.cors_origins,
            log_format: args.log_format,
            server: args.server,
        });
        problems.finish(config)
    }
}

fn ml_base_url(problems: &mut Problems, url: &str) -> Option<Uri> {
    let flag = "--ml-base-url";
    match url.parse::<Uri>() {
        Ok(uri) if uri.scheme() == Some(&Scheme::HTTP) => Some(uri),
        Ok(_) => {
            problems.add(flag, format_args!("`{url}` does not begin with http://"));
            None
        }
        Err(error) => {
            problems.add(flag, format_args!("`{url}` is not a URL: {error}"));
            None
        }
    }
}

fn cache_limits(problems: &mut Problems, args: &Args, edition: &EditionLimits) -> CacheLimits {
    check_time(problems, "--cache-ttl", args.cache_ttl);
    CacheLimits {
        entries_max: args.cache_entries_max.unwrap_or(edition.cache_entries_max),
        bytes_max: args.cache_bytes_max,
        admission: args.cache_admission,
        ttl: args.cache_ttl,
    }
}

fn request_limits(problems: &mut Problems, args: &Args, edition: &EditionLimits) -> RequestLimits {
    let limits = RequestLimits {
        requests_max: args.requests_max.unwrap_or(edition.requests_max),
        texts_max: args.request_texts_max.unwrap_or(edition.request_texts_max),
        text_bytes_max: args.text_bytes_max,
        body_bytes_max: args.body_bytes_max,
        body_budget_bytes: args.body_budget_bytes,
        timeout: args.request_timeout,
    };
    check_time(problems, "--request-timeout", limits.timeout);
    check_least(problems, "--requests-max", limits.requests_max, 1);
    check_least(problems, "--request-texts-max", limits.texts_max, 1);
    check_least(problems, "--text-bytes-max", limits.text_bytes_max, 1);
    check_least(problems, "--body-bytes-max", limits.body_bytes_max, 1);
    check_least(problems, "--body-budget-bytes", limits.body_budget_bytes, limits.body_bytes_max);
    limits
}

fn miss_limits(
    problems: &mut Problems,
    args: &Args,
    edition: &EditionLimits,
    requests: &RequestLimits,
) -> MissLimits {
    let queue_texts_default = requests.texts_max.saturating_mul(QUEUED_REQUESTS);
    let limits = MissLimits {
        calls_max: args.ml_base_calls_max.unwrap_or(edition.requests_max.min(REPLICA_CALLS_MAX)),
        chunk_texts_max: args.chunk_texts_max.unwrap_or(edition.chunk_texts_max),
        chunk_bytes_max: args.chunk_bytes_max,
        queue_texts_max: args.queue_texts_max.unwrap_or(queue_texts_default),
        queue_bytes_max: args.queue_bytes_max,
        compute_timeout: args.compute_timeout,
    };
    check_time(problems, "--compute-timeout", limits.compute_timeout);
    check_least(problems, "--ml-base-calls-max", limits.calls_max, 1);
    check_least(problems, "--chunk-texts-max", limits.chunk_texts_max, 1);
    check_least(problems, "--chunk-bytes-max", limits.chunk_bytes_max, 1);
    // Less, and one full request could never be taken in.
    check_least(problems, "--queue-texts-max", limits.queue_texts_max, requests.texts_max);
    check_least(problems, "--queue-bytes-max", limits.queue_bytes_max, requests.body_bytes_max);
    limits
}

fn check_least(problems: &mut Problems, flag: &str, value: usize, least: usize) {
    problems.require(value >= least, flag, format_args!("is {value}, the least is {least}"));
}

fn check_time(problems: &mut Problems, flag: &str, time: Duration) {
    problems.require(!time.is_zero(), flag, "is 0 seconds, it must be more");
    check_time_max(problems, flag, time);
}

fn check_time_max(problems: &mut Problems, flag: &str, time: Duration) {
    problems.require(
        time <= TIME_MAX,
        flag,
        format_args!("is {} seconds, the most is {}", time.as_secs(), TIME_MAX.as_secs()),
    );
}

fn api_key(problems: &mut Problems, argument: Option<&Secret>) -> ApiKey {
    ApiKey::from_argument(argument.map(Secret::expose)).unwrap_or_else(|error| {
        problems.add("--api-key", error);
        ApiKey::default()
    })
}

/// A browser compares origins as text, so a form it never sends would silently match nothing.
fn check_origins(problems: &mut Problems, origins: &[String]) {
    for origin in origins {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
            && HeaderValue::from_str(origin).is_ok();
        problems.require(
            origin == "*" || is_origin,
            "--cors-origin",
            format_args!("`{origin}` is neither `*` nor like https://example.org"),
        );
    }
    let any_among_others = origins.len() > 1 && origins.iter().any(|origin| origin == "*");
    problems.require(!any_among_others, "--cors-origin", "`*` stands alone: leave the others out");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let command = ["embedding-single"].iter().chain(arguments).copied();
        Args::try_parse_from(command).unwrap().try_into()
    }

    #[test]
    fn defaults_are_those_of_the_edition() {
        let simple = config(&["--edition", "simple"]).unwrap();
        assert_eq!((simple.requests.requests_max, simple.requests.texts_max), (8, 64));
        assert_eq!((simple.misses.chunk_texts_max, simple.cache.entries_max), (8, 10_000));
        let own = config(&["--edition", "simple", "--request-texts-max", "7"]).unwrap();
        assert_eq!((own.requests.texts_max, own.misses.queue_texts_max), (7, 56));
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let arguments = [
            ["--ml-base-url", "ml-base:8887"],
            ["--dimensions", "0"],
            ["--ml-base-calls-max", "0"],
            ["--cache-ttl", "0"],
            ["--queue-texts-max", "1"],
            ["--cors-origin", "example.org/"],
            ["--api-key", "@/nowhere/key"],
        ];
        let message = config(&arguments.concat()).unwrap_err().to_string();
        assert!(message.contains("7 mistake(s)"), "{message}");
        for [flag, _] in arguments {
            assert!(message.contains(&format!("{flag}: ")), "{flag} is not in: {message}");
        }
    }

    #[test]
    fn printed_configuration_hides_the_key() {
        let printed = serde_json::to_string(&config(&["--api-key", "hunter2"]).unwrap()).unwrap();
        assert!(!printed.contains("hunter2") && printed.contains(r#""api_key":"***""#), "{printed}");
    }

    #[test]
    fn any_origin_stands_alone() {
        assert!(config(&["--cors-origin", "*"]).is_ok());
        assert!(config(&["--cors-origin", "https://a.example", "--cors-origin", "http://b:3000"]).is_ok());
        assert!(config(&["--cors-origin", "*", "--cors-origin", "https://a.example"]).is_err());
    }
}
