//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use engine::Pooling;

use crate::micro::MicroArgs;

const AFTER_HELP: &str = "\
Tokenizing is not timed. Texts are computed in arrival order, as a queue would send them, and sorted by length. The share of \
the peak is that of the linear layers alone: their operations by the time of everything, by the rate that the same \
instructions reach on operands in the L1 cache in the same run. Each figure is the median of the rounds; of --plots it is \
the fastest, so that a shared machine's neighbours draw no peaks.

Exit codes: 0 measured, 2 it could not start or the engine failed.";

/// Measures the engine on real texts: texts and tokens a second, and the latency of a short query.
#[derive(Debug, Parser)]
#[command(
    name = "engine-bench",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Args {
    /// Another part.
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    /// What the main part takes.
    #[command(flatten)]
    pub(crate) engine: Option<EngineArgs>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// Each kernel alone, on one thread: products, attention, the GELU and a norm, and their share of what the machine could do
    Kernels(MicroArgs),
}

/// Flags of the engine.
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineArgs {
    /// Directory with config.json, model.safetensors and tokenizer.json; `cargo xtask bench engine` also takes an alias or an id of the hub
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Write random weights of the size of nomic-embed-text-v1.5 (137 million) to `--model` first, where there are none yet
    #[arg(long, requires = "synthetic")]
    pub(crate) random_nomic: bool,
    /// How a text's vector is made of its tokens: mean or cls
    #[arg(long, default_value = "mean")]
    pub(crate) pooling: Pooling,
    /// One text a line, in place of the questions and passages that come with `accuracy`
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// Texts that are taken of the file; with --synthetic by default as many as have 32,768 tokens
    #[arg(long, default_value = "1024", value_name = "N")]
    pub(crate) count: NonZeroUsize,
    /// Texts of so many random token ids each, in place of real ones; no tokenizer is needed then
    #[arg(long, conflicts_with = "texts", value_name = "TOKENS")]
    pub(crate) synthetic: Option<NonZeroUsize>,
    /// Measure cost against length and against batch size instead, and write plots (SVG) and the figures (JSON) to this directory
    #[arg(long, conflicts_with_all = ["peers", "texts"], value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,
    /// Tokens at which a text is cut; where --plots ends
    #[arg(long, default_value = "256", value_name = "N")]
    pub(crate) tokens_max: NonZeroUsize,
    /// Texts of one of our batches
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) batch_texts: NonZeroUsize,
    /// Threads of the engine [default: all cores; without --peers also 1, in arrival order]
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    pub(crate) threads: Vec<NonZeroUsize>,
    /// What the engine computes with [default: all that this CPU has]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub(crate) compute: Vec<String>,
    /// Turns of each contestant
    #[arg(long, default_value = "3", value_name = "N")]
    pub(crate) rounds: NonZeroUsize,
    /// Compare with PyTorch, ONNX Runtime, OpenVINO and CTranslate2, each at its best, in turns with ours
    ///
    /// Makes a Python environment first (pip with its own configuration; some gigabytes). The peers compute with as many threads as
    /// ours, texts sorted by length, which only who has all of them beforehand can do.
    #[arg(long)]
    pub(crate) peers: bool,
    /// Only the peers whose name contains one of these
    #[arg(long, requires = "peers", value_delimiter = ',', value_name = "PART,…")]
    pub(crate) peer: Vec<String>,
    /// Where the environment and exported models of the peers are kept
    #[arg(long, default_value = ".sutra/peers", value_name = "DIR")]
    pub(crate) peers_dir: PathBuf,
    /// The script that runs a peer
    #[arg(long, default_value = "scripts/peers.py", value_name = "FILE")]
    pub(crate) peers_script: PathBuf,
    /// The Python that makes the environment
    #[arg(long, default_value = "python3", value_name = "FILE")]
    pub(crate) python: PathBuf,
    /// Tell the memory of each engine as well, measured in a process of its own
    #[arg(long)]
    pub(crate) memory: bool,
    /// What such a process does
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) only_memory_of: Option<String>,
    /// Report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
