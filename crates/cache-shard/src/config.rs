//! The validated configuration of cache-shard.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Serialize;
use service::{
    config::{ConfigError, Problems, Replaced, as_seconds},
    server::ServerLimits,
};

use crate::{
    args::Args,
    store::{Budget, Durability, TTL_MAX, TtlMode},
};

/// Variables of the plan that have no effect here, and what stands in their place.
pub const REPLACED: &[Replaced] = &[
    Replaced { variable: "CACHE_MODE", by: "SUTRA_ROLE=cache_shard says what this node is" },
    Replaced { variable: "MMAP_ENABLED", by: "records are read with pread, and the system caches the files" },
];

const ROLE: &str = "cache_shard";
/// What goes at once where a budget is spent is a segment.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// Segments of a store, so that their files stay few.
const SEGMENTS_MAX: u64 = 256;
/// The least a store can be: its segments hold at least a record of ordinary width each.
const BYTES_MIN: u64 = 1 << 20;
/// The least an index can be: a thousand entries.
const INDEX_BYTES_MIN: usize = 64 << 10;
/// More would be another time to live.
const TTL_JITTER_PERCENT_MAX: u8 = 50;

/// Where and how much the store keeps.
#[derive(Debug, Clone, Serialize)]
pub struct StorageConfig {
    /// Directory of the store.
    pub path: PathBuf,
    /// Entries at once.
    pub entries_max: usize,
    /// Bytes of all segments.
    pub bytes_max: u64,
    /// Bytes of one segment.
    pub segment_bytes_max: u64,
    /// Bytes of memory of the index.
    pub index_bytes_max: usize,
    /// Time to live of records that name none.
    #[serde(serialize_with = "as_seconds", rename = "default_ttl_seconds")]
    pub default_ttl: Duration,
    /// What a time to live means.
    pub ttl_mode: TtlMode,
    /// Each record is kept less than its time to live by up to so much of it.
    pub ttl_jitter_percent: u8,
    /// When what was written reaches the disk itself.
    pub durability: Durability,
    /// Time between two rounds of the keeper.
    #[serde(serialize_with = "as_seconds", rename = "sync_interval_seconds")]
    pub sync_interval: Duration,
}

/// Bounds of a call.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// Calls at once.
    pub calls_max: usize,
    /// Keys or records of one call.
    pub keys_max: usize,
    /// Bytes of one request.
    pub message_bytes_max: usize,
    /// Bytes of the vectors of one answer.
    pub answer_bytes_max: usize,
    /// Time a call may take.
    #[serde(serialize_with = "as_seconds", rename = "request_timeout_seconds")]
    pub request_timeout: Duration,
    /// Bounds of the socket side.
    pub server: ServerLimits,
}

/// The configuration of one shard.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Name of this shard.
    pub instance_id: String,
    /// What this node is.
    pub role: &'static str,
    /// Width that `/health` reports.
    pub vector_dimension: u32,
    /// The store.
    pub storage: StorageConfig,
    /// The bounds.
    pub limits: Limits,
}

impl Config {
    /// Validates `args`.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake, each by the name of its flag.
    pub fn new(args: Args) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let listen = problems.address("--host", &args.host, args.port);
        let message = format_args!("`{}` is not among what this build has: {ROLE}", args.role);
        problems.require(args.role == ROLE, "--role", message);
        let policy = &args.eviction_policy;
        let message = format_args!("`{policy}` is not among what this build has: lru");
        problems.require(policy == "lru", "--eviction-policy", message);
        check_numbers(&args, &mut problems);
        let config = listen.map(|listen| Self {
            listen,
            instance_id: args.instance_id,
            role: ROLE,
            vector_dimension: args.vector_dimension,
            storage: StorageConfig {
                path: args.storage_path,
                entries_max: args.entries_max,
                bytes_max: args.bytes_max,
                segment_bytes_max: args.segment_bytes_max,
                index_bytes_max: args.index_bytes_max,
                default_ttl: args.default_ttl,
                ttl_mode: args.ttl_mode,
                ttl_jitter_percent: args.ttl_jitter_percent,
                durability: args.durability,
                sync_interval: args.sync_interval,
            },
            limits: Limits {
                calls_max: args.calls_max,
                keys_max: args.keys_max,
                message_bytes_max: args.message_bytes_max,
                answer_bytes_max: args.answer_bytes_max,
                request_timeout: args.request_timeout,
                server: args.server,
            },
        });
        problems.finish(config)
    }
}

impl StorageConfig {
    /// The bounds of the store.
    pub fn budget(&self) -> Budget {
        Budget {
            entries_max: self.entries_max,
            bytes_max: self.bytes_max,
            segment_bytes_max: self.segment_bytes_max,
            index_bytes_max: self.index_bytes_max,
        }
    }
}

fn check_numbers(args: &Args, problems: &mut Problems) {
    let at_least_one = [
        ("--entries-max", args.entries_max),
        ("--calls-max", args.calls_max),
        ("--keys-max", args.keys_max),
        ("--message-bytes-max", args.message_bytes_max),
        ("--answer-bytes-max", args.answer_bytes_max),
    ];
    for (flag, value) in at_least_one {
        problems.require(value > 0, flag, "is 0, the least is 1");
    }
    let (bytes, segment_bytes) = (args.bytes_max, args.segment_bytes_max);
    let bytes_most = segment_bytes.saturating_mul(SEGMENTS_MAX);
    let message =
        format_args!("is {bytes}, the limits are {BYTES_MIN} and {SEGMENTS_MAX} segments, {bytes_most}");
    problems.require((BYTES_MIN..=bytes_most.max(BYTES_MIN)).contains(&bytes), "--bytes-max", message);
    let percent = args.ttl_jitter_percent;
    let message = format_args!("is {percent}, the limit is {TTL_JITTER_PERCENT_MAX}");
    problems.require(percent <= TTL_JITTER_PERCENT_MAX, "--ttl-jitter-percent", message);
    let index_bytes = args.index_bytes_max;
    let message = format_args!("is {index_bytes}, the least is {INDEX_BYTES_MIN}");
    problems.require(index_bytes >= INDEX_BYTES_MIN, "--index-bytes-max", message);
    let least = BYTES_MIN / SEGMENTS_MAX;
    let message = format_args!("is {segment_bytes}, the limits are {least} and {SEGMENT_BYTES_MAX}");
    problems.require((least..=SEGMENT_BYTES_MAX).contains(&segment_bytes), "--segment-bytes-max", message);
    let ttl = args.default_ttl;
    let message = format_args!("is {ttl:?}, the limits are 1 ms and {TTL_MAX:?}");
    problems.require(ttl.as_millis() > 0 && ttl <= TTL_MAX, "--default-ttl", message);
    let message = "is 0: fsync would never end";
    problems.require(!args.sync_interval.is_zero(), "--sync-interval", message);
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        Config::new(Args::parse_from([&["cache-shard"], arguments].concat()))
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(config(&[]).unwrap().listen.port(), 50052);
    }

    #[test]
    fn all_mistakes_are_named() {
        let arguments = [
            "--role=grid_events",
            "--eviction-policy=lfu",
            "--entries-max=0",
            "--bytes-max=9",
            "--segment-bytes-max=9999999999",
            "--index-bytes-max=1",
            "--ttl-jitter-percent=51",
            "--default-ttl=0",
            "--sync-interval=0",
        ];
        let message = config(&arguments).unwrap_err().to_string();
        for argument in arguments {
            let flag = argument.split('=').next().unwrap();
            assert!(message.contains(&format!("{flag}: ")), "{flag} in {message}");
        }
    }
}
