//! The validated configuration of ml-base.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use engine::Threads;
use serde::Serialize;
use service::{
    config::{ConfigError, Problems, Replaced},
    edition::Edition,
    server::ServerLimits,
};

use crate::{
    args::{Dtype, ModelsLoad, ServeArgs},
    model::{ModelName, Sources},
};

/// Variables of the plan that have no effect here, and what stands in their place.
pub const REPLACED: &[Replaced] = &[
    Replaced {
        variable: "ML_BASE_BATCH_TIMEOUT_MS",
        by: "a batch leaves the moment the device is free, nothing waits",
    },
    Replaced {
        variable: "ML_BASE_BATCH_SIZE",
        by: "ML_BASE_MAX_BATCH_SIZE and ML_BASE_BATCH_TOKENS_MAX bound a batch",
    },
    Replaced { variable: "TENSOR_PARALLEL", by: "a replica computes on one device" },
];

/// Which models are served, and where they come from.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The default model.
    pub name: ModelName,
    /// The others, none of them twice.
    pub others: Vec<ModelName>,
    /// When the others are loaded.
    pub load: ModelsLoad,
    /// Memory of all loaded models; `None` for a share of what is available at start.
    pub memory_bytes_max: Option<u64>,
    /// An unused model is unloaded after this; `None` for never.
    pub unload_timeout: Option<Duration>,
    /// Where to look for it.
    pub sources: Sources,
    /// Width of the vectors `POST /embed` answers with; `None` means the full width.
    pub dimensions: Option<u32>,
    /// What to compute in.
    pub dtype: Dtype,
    /// The instructions that may be used.
    pub isa: engine::Isa,
}

/// Everything that bounds a replica.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// The profile the defaults come from.
    pub edition: Edition,
    /// Threads of the engine.
    pub worker_threads: NonZeroUsize,
    /// More of them, which help while the machine has cores for all who want one.
    pub spare_threads: usize,
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
    /// No request may ask for a width that its model was not trained for.
    pub forbid_untrained_dimensions: bool,
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

impl Limits {
    /// What the engine is given.
    pub(crate) fn threads(&self) -> Threads {
        Threads { sure: self.worker_threads, spare: self.spare_threads }
    }
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
        let others = other_models(&mut problems, &args.models, name.as_ref());
        let sources = args.sources.into_sources().map_err(|error| problems.add("--model-store", error)).ok();
        let config = match (listen, name, sources) {
            (Some(listen), Some(name), Some(sources)) => Some(Self {
                listen,
                instance_id: args.instance_id,
                model: ModelConfig {
                    name,
                    others,
                    load: args.models_load,
                    memory_bytes_max: args.models_memory_bytes_max,
                    unload_timeout: Some(args.model_unload_timeout).filter(|timeout| !timeout.is_zero()),
                    sources,
                    dimensions: args.dimensions,
                    dtype: args.dtype,
                    isa: args.cpu_isa.into(),
                },
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
            "models": self.model.others.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "models_load": self.model.load,
            "models_memory_bytes_max": self.model.memory_bytes_max,
            "model_unload_timeout_seconds": self.model.unload_timeout.map(|timeout| timeout.as_secs_f64()),
            "model_store": self.model.sources.store,
            "dimensions": self.model.dimensions,
            "dtype": self.model.dtype,
            "cpu_isa": self.model.isa.name(),
            "limits": self.limits,
        })
    }
}

/// A list that names the default model too, or a model twice, means what it says once.
fn other_models(problems: &mut Problems, names: &[String], default: Option<&ModelName>) -> Vec<ModelName> {
    let mut others = Vec::new();
    for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        match name.parse::<ModelName>() {
            Ok(name) if Some(&name) == default || others.contains(&name) => {}
            Ok(name) => others.push(name),
            Err(error) => problems.add("--models", error),
        }
    }
    others
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
        spare_threads: args.spare_threads,
        tokenizer_threads: args.tokenizer_threads.unwrap_or(worker_threads),
        batch_tokens_max: args.batch_tokens_max,
        batch_texts_max: args.batch_texts_max.unwrap_or(edition.chunk_texts_max),
        queue_tokens_max: args.queue_tokens_max,
        tokens_max: edition.tokens_max,
        forbid_untrained_dimensions: args.forbid_untrained_dimensions,
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let arguments = [&["ml-base"], arguments].concat();
        Config::new(Cli::try_parse_from(arguments).unwrap().serve)
    }

    fn others(arguments: &[&str]) -> Vec<String> {
        config(arguments).unwrap().model.others.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn further_models_are_listed_once_and_without_the_default_one() {
        assert_eq!(others(&[]), [""; 0]);
        assert_eq!(others(&["--models", "medium, small,large,,small"]), ["small", "large"]);
        assert_eq!(others(&["--models", "sentence-transformers/all-MiniLM-L6-v2,./x"]), ["./x"]);
    }

    #[test]
    fn unknown_further_model_is_refused_by_flag() {
        let error = config(&["--models", "small,tiny"]).unwrap_err().to_string();
        assert!(error.contains("--models: model \"tiny\" is not known"), "{error}");
    }

    #[test]
    fn unload_timeout_of_0_means_never() {
        let timeout = |seconds| config(&["--model-unload-timeout", seconds]).unwrap().model.unload_timeout;
        assert_eq!((timeout("0"), timeout("2.5")), (None, Some(Duration::from_millis(2500))));
    }
}
