//! Flags and variables as they are typed; [`Config`](crate::config::Config) is what they become.

use std::{convert::Infallible, time::Duration};

use clap::{
    ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum, builder::BoolishValueParser,
    parser::ValueSource,
};
use protocol::inference::PrecisionClass;
use serde::Serialize;
use service::{
    config::{Replaced, Secret},
    edition::Edition,
    server::{ServerLimits, seconds},
    telemetry::LogFormat,
};

use crate::lookup::l1::admission::Admission;

/// How a vector was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In float32 throughout.
    Float32,
    /// Products of bfloat16.
    Bfloat16,
    /// Products of float16.
    Float16,
    /// Products of whole numbers.
    Int8,
}

impl Precision {
    pub(crate) fn on_the_wire(self) -> PrecisionClass {
        match self {
            Self::Float32 => PrecisionClass::Float32,
            Self::Bfloat16 => PrecisionClass::Bfloat16,
            Self::Float16 => PrecisionClass::Float16,
            Self::Int8 => PrecisionClass::Int8,
        }
    }
}

/// Caching proxy for text embeddings.
///
/// Answers POST /embed from its cache, sends the texts that are missing to ml-base, and computes a text that many ask
/// for at once only once.
#[derive(Debug, Clone, Parser)]
#[command(name = "embedding-single", version)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, env = "EMBEDDING_HOST", default_value = "127.0.0.1", value_name = "HOST")]
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "EMBEDDING_PORT", default_value_t = 8888, value_name = "PORT")]
    pub port: u16,
    /// Name of this instance, as /health shows it.
    #[arg(long, env = "INSTANCE_ID", default_value = "embedding-single", value_name = "NAME")]
    pub instance: String,
    /// Where ml-base, or the balancer in front of it, answers.
    #[arg(long, env = "ML_BASE_URL", default_value = "http://127.0.0.1:8887", value_name = "URL")]
    pub ml_base_url: String,
    /// Profile of limits; the defaults marked "by edition" come from it.
    #[arg(long, env = "SUTRA_EDITION", value_enum, default_value_t, value_name = "EDITION")]
    pub edition: Edition,

    /// Vectors kept in memory (by edition: 10000, 50000, 200000); 0 turns the cache off.
    #[arg(long, env = "EMBEDDING_CACHE_SIZE", value_name = "COUNT")]
    pub cache_entries_max: Option<usize>,
    /// Memory for these vectors, with what it takes to find them.
    #[arg(long, env = "EMBEDDING_CACHE_BYTES_MAX", default_value_t = 512 << 20, value_name = "BYTES")]
    pub cache_bytes_max: usize,
    /// Which vectors go when memory is full: `lru` the least recently used, `adaptive` new ones that nobody asked for again.
    #[arg(long, env = "EMBEDDING_CACHE_ADMISSION", value_enum, default_value_t, value_name = "POLICY")]
    pub cache_admission: Admission,
    /// Seconds a vector is kept in memory.
    #[arg(long, env = "EMBEDDING_CACHE_TTL", default_value = "3600", value_name = "SECONDS", value_parser = seconds)]
    pub cache_ttl: Duration,
    /// Use cache shards: vectors that L1 does not hold are looked up there and stored there.
    #[arg(
        long,
        env = "SUTRA_CACHE_ENABLED",
        default_value = "true",
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        value_name = "true|false"
    )]
    pub shard_enabled: bool,
    /// Host of the one cache shard (127.0.0.1 by default).
    #[arg(long, env = "SUTRA_CACHE_HOST", value_name = "HOST")]
    pub shard_host: Option<String>,
    /// Port of the one cache shard (50052 by default).
    #[arg(long, env = "SUTRA_CACHE_PORT", value_name = "PORT")]
    pub shard_port: Option<u16>,
    /// Several cache shards, which divide the keys, in place of the one: `host:port,host:port`, the same text at every
    /// proxy because it decides who owns which keys, or `dns:NAME:PORT` for all addresses of a name.
    #[arg(long, env = "SUTRA_CACHE_SHARDS", value_delimiter = ',', value_name = "HOST:PORT")]
    pub shards: Vec<String>,
    /// Seconds after a shard joined, or after the start, in which texts that their shard does not hold are looked up at
    /// the one before it as well, where they were until it joined; 0 never does.
    #[arg(
        long,
        env = "EMBEDDING_SHARD_JOIN_WINDOW",
        default_value = "600",
        value_name = "SECONDS",
        value_parser = seconds
    )]
    pub shard_join_window: Duration,
    /// Seconds between two resolutions of the name in `dns:NAME:PORT`.
    #[arg(
        long,
        env = "EMBEDDING_SHARD_RESOLVE_INTERVAL",
        default_value = "10",
        value_name = "SECONDS",
        value_parser = seconds
    )]
    pub shard_resolve_interval: Duration,
    /// Seconds a vector is kept in a cache shard.
    #[arg(long, env = "SUTRA_CACHE_TTL", default_value = "86400", value_name = "SECONDS", value_parser = seconds)]
    pub shard_ttl: Duration,
    /// Seconds a request waits for the cache shards; texts that have not come by then are computed.
    #[arg(long, env = "EMBEDDING_SHARD_TIMEOUT", default_value = "0.1", value_name = "SECONDS", value_parser = seconds)]
    pub shard_timeout: Duration,
    /// Memory for vectors that wait to be stored in the cache shards, in equal parts; what does not fit is not stored.
    #[arg(long, env = "EMBEDDING_WRITE_BACK_BYTES_MAX", default_value_t = 32 << 20, value_name = "BYTES")]
    pub write_back_bytes_max: usize,
    /// Also store the first 200 characters of each text in the cache shard, for people who look into the cache. Personal
    /// data, so it is off.
    #[arg(
        long,
        env = "SUTRA_CACHE_TEXTS",
        default_value = "false",
        num_args = 0..=1,
        default_missing_value = "true",
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        value_name = "true|false"
    )]
    pub shard_texts: bool,
    /// Part of every cache key: proxies of different namespaces never share a vector.
    #[arg(long, env = "EMBEDDING_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// Width of the vectors where a request does not ask for one; the model must be trained for it. The full width
    /// by default.
    #[arg(long, env = "MATRYOSHKA_DIM", value_name = "WIDTH")]
    pub dimensions: Option<u32>,
    /// Refuse `allow_untrained_dimensions`, with which a request asks for a width that its model was not trained for.
    #[arg(
        long,
        env = "SUTRA_FORBID_UNTRAINED_DIMENSIONS",
        default_value = "false",
        num_args = 0..=1,
        default_missing_value = "true",
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        value_name = "true|false"
    )]
    pub forbid_untrained_dimensions: bool,

    /// Precision classes of vectors that are taken, from ml-base and from the cache shards.
    #[arg(
        long,
        env = "EMBEDDING_PRECISION_CLASSES",
        value_enum,
        value_delimiter = ',',
        default_value = "float32,bfloat16,float16",
        value_name = "CLASS"
    )]
    pub precision_classes: Vec<Precision>,

    /// Requests at once (by edition: 8, 64, 512); further ones get 429.
    #[arg(long, env = "EMBEDDING_REQUESTS_MAX", value_name = "COUNT")]
    pub requests_max: Option<usize>,
    /// Texts of one request (by edition: 64, 512, 2048).
    #[arg(long, env = "EMBEDDING_REQUEST_TEXTS_MAX", value_name = "COUNT")]
    pub request_texts_max: Option<usize>,
    /// Bytes of one text.
    #[arg(long, env = "EMBEDDING_TEXT_BYTES_MAX", default_value_t = 256 << 10, value_name = "BYTES")]
    pub text_bytes_max: usize,
    /// Bytes of one request body.
    #[arg(long, env = "EMBEDDING_BODY_BYTES_MAX", default_value_t = 8 << 20, value_name = "BYTES")]
    pub body_bytes_max: usize,
    /// Bytes of all request bodies at once; beyond it requests get 429.
    #[arg(long, env = "EMBEDDING_BODY_BUDGET_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    pub body_budget_bytes: usize,
    /// Seconds within which a request is answered; a caller may ask for less with `x-request-timeout-ms`.
    #[arg(long, env = "EMBEDDING_REQUEST_TIMEOUT", default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub request_timeout: Duration,

    /// Seconds a computation may take, however many wait for it.
    #[arg(long, env = "EMBEDDING_COMPUTE_TIMEOUT", default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub compute_timeout: Duration,
    /// Calls to ml-base at once (by edition: 8, 32, 32), as many for each replica; beyond it missing texts gather and
    /// leave together.
    #[arg(long, env = "EMBEDDING_ML_BASE_CALLS_MAX", value_name = "COUNT")]
    pub ml_base_calls_max: Option<usize>,
    /// Texts of one such call (by edition: 8, 32, 128).
    #[arg(long, env = "EMBEDDING_CHUNK_TEXTS_MAX", value_name = "COUNT")]
    pub chunk_texts_max: Option<usize>,
    /// Bytes of the texts of one such call; a larger text goes alone. A balancer can repeat what fits its buffer.
    #[arg(long, env = "EMBEDDING_CHUNK_BYTES_MAX", default_value_t = 48 << 10, value_name = "BYTES")]
    pub chunk_bytes_max: usize,
    /// Texts that may wait for a call (8 requests full by default); beyond it requests get 429.
    #[arg(long, env = "EMBEDDING_QUEUE_TEXTS_MAX", value_name = "COUNT")]
    pub queue_texts_max: Option<usize>,
    /// Bytes of the texts that may wait for a call.
    #[arg(long, env = "EMBEDDING_QUEUE_BYTES_MAX", default_value_t = 64 << 20, value_name = "BYTES")]
    pub queue_bytes_max: usize,

    /// Key that clients have to show as `authorization: Bearer KEY`, or @FILE for a file that holds it. Give the file or
    /// the variable: an argument is seen by everybody on the host.
    #[arg(long, env = "API_KEY", hide_env_values = true, value_name = "KEY|@FILE", value_parser = secret)]
    pub api_key: Option<Secret>,
    /// Origin of web pages that may call; repeatable; `*` for any. None by default.
    #[arg(long = "cors-origin", env = "EMBEDDING_CORS_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Bounds of the socket side.
    #[command(flatten)]
    pub server: ServerLimits,
    /// Print the configuration in force as JSON, secrets redacted, and exit.
    #[arg(long)]
    pub print_config: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a parser that can fail")]
