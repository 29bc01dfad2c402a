//! The command line of ml-base, each flag with its variable.

use std::{num::NonZeroUsize, time::Duration};

use clap::{ArgAction, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use serde::Serialize;
use service::{
    edition::Edition,
    server::{ServerLimits, seconds},
    telemetry::LogFormat,
};

use crate::model::SourceArgs;

/// What to compute in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bfloat16 where the CPU is faster with it (AMX tiles, AVX512-BF16, or AVX2 without AVX-512), else float32.
    #[default]
    Auto,
    /// float32 throughout.
    Float32,
    /// Products of bfloat16 values, or of whole numbers of sixteen bits, which are as near to float32; refused where the CPU has
    /// no AVX2.
    Bfloat16,
    /// Products of int8 values, scaled by output and by token, sums exact; on any CPU.
    Int8,
}

/// The instructions that may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CpuIsa {
    /// The fastest of this CPU.
    #[default]
    Auto,
    /// AMX tiles; refused where the CPU or its kernel does not offer them.
    Amx,
    /// AVX-512, with its bfloat16 and, for int8, VNNI where they are there; never tiles.
    Avx512,
    /// AVX2 and FMA, int8 by VNNI of that width where it is there; never 512 bits.
    Avx2,
    /// Plain code, on any CPU.
    Portable,
}

impl From<CpuIsa> for engine::Isa {
    fn from(isa: CpuIsa) -> Self {
        match isa {
            CpuIsa::Auto => Self::Auto,
            CpuIsa::Amx => Self::Amx,
            CpuIsa::Avx512 => Self::Avx512,
            CpuIsa::Avx2 => Self::Avx2,
            CpuIsa::Portable => Self::Portable,
        }
    }
}

/// When models besides the default one are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ModelsLoad {
    /// When a call first names them, which waits for it.
    #[default]
    FirstUse,
    /// Before the replica is ready.
    Start,
}

/// Inference server: turns texts into embeddings with one model or several, over gRPC and HTTP on one port.
///
/// Alone it is useful too: `curl -X POST :8887/embed -H 'content-type: application/json' -d '{"inputs": "a text"}'`.
#[derive(Debug, Parser)]
#[command(name = "ml-base", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without it, serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What ml-base does besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch and verify a model, print its directory, and exit
    Fetch(FetchArgs),
    /// Print the models that are known by a short name, and exit
    Models(ModelsArgs),
}

