//! What can go wrong between a name and a verified directory.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::digest::Sha256;

/// No usable model: the one error of [`resolve`](super::resolve).
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The name is neither an alias, nor a hub id, nor a directory.
    #[error("model {name:?} is not known: give an alias ({known}), a hub id (org/name) or a directory")]
    UnknownName {
        /// The name that was asked for.
        name: String,
        /// The aliases of the catalog, separated by commas.
        known: String,
    },
    /// The engine cannot compute this kind of model.
    #[error(transparent)]
    Architecture(#[from] UnsupportedArchitecture),
    /// The path that was given as a model is no directory.
    #[error("model directory {} is not there", .0.display())]
    NoDirectory(PathBuf),
    /// A file of a local model directory is missing, damaged or not understood.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The store cannot be used.
    #[error("model store {}: {source}", path.display())]
    Store {
        /// The path that could not be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Every source failed; the message has one line for each.
    #[error("model {model} could be had from no source{}", list(tried))]
    NoSource {
        /// The model's hub id.
        model: String,
        /// The sources in the order they were tried.
        tried: Vec<FailedSource>,
    },
    /// There is no home directory to keep models in, and no store was named.
    #[error("no home directory to keep models in: name one with --model-store")]
    NoHome,
    /// A file named by an option cannot be read.
    #[error("{option}: {}: {source}", path.display())]
    Option {
        /// The option, by flag or variable name.
        option: &'static str,
        /// The file it names.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The engine lacks the architecture that `config.json` or the catalog names.
#[derive(Debug, thiserror::Error)]
#[error("model {model} is a {found:?}, which the engine cannot compute: it has {supported}")]
pub struct UnsupportedArchitecture {
    /// The model's hub id or directory.
    pub model: String,
    /// Its `model_type`.
    pub found: String,
    /// What the engine has, separated by commas.
    pub supported: String,
}

/// One source that was tried in vain.
#[derive(Debug)]
pub struct FailedSource {
    /// `store`, `hub cache`, `hub` or `package index`.
    pub source: &'static str,
    /// Why it could not serve.
    pub fault: SourceFault,
}

fn list(tried: &[FailedSource]) -> ListOfSources<'_> {
    ListOfSources(tried)
}

struct ListOfSources<'a>(&'a [FailedSource]);

impl fmt::Display for ListOfSources<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|failed| write!(out, "\n  {}: {}", failed.source, failed.fault))
    }
}

/// Why one source could not serve the model.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// The source has nothing for this model, or is switched off.
    #[error("{0}")]
    Passed(&'static str),
    /// It served a file that is missing, damaged or not understood.
    #[error(transparent)]
    File(#[from] FileFault),
    /// It served a model that the engine cannot compute.
    #[error(transparent)]
    Architecture(#[from] UnsupportedArchitecture),
    /// It could not be reached, or answered with something else than the file.
    #[error("{url}: {reason}")]
    Web {
        /// What was asked for, without credentials.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// What came could not be written into the store.
    #[error("store: {0}")]
    Store(#[from] io::Error),
}

/// What is wrong with one file of a model.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// A file without which there is no model.
    #[error("{name}: missing in {}", directory.display())]
    Missing {
        /// The file.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// Other bytes than the ones that were wanted.
    #[error("{name}: sha256 is {found}, wanted {wanted}")]
    Sum {
        /// The file.
        name: String,
        /// Its sum.
        found: Sha256,
        /// The sum of the catalog, of `SHA256SUMS` or of the hub.
        wanted: Sha256,
    },
    /// Too short or too long.
    #[error("{name}: {found} bytes, {says} {wanted}")]
    Size {
        /// The file.
        name: String,
        /// Its length in bytes.
        found: u64,
        /// Who wants the other length: `wanted`, `its header wants`.
        says: &'static str,
        /// The length in bytes that was wanted.
        wanted: u64,
    },
    /// Readable, and not what it should be.
    #[error("{name}: {reason}")]
    Content {
        /// The file.
        name: String,
        /// What it says, and what was wanted.
        reason: String,
    },
    /// The system could not read it.
    #[error("{name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

impl FileFault {
    pub(super) fn content(name: &str, reason: impl Into<String>) -> Self {
        Self::Content { name: name.to_owned(), reason: reason.into() }
    }

    pub(super) fn read(name: &str, source: io::Error) -> Self {
        Self::Read { name: name.to_owned(), source }
    }
}
