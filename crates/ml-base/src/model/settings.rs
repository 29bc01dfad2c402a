//! How a model is used: pooling, limits, dimensions, prompts, from its own files and from the catalog.
//!
//! ```text
//!  config.json ─────────────────────── architecture, width, positions ─┐
//!  modules.json ─▶ 1_Pooling/config.json ───────────────── pooling ────┤
//!  sentence_bert_config.json, else tokenizer_config.json ── limits ────┼─▶ Settings
//!  config_sentence_transformers.json ───────────────────── prompts ────┤
//!  catalog entry: over the files where asked for by name, else gaps ───┘
//! ```

mod config;

mod modules;

mod limits;

mod prompts;

use std::path::Path;

use protocol::prompts::Prompts;
use serde::de::DeserializeOwned;

use super::catalog::CatalogEntry;
use super::error::{FileFault, SourceFault, UnsupportedArchitecture};
use super::{Case, Pooling};
use config::Config;
use limits::Limits;

/// What the engine and the intake need to know besides the weights.
pub(super) struct Settings {
    pub(super) width: u32,
    pub(super) pooling: Pooling,
    pub(super) case: Case,
    pub(super) tokens_max: usize,
    pub(super) trained_dimensions: Vec<u32>,
    pub(super) layer_norm_before_cut: bool,
    pub(super) prompts: Prompts,
}

/// What the catalog says of a model.
#[derive(Clone, Copy)]
pub(super) enum Known<'a> {
    /// Asked for by name: the catalog rules over the files.
    Named(&'a CatalogEntry),
    /// A directory that holds the same files: its own settings rule, the catalog fills the gaps.
    Recognised(&'a CatalogEntry),
    /// Not in the catalog.
    No,
}

impl<'a> Known<'a> {
    pub(super) fn entry(self) -> Option<&'a CatalogEntry> {
        match self {
            Self::Named(entry) | Self::Recognised(entry) => Some(entry),
            Self::No => None,
        }
    }
}

impl Settings {
    /// Reads a model directory whose files were verified. `model` is its name for messages.
    pub(super) fn read(directory: &Path, model: &str, known: Known<'_>) -> Result<Self, SourceFault> {
        let config = Config::read(directory, model)?;
        let entry = known.entry();
        let limits = Limits::read(directory)?;
        let own_pooling = modules::pooling(directory, config.hidden_size, entry.is_some())?;
        let (pooling, tokens_max) = match known {
            Known::Named(entry) => (catalog_pooling(entry)?, entry.tokens_max),
            Known::Recognised(_) | Known::No => (
                own_pooling.map_or_else(|| entry.map_or(Ok(Pooling::Mean), catalog_pooling), Ok)?,
                limits.tokens_max(&config, entry)?,
            ),
        };
        Ok(Self {
            width: config.hidden_size,
            pooling,
            case: limits.case(),
            tokens_max,
            trained_dimensions: entry
                .map_or_else(|| vec![config.hidden_size], |entry| entry.trained_dimensions.clone()),
            layer_norm_before_cut: entry.is_some_and(|entry| entry.layer_norm_before_cut),
            prompts: prompts::read(directory, entry)?,
        })
    }
}

/// Refuses a model whose config.json names an architecture that the engine lacks.
pub(super) fn check_architecture(directory: &Path, model: &str) -> Result<(), SourceFault> {
    Config::read(directory, model).map(drop)
}

/// Refuses an architecture that the engine lacks, by name.
pub(super) fn refuse_unsupported(model: &str, architecture: &str) -> Result<(), UnsupportedArchitecture> {
    let supported = engine::supported_architectures();
    if supported.contains(&architecture) {
        return Ok(());
    }
    Err(UnsupportedArchitecture {
        model: model.to_owned(),
        found: architecture.to_owned(),
        supported: supported.join(", "),
    })
}

fn read_json<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, FileFault> {
    match std::fs::read(directory.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| FileFault::content(name, error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileFault::read(name, error)),
    }
}

fn catalog_pooling(entry: &CatalogEntry) -> Result<Pooling, FileFault> {
    entry
        .pooling
        .parse()
        .map_err(|error| FileFault::content("models.toml", format!("{}: {error}", entry.alias)))
}
