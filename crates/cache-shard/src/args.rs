//! The command line of cache-shard, each flag with its variable.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use service::{
    server::{ServerLimits, seconds},
    telemetry::LogFormat,
};

use crate::store::{Durability, TtlMode};

/// Storage node: keeps vectors on disk, with a time to live, and gives them back over gRPC.
///
/// What it accepted survives the death of the process; a damaged record is never given back. Alone it is useful too:
/// any gRPC client can speak `sutra.cache.v1.Cache`, and reflection describes it.
#[derive(Debug, Parser)]
#[command(name = "cache-shard", version)]
pub struct Args {
    /// Address to listen on
    #[arg(long, env = "STORAGE_HOST", default_value = "127.0.0.1", value_name = "HOST")]
    pub host: String,
    /// Port to listen on
    #[arg(long, env = "STORAGE_PORT", default_value_t = 50052, value_name = "PORT")]
    pub port: u16,
    /// Name of this shard in `/health`, `/info` and logs
    #[arg(long, env = "INSTANCE_ID", default_value = "cache-shard", value_name = "NAME")]
    pub instance_id: String,
    /// Directory of the store; made if it is not there
    #[arg(long, env = "STORAGE_PATH", default_value = ".sutra/cache", value_name = "DIR")]
    pub storage_path: PathBuf,
    /// What this node is: `cache_shard`
    #[arg(long, env = "SUTRA_ROLE", default_value = "cache_shard", value_name = "NAME")]
    pub role: String,
    /// Width of the vectors that `/health` reports; vectors of every width are stored
    #[arg(long, env = "VECTOR_DIMENSION", default_value_t = 384, value_name = "COUNT")]
    pub vector_dimension: u32,
    /// Entries at once; 29 to 58 bytes of memory each
    #[arg(long, env = "MAX_CONCEPTS", default_value_t = 1_000_000, value_name = "COUNT")]
    pub entries_max: usize,
    /// Bytes of the store on the disk
    #[arg(long, env = "STORAGE_BYTES_MAX", default_value_t = 4 << 30, value_name = "BYTES")]
    pub bytes_max: u64,
    /// Bytes of one segment; a sixteenth of the store if that is less
    #[arg(long, env = "STORAGE_SEGMENT_BYTES_MAX", default_value_t = 64 << 20, value_name = "BYTES")]
    pub segment_bytes_max: u64,
    /// Bytes of memory of the index; 64 for each entry are reckoned
    #[arg(long, env = "STORAGE_INDEX_BYTES_MAX", default_value_t = 1 << 30, value_name = "BYTES")]
    pub index_bytes_max: usize,
    /// What goes where a budget is spent: `lru`, of the oldest segment what was not asked for lately
    #[arg(long, env = "EVICTION_POLICY", default_value = "lru", value_name = "NAME")]
    pub eviction_policy: String,
    /// Seconds to keep a vector that names no time to live
    #[arg(long, env = "DEFAULT_TTL_SECONDS", default_value = "86400", value_name = "SECONDS", value_parser = seconds)]
    pub default_ttl: Duration,
    /// What a time to live means: `absolute`, gone at its end, or `sliding`, counted from the last time it was asked for
    #[arg(long, env = "STORAGE_TTL_MODE", value_enum, default_value_t, value_name = "NAME")]
    pub ttl_mode: TtlMode,
    /// Percent of its time to live by which a vector may go earlier, so that what came together does not go together
    #[arg(long, env = "STORAGE_TTL_JITTER_PERCENT", default_value_t = 10, value_name = "PERCENT")]
    pub ttl_jitter_percent: u8,
    /// When what was written reaches the disk itself; always, what is acknowledged survives the death of the process
    #[arg(long, env = "STORAGE_DURABILITY", value_enum, default_value_t, value_name = "NAME")]
    pub durability: Durability,
    /// Seconds between two rounds of fsync and expiration
    #[arg(long, env = "STORAGE_SYNC_INTERVAL", default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    pub sync_interval: Duration,
    /// Calls at once; further ones are refused with 429
    #[arg(long, env = "STORAGE_CALLS_MAX", default_value_t = 128, value_name = "COUNT")]
    pub calls_max: usize,
    /// Keys or records of one call
    #[arg(long, env = "STORAGE_KEYS_MAX", default_value_t = 2048, value_name = "COUNT")]
    pub keys_max: usize,
    /// Bytes of one request
    #[arg(long, env = "STORAGE_MESSAGE_BYTES_MAX", default_value_t = 16 << 20, value_name = "BYTES")]
    pub message_bytes_max: usize,
    /// Bytes of the vectors of one answer; keys after that are misses
    #[arg(long, env = "STORAGE_ANSWER_BYTES_MAX", default_value_t = 16 << 20, value_name = "BYTES")]
    pub answer_bytes_max: usize,
    /// Seconds a call may take; its caller may ask for less
    #[arg(long, env = "STORAGE_REQUEST_TIMEOUT", default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub request_timeout: Duration,
    /// How log lines look
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t, value_name = "NAME")]
    pub log_format: LogFormat,
    /// Bounds of the socket side.
    #[command(flatten)]
    pub server: ServerLimits,
    /// Print the configuration in force as JSON and exit
    #[arg(long)]
    pub print_config: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_has_its_variable() {
        let command = Args::command();
        let without =
            command.get_arguments().filter(|flag| flag.get_long().is_some() && flag.get_env().is_none());
        let names: Vec<_> = without.map(|flag| flag.get_id().as_str()).collect();
        assert_eq!(names, ["print_config"]);
    }
}
