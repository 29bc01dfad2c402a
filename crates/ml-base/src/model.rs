//! Where models come from: a name in, a verified directory out.
//!
//! Goals: the first run works wherever any source can be reached; nothing unverified is ever mapped; an interrupted or
//! damaged download never looks complete; every refusal names the file, what was found and what was wanted.
//! Non-goals: uploads, formats other than safetensors (a directory by path may hold only ONNX), loading (the engine does
//! that), resumed downloads.
//!
//! ```text
//! name ─▶ alias │ org/name │ directory
//!            │
//!            ├─ 1 directory by path ──────────────┐
//!            ├─ 2 our store ──────────────────────┤
//!            ├─ 3 hub cache of other tools ───────┼─▶ verify ─▶ settings ─▶ ModelFiles + Identity
//!            ├─ 4 hub ──────────┐                 │
//!            └─ 5 package index ┴─▶ stage ─▶ store┘
//! ```

// what is asked for, and where it may come from
mod catalog;
mod listing;
mod name;
mod sources;

// the search, source by source
mod search;

mod store;

mod hub;
mod package;

mod address;
mod progress;
mod web;

// what is found is verified, and read
mod verify;

mod digest;
mod files;
mod sums;

mod identity;
mod onnx;
mod settings;

// what the caller gets
mod error;

use std::path::{Path, PathBuf};

pub use address::{BadAddress, Endpoint};
pub use catalog::{Catalog, CatalogEntry, FilePin, PackagePin};
pub use digest::{NotASum, Sha256};
pub use error::{FailedSource, FileFault, ModelError, SourceFault, UnsupportedArchitecture};
pub use identity::Identity;
pub use listing::Listing;
pub use name::ModelName;
pub use progress::{LogProgress, Progress, TerminalProgress};
pub use sources::{OptionalEndpoint, SourceArgs, Sources};
pub use verify::Values;

use catalog::unpinned;
use engine::Pooling;
use protocol::prompts::Prompts;
use settings::{Known, Settings};
use sums::Sums;

/// The case that texts are brought to before they are tokenized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// As they come; a tokenizer that wants lower case does that itself.
    AsGiven,
    /// Lower case, prompt included: `do_lower_case` of sentence_bert_config.json.
    Lower,
}

/// A model that is ready to be mapped: its files were verified by this process.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// Holds `model.safetensors`, or ONNX files alone, `tokenizer.json` and `config.json`.
    pub directory: PathBuf,
    /// Hub id, or the directory's name where the model is not known.
    pub id: String,
    /// Short name, where the catalog has the model.
    pub alias: Option<String>,
    /// Numbers in a full vector.
    pub width: u32,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// The case of what is tokenized.
    pub case: Case,
    /// Tokens of the longest text, special tokens included.
    pub tokens_max: usize,
    /// Widths that the vector may be cut to, the full width first.
    pub trained_dimensions: Vec<u32>,
    /// Whether a layer norm belongs before the cut.
    pub layer_norm_before_cut: bool,
    /// Named prefixes that the model was trained with.
    pub prompts: Prompts,
    /// All that defines the vector space.
    pub identity: Identity,
    /// How many numbers its weights hold.
    pub values: Values,
    /// Size of `tokenizer.json`.
    pub tokenizer_bytes: u64,
}

impl ModelFiles {
    fn read(directory: &Path, id: &str, known: Known<'_>, sums: &Sums) -> Result<Self, SourceFault> {
        let settings = Settings::read(directory, id, known)?;
        let sum = |name: &str| {
            let missing = || FileFault::Missing { name: name.to_owned(), directory: directory.to_owned() };
            sums.get(name).ok_or_else(missing)
        };
        let [tokenizer, config] = [sum(files::TOKENIZER)?, sum(files::CONFIG)?];
        let (weights, values) = match onnx::Graphs::of(directory) {
            Some(graphs) => (graphs.sum(sums)?, graphs.values()?),
            None => (sum(files::WEIGHTS)?, Values::count(&directory.join(files::WEIGHTS))?),
        };
        Ok(Self {
            directory: directory.to_owned(),
            id: id.to_owned(),
            alias: known.entry().map(|entry| entry.alias.clone()),
            width: settings.width,
            pooling: settings.pooling,
            case: settings.case,
            tokens_max: settings.tokens_max,
            trained_dimensions: settings.trained_dimensions,
            layer_norm_before_cut: settings.layer_norm_before_cut,
            prompts: settings.prompts,
            identity: Identity::new(weights, tokenizer, config, settings.pooling, settings.case),
            values,
            tokenizer_bytes: tokenizer_bytes(directory)?,
        })
    }
}

fn tokenizer_bytes(directory: &Path) -> Result<u64, FileFault> {
    let metadata = directory.join(files::TOKENIZER).metadata();
    Ok(metadata.map_err(|error| FileFault::read(files::TOKENIZER, error))?.len())
}

/// A model to be found in one of the sources.
struct Wanted {
    id: String,
    revision: String,
    files: Vec<FilePin>,
    entry: Option<CatalogEntry>,
}

impl Wanted {
    fn known(&self) -> Known<'_> {
        self.entry.as_ref().map_or(Known::No, Known::Named)
    }
}

/// Finds the model, fetches it where it is not on this machine, and verifies its files.
///
/// Blocks: on disk for a known model (about a second a gigabyte), on the network for a new one.
///
/// # Errors
/// The engine lacks the architecture; a local directory has a missing or damaged file; every source failed.
pub fn resolve(
    name: &ModelName,
    sources: &Sources,
    progress: &dyn Progress,
) -> Result<ModelFiles, ModelError> {
    let wanted = match name {
        ModelName::Directory(path) => return local(path),
        ModelName::Catalog(entry) => {
            settings::refuse_unsupported(&entry.id, &entry.architecture)?;
            Wanted {
                id: entry.id.clone(),
                revision: entry.revision.clone(),
                files: entry.files.clone(),
                entry: Some(CatalogEntry::clone(entry)),
            }
        }
        ModelName::Hub(id) => {
            Wanted { id: id.clone(), revision: "main".into(), files: unpinned(), entry: None }
        }
    };
    search::search(&wanted, sources, progress)
}

/// A directory by path: its own `SHA256SUMS` rules, where it has one.
fn local(directory: &Path) -> Result<ModelFiles, ModelError> {
    if !directory.is_dir() {
        return Err(ModelError::NoDirectory(directory.to_owned()));
    }
    let recorded = Sums::read(directory)?;
    let pins = match onnx::Graphs::of(directory) {
        Some(graphs) => graphs.pins()?,
        None => unpinned(),
    };
    let sums = verify::directory(directory, &pins, recorded.as_ref())?;
    let catalog = Catalog::built_in();
    let entry = catalog.find_by_sums(&sums);
    let own_name = || {
        let path = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    };
    let id = entry.map_or_else(own_name, |entry| entry.id.clone());
    let known = entry.map_or(Known::No, Known::Recognised);
    ModelFiles::read(directory, &id, known, &sums).map_err(|fault| match fault {
        SourceFault::Architecture(unsupported) => unsupported.into(),
        SourceFault::File(fault) => fault.into(),
        other @ (SourceFault::Passed(_) | SourceFault::Web { .. } | SourceFault::Store(_)) => {
            ModelError::NoSource {
                model: id.clone(),
                tried: vec![FailedSource { source: "directory", fault: other }],
            }
        }
    })
}
