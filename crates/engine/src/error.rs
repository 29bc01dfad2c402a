//! What can go wrong, by name: in a batch, at load, in a pass.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A batch that cannot be formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    /// A text of no tokens has nothing to pool over.
    #[error("a text has no token ids, at least one is needed")]
    NoTokens,
    /// A batch of no texts.
    #[error("a batch has no texts, at least one is needed")]
    NoTexts,
}

/// A model directory that cannot be served.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The directory lacks a file the model needs.
    #[error("model file {file} is missing")]
    MissingFile {
        /// Path that was looked for.
        file: PathBuf,
    },
    /// A file is there and cannot be read.
    #[error("model file {file} cannot be read")]
    Read {
        /// Path that was read.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// This CPU lacks what was asked for.
    #[error(transparent)]
    Tier(#[from] kernels::TierError),
    /// What was asked for is not computed with the instructions that were asked for.
    #[error("{compute} needs {needed}, and the instruction set is forced to {forced}")]
    Isa {
        /// What to compute in.
        compute: &'static str,
        /// The tier that computes it.
        needed: &'static str,
        /// What the configuration forces.
        forced: &'static str,
    },
    /// config.json is not JSON, or a field is missing or of the wrong type.
    #[error("model file {file} is not a usable configuration")]
    Config {
        /// Path of config.json.
        file: PathBuf,
        /// Field, line and column.
        source: serde_json::Error,
    },
    /// A field of config.json has a value no encoder can have.
    #[error("{field} in {file} is {found}, wanted {wanted}")]
    InvalidConfig {
        /// Path of config.json.
        file: PathBuf,
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The rule it breaks.
        wanted: String,
    },
    /// The encoder in this crate does not compute this kind of model.
    #[error("{field} {found:?} in {file} is not supported, supported: {supported:?}")]
    UnsupportedArchitecture {
        /// Path of config.json.
        file: PathBuf,
        /// `model_type` or `architectures`.
        field: &'static str,
        /// Its value.
        found: String,
        /// Values of `model_type` that this build computes.
        supported: &'static [&'static str],
    },
    /// A variant of a known kind that is not computed.
    #[error("{field} in {file} is {found:?}, supported: {supported}")]
    UnsupportedOption {
        /// Path of config.json.
        file: PathBuf,
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: String,
        /// Values that are computed, in quotes.
        supported: String,
    },
    /// The weights file is shorter than its own header says.
    #[error("model file {file} is truncated: found {found_bytes} bytes, wanted {wanted_bytes}")]
    Truncated {
        /// Path of the weights.
        file: PathBuf,
        /// Size on disk.
        found_bytes: u64,
        /// Size the header asks for.
        wanted_bytes: u64,
    },
    /// The header of the weights file is damaged.
    #[error("model file {file} has no usable safetensors header: {reason}")]
    Header {
        /// Path of the weights.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A weight the architecture needs is not in the file.
    #[error("tensor {name} is missing in {file}")]
    MissingTensor {
        /// Path of the weights.
        file: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// A weight does not have the shape config.json implies.
    #[error("tensor {name} in {file} has shape {found:?}, wanted {wanted:?}")]
    WrongShape {
        /// Path of the weights.
        file: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape that config.json implies.
        wanted: Vec<usize>,
    },
    /// A weight is stored in a type that is no float.
    #[error("tensor {name} in {file} is stored as {found}, wanted F32, F16 or BF16")]
    WrongType {
        /// Path of the weights.
        file: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Type in the file.
        found: String,
    },
    /// The model ships only ONNX, and this build has no ONNX Runtime.
    #[error("{file} is ONNX, which this build does not compute: build with --features onnx")]
    OnnxNotBuilt {
        /// Path of the ONNX file.
        file: PathBuf,
    },
    /// The model ships only ONNX, and no file of it is computed as asked for.
    #[error("{directory} has no ONNX file for {compute}, it has {found:?}")]
    OnnxFile {
        /// The model directory.
        directory: PathBuf,
        /// What to compute in.
        compute: &'static str,
        /// The files that could be computed otherwise.
        found: Vec<&'static str>,
    },
    /// Instructions are forced, and ONNX Runtime chooses its own.
    #[error(
        "{file} is computed by ONNX Runtime, which chooses instructions itself; they are forced to {forced}"
    )]
    OnnxIsa {
        /// Path of the ONNX file.
        file: PathBuf,
        /// What the configuration forces.
        forced: &'static str,
    },
    /// The library of ONNX Runtime cannot be loaded, or is too old.
    #[error("ONNX Runtime cannot be loaded from {path}: {reason}; {variable} names the library's file")]
    OnnxLibrary {
        /// What was loaded.
        path: PathBuf,
        /// The variable that names another.
        variable: &'static str,
        /// What the system or the library said.
        reason: String,
    },
    /// A graph that ONNX Runtime does not take, or that is not an encoder of token ids.
    #[error("model file {file} cannot be computed: {reason}")]
    OnnxGraph {
        /// Path of the ONNX file.
        file: PathBuf,
        /// What is wrong, by input or output.
        reason: String,
    },
    /// The worker threads cannot be started.
    #[error("engine threads cannot be started")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

impl LoadError {
    /// The error of a file that could not be opened or read.
    pub(crate) fn reading(file: &Path, source: std::io::Error) -> Self {
        let file = file.to_owned();
        if source.kind() == std::io::ErrorKind::NotFound {
            Self::MissingFile { file }
        } else {
            Self::Read { file, source }
        }
    }
}

/// A batch that cannot be embedded.
#[derive(Debug, Error)]
pub enum EmbedError {
    /// A token id the model has no row for.
    #[error("token id {id} is outside the vocabulary of {vocabulary} tokens")]
    TokenOutOfVocabulary {
        /// The id.
        id: u32,
        /// Number of ids the model knows; ids start at 0.
        vocabulary: usize,
    },
    /// A text with more tokens than the model or the configuration takes.
    #[error("a text has {tokens} tokens, tokens_max is {tokens_max}")]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Most tokens of one text.
        tokens_max: usize,
    },
    /// ONNX Runtime failed. The batch is lost, the engine stays usable.
    #[error("ONNX Runtime failed on {file}: {reason}")]
    Onnx {
        /// Path of the ONNX file.
        file: PathBuf,
        /// What it said, or what is wrong with what it gave.
        reason: String,
    },
    /// A worker thread panicked. The batch is lost, the engine stays usable.
    #[error("an engine thread panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}