fn secret(argument: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(argument.to_owned()))
}

/// Variables of the plan that this version does not read.
const REPLACED: [Replaced; 1] =
    [Replaced { variable: "CACHE_STRATEGY", by: "L1 always evicts what was used least recently" }];

/// What was typed, and what to warn about once logging works.
#[derive(Debug)]
pub struct Typed {
    /// The arguments.
    pub args: Args,
    key_on_command_line: bool,
}

impl Typed {
    /// Reads the command line and the environment of this process; exits on `--help` and on what is no argument.
    pub fn read() -> Self {
        let matches = Args::command().get_matches();
        let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        Self { key_on_command_line: shows_key(&matches, &args), args }
    }

    /// Warns about what has no effect or is unwise.
    pub fn warn(&self) {
        service::config::warn_of_replaced(&REPLACED);
        if self.key_on_command_line {
            tracing::warn!(
                "--api-key: a key on the command line is seen by everybody on this host; use @FILE or API_KEY"
            );
        }
    }
}

fn shows_key(matches: &ArgMatches, args: &Args) -> bool {
    matches.value_source("api_key") == Some(ValueSource::CommandLine)
        && args.api_key.as_ref().is_some_and(|key| !key.expose().starts_with('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_its_variable() {
        let command = Args::command();
        let without =
            command.get_arguments().filter(|flag| flag.get_long().is_some() && flag.get_env().is_none());
        let names: Vec<_> = without.map(|flag| flag.get_id().as_str()).collect();
        assert_eq!(names, ["print_config"]);
    }

    #[test]
    fn the_command_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn only_a_key_typed_in_the_open_is_warned_of() {
        let shown = |key: &str| {
            let matches = Args::command().get_matches_from(["embedding-single", "--api-key", key]);
            shows_key(&matches, &Args::from_arg_matches(&matches).unwrap())
        };
        assert!(shown("hunter2"));
        assert!(!shown("@/run/secrets/key"));
    }

    #[test]
    fn a_debug_print_of_the_arguments_hides_the_key() {
        let args = Args::try_parse_from(["embedding-single", "--api-key", "hunter2"]).unwrap();
        assert!(!format!("{args:?}").contains("hunter2"));
    }
}