/// Arguments of `ml-base models`.
#[derive(Debug, clap::Args)]
pub struct ModelsArgs {
    /// Print JSON, one array
    #[arg(long)]
    pub json: bool,
    /// Where models come from.
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// Arguments of `ml-base fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// Alias, hub id or directory of the model
    #[arg(long, env = "MODEL_NAME", default_value = "medium", value_name = "NAME")]
    pub model_id: String,
    /// Where models come from.
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// Arguments of the server.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on
    #[arg(long, env = "ML_BASE_HOST", default_value = "127.0.0.1", value_name = "HOST")]
    pub host: String,
    /// Port to listen on
    #[arg(long, env = "ML_BASE_PORT", default_value_t = 8887, value_name = "PORT")]
    pub port: u16,
    /// Name of this replica in `/health`, `/info` and logs
    #[arg(long, env = "INSTANCE_ID", default_value = "ml-base", value_name = "NAME")]
    pub instance_id: String,
    /// Alias (medium, small), hub id or directory of the default model, which is always loaded
    #[arg(long, env = "MODEL_NAME", default_value = "medium", value_name = "NAME")]
    pub model_id: String,
    /// Further models that calls may name
    #[arg(long, env = "ML_BASE_MODELS", value_delimiter = ',', value_name = "NAME,…")]
    pub models: Vec<String>,
    /// When the further models are loaded; they are fetched and verified before the replica is ready
    #[arg(long, env = "ML_BASE_MODELS_LOAD", value_enum, default_value_t, value_name = "WHEN")]
    pub models_load: ModelsLoad,
    /// Memory of all loaded models together, as it is reckoned from their files; room for a model is made by unloading
    /// what was used least recently [default: three quarters of what is available at start]
    #[arg(long, env = "ML_BASE_MODELS_MEMORY_BYTES_MAX", value_name = "BYTES")]
    pub models_memory_bytes_max: Option<u64>,
    /// Seconds after which a further model that nobody uses is unloaded; 0 for never
    #[arg(long, env = "ML_BASE_MODEL_UNLOAD_TIMEOUT", default_value = "300", value_name = "SECONDS", value_parser = seconds)]
    pub model_unload_timeout: Duration,
    /// Where models come from.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Width of the vectors `POST /embed` answers with; one the model was trained for [default: its full width]
    #[arg(long, env = "MATRYOSHKA_DIM", value_name = "COUNT")]
    pub dimensions: Option<u32>,
    /// Refuse `allow_untrained_dimensions`, with which a request asks for a width that its model was not trained for
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
    /// Device to compute on: `auto` or `cpu`
    #[arg(long, env = "ML_BASE_DEVICE", default_value = "auto", value_name = "NAME")]
    pub device: String,
    /// Precision to compute in; `auto` is bfloat16 where the CPU is faster with it (AMX tiles, AVX512-BF16, or AVX2 without AVX-512), else float32
    #[arg(long, env = "ML_BASE_DTYPE", value_enum, default_value_t, value_name = "NAME")]
    pub dtype: Dtype,
    /// Instructions to compute with, where not the fastest of this CPU
    #[arg(long, env = "ML_BASE_CPU_ISA", value_enum, default_value_t, value_name = "NAME")]
    pub cpu_isa: CpuIsa,
    /// Threads of the engine [default: the cores of this machine]
    #[arg(long, env = "WORKER_THREADS", value_name = "COUNT")]
    pub worker_threads: Option<NonZeroUsize>,
    /// More threads of the engine, which help while the machine has cores for all who want one (Linux): for replicas that
    /// share it
    #[arg(long, env = "SPARE_THREADS", default_value_t = 0, value_name = "COUNT")]
    pub spare_threads: usize,
    /// Threads that tokenize [default: as many as the engine has]
    #[arg(long, env = "ML_BASE_TOKENIZER_THREADS", value_name = "COUNT")]
    pub tokenizer_threads: Option<NonZeroUsize>,
    /// Profile of limits; flags below override single ones
    #[arg(long, env = "SUTRA_EDITION", value_enum, default_value_t, value_name = "NAME")]
    pub edition: Edition,
    /// Tokens of one batch; a longer text is a batch of its own
    #[arg(long, env = "ML_BASE_BATCH_TOKENS_MAX", default_value_t = 2048, value_name = "COUNT")]
    pub batch_tokens_max: usize,
    /// Texts of one batch [default: by edition]
    #[arg(long, env = "ML_BASE_MAX_BATCH_SIZE", value_name = "COUNT")]
    pub batch_texts_max: Option<usize>,
    /// Tokens waiting for the device; a call over it is refused with 429
    #[arg(long, env = "ML_BASE_QUEUE_TOKENS_MAX", default_value_t = 262_144, value_name = "COUNT")]
    pub queue_tokens_max: usize,
    /// Calls at once; further ones are refused with 429 [default: by edition]
    #[arg(long, env = "ML_BASE_CALLS_MAX", value_name = "COUNT")]
    pub calls_max: Option<usize>,
    /// Texts of one call [default: by edition]
    #[arg(long, env = "ML_BASE_CALL_TEXTS_MAX", value_name = "COUNT")]
    pub call_texts_max: Option<usize>,
    /// Bytes of one text
    #[arg(long, env = "ML_BASE_TEXT_BYTES_MAX", default_value_t = 262_144, value_name = "BYTES")]
    pub text_bytes_max: usize,
    /// Bytes of one request
    #[arg(long, env = "ML_BASE_BODY_BYTES_MAX", default_value_t = 8 << 20, value_name = "BYTES")]
    pub body_bytes_max: usize,
    /// Bytes of all HTTP request bodies at once
    #[arg(long, env = "ML_BASE_BODY_BUDGET_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    pub body_budget_bytes: usize,
    /// Seconds a call may take; its caller may ask for less
    #[arg(long, env = "ML_BASE_REQUEST_TIMEOUT", default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub request_timeout: Duration,
    /// How log lines look
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t, value_name = "NAME")]
    pub log_format: LogFormat,
    /// Bounds of the socket side.
    #[command(flatten)]
    pub server: ServerLimits,
    /// Print the configuration in force as JSON, secrets redacted, and exit
    #[arg(long)]
    pub print_config: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_has_its_variable() {
        let command = Cli::command();
        let without =
            command.get_arguments().filter(|flag| flag.get_long().is_some() && flag.get_env().is_none());
        let names: Vec<_> = without.map(|flag| flag.get_id().as_str()).collect();
        assert_eq!(names, ["print_config"]);
    }
}
