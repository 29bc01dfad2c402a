//! The validated configuration of ml-base.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use serde::Serialize;
use service::{
    config::{ConfigError, Problems, Replaced},
    edition::Edition,
    server::ServerLimits,
};

use crate::{
    args::{Dtype, ServeArgs},
    model::{ModelName, Sources},
};

/// Variables of the plan that have no effect here, and what stands in their place.
pub const REPLACED: &[Replaced] = &[
    Replaced {
        variable: "ML_BASE_BATCH_TIMEOUT_MS",
        by: "a batch leaves the moment the device is free, nothing waits",
    },
    Replaced { variable: "ML_BASE_MODEL_UNLOAD_TIMEOUT", by: "the one model of a replica is never unloaded" },
    Replaced {
        variable: "ML_BASE_BATCH_SIZE",
        by: "ML_BASE_MAX_BATCH_SIZE and ML_BASE_BATCH_TOKENS_MAX bound a batch",
    },
    Replaced { variable: "TENSOR_PARALLEL", by: "a replica computes on one device" },
];

/// Where the model comes from.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The model asked for.
    pub name: ModelName,
    /// Where to look for it.
    pub sources: Sources,
    /// Width of the vectors `POST /embed` answers with; `None` means the full width.
    pub dimensions: Option<u32>,
    /// What to compute in.
    pub dtype: Dtype,
}

/// Everything that bounds a replica.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// The profile the defaults come from.
    pub edition: Edition,
    /// Threads of the engine.
    pub worker_threads: NonZeroUsize,
    /// Threads that tokenize.
    pub tokenizer_threads: NonZeroUsize,
    /// Tokens of one batch.
    pub batch_tokens_max: usize,
    /// Texts of one batch.
    pub batch_texts_max: usize,
    /// Tokens waiting for the device.
    pub queue_tokens_max: usize,
    /// Tokens of one text, at most; the model's own limit may be lower.
    pub tokens_max: usize,
    /// Calls at once.
    pub calls_max: usize,
    /// Texts of one call.
    pub call_texts_max: usize,
    /// Bytes of one text.
    pub text_bytes_max: usize,
    /// Bytes of one request.
    pub body_bytes_max: usize,
    /// Bytes of all HTTP bodies at once.
    pub body_budget_bytes: usize,
    /// Time a call may take.
    #[serde(serialize_with = "service::config::as_seconds", rename = "request_timeout_seconds")]
    pub request_timeout: Duration,
    /// Bounds of the socket side.
    pub server: ServerLimits,
}

/// The configuration of one replica.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Name of this replica.
    pub instance_id: String,
    /// The model to serve.
    pub model: ModelConfig,
    /// The bounds.
    pub limits: Limits,
}

impl Config {
    /// Validates `args`.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake, each by the name of its flag.
    pub fn new(args: ServeArgs) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let listen = problems.address("--host", &args.host, args.port);
        check_choice(&mut problems, "--device", &args.device, &["auto", "cpu"]);
        let limits = limits(&args, &mut problems);
        let name = args.model_id.parse().map_err(|error| problems.add("--model-id", error)).ok();
        let sources = args.sources.into_sources().map_err(|error| problems.add("--model-store", error)).ok();
        let config = match (listen, name, sources) {
            (Some(listen), Some(name), Some(sources)) => Some(Self {
                listen,
                instance_id: args.instance_id,
                model: ModelConfig { name, sources, dimensions: args.dimensions, dtype: args.dtype },
                limits,
            }),
            _ => None,
        };
        problems.finish(config)
    }

    /// The configuration in force as JSON, without secrets.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "listen": self.listen,
            "instance_id": self.instance_id,
            "model": self.model.name.to_string(),
            "model_store": self.model.sources.store,
            "dimensions": self.model.dimensions,
            "dtype": self.model.dtype,
            "limits": self.limits,
        })
    }
}

fn check_choice(problems: &mut Problems, flag: &str, value: &str, known: &[&str]) {
    let message = format_args!("`{value}` is not among what this build has: {}", known.join(", "));
    problems.require(known.contains(&value), flag, message);
}

fn limits(args: &ServeArgs, problems: &mut Problems) -> Limits {
    let edition = args.edition.limits();
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let worker_threads = args.worker_threads.unwrap_or(cores);
    let limits = Limits {
        edition: args.edition,
        worker_threads,
        tokenizer_threads: args.tokenizer_threads.unwrap_or(worker_threads),
        batch_tokens_max: args.batch_tokens_max,
        batch_texts_max: args.batch_texts_max.unwrap_or(edition.chunk_texts_max),
        queue_tokens_max: args.queue_tokens_max,
        tokens_max: edition.tokens_max,
        calls_max: args.calls_max.unwrap_or(edition.requests_max),
        call_texts_max: args.call_texts_max.unwrap_or(edition.request_texts_max),
        text_bytes_max: args.text_bytes_max,
        body_bytes_max: args.body_bytes_max,
        body_budget_bytes: args.body_budget_bytes,
        request_timeout: args.request_timeout,
        server: args.server.clone(),
    };
    let at_least_one = [
        ("--batch-tokens-max", limits.batch_tokens_max),
        ("--batch-texts-max", limits.batch_texts_max),
        ("--calls-max", limits.calls_max),
        ("--call-texts-max", limits.call_texts_max),
        ("--text-bytes-max", limits.text_bytes_max),
    ];
    for (flag, value) in at_least_one {
        problems.require(value > 0, flag, "is 0, the least is 1");
    }
    let least = limits.tokens_max;
    let message = format_args!("is {}, but one text may have {least} tokens", limits.queue_tokens_max);
    problems.require(limits.queue_tokens_max >= least, "--queue-tokens-max", message);
    let message =
        format_args!("is {}, but one text may have {} bytes", limits.body_bytes_max, limits.text_bytes_max);
    problems.require(limits.body_bytes_max > limits.text_bytes_max, "--body-bytes-max", message);
    limits
}
