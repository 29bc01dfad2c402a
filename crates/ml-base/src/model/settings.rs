//! How a model is used: pooling, limits, dimensions, from its own files and from the catalog.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::catalog::CatalogEntry;
use super::error::{FileFault, SourceFault, UnsupportedArchitecture};
use super::{Pooling, files};

/// What the engine and the intake need to know besides the weights.
pub(super) struct Settings {
    pub(super) pooling: Pooling,
    pub(super) tokens_max: usize,
    pub(super) trained_dimensions: Vec<u32>,
    pub(super) layer_norm_before_cut: bool,
    pub(super) prompts: BTreeMap<String, String>,
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

/// The part of config.json that is read here; the engine reads the rest.
#[derive(Deserialize)]
struct Config {
    #[serde(alias = "n_embd")]
    hidden_size: u32,
    #[serde(alias = "n_positions")]
    max_position_embeddings: Option<usize>,
}

#[derive(Deserialize)]
struct Limits {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

impl Settings {
    /// Reads a model directory whose files were verified. `model` is its name for messages.
    pub(super) fn read(directory: &Path, model: &str, known: Known<'_>) -> Result<Self, SourceFault> {
        let config = supported_config(directory, model)?;
        refuse_other_modules(directory)?;
        let entry = known.entry();
        let (pooling, tokens_max) = match known {
            Known::Named(entry) => (catalog_pooling(entry)?, entry.tokens_max),
            Known::Recognised(_) | Known::No => (
                pooling(directory)?.map_or_else(|| entry.map_or(Ok(Pooling::Mean), catalog_pooling), Ok)?,
                tokens_max(directory, &config, entry)?,
            ),
        };
        let prompts = entry.map(|entry| entry.prompts.clone());
        Ok(Self {
            pooling,
            tokens_max,
            trained_dimensions: entry
                .map_or_else(|| vec![config.hidden_size], |entry| entry.trained_dimensions.clone()),
            layer_norm_before_cut: entry.is_some_and(|entry| entry.layer_norm_before_cut),
            prompts: prompts.map_or_else(|| own_prompts(directory), Ok)?,
        })
    }
}

/// Refuses a model whose config.json names an architecture that the engine lacks.
pub(super) fn check_architecture(directory: &Path, model: &str) -> Result<(), SourceFault> {
    supported_config(directory, model).map(drop)
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

fn supported_config(directory: &Path, model: &str) -> Result<Config, SourceFault> {
    let value: Value = read_json(directory, files::CONFIG)?.unwrap_or_default();
    // First the kind: other kinds have other fields, and it is the kind that should be named then.
    let kind = value.get("model_type").and_then(Value::as_str).unwrap_or("(model_type is missing)");
    refuse_unsupported(model, kind)?;
    let config = serde_json::from_value(value);
    Ok(config.map_err(|error| FileFault::content(files::CONFIG, error.to_string()))?)
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
    entry.pooling.parse().map_err(|_| {
        FileFault::content(
            "models.toml",
            format!("{}: pooling {:?} is not known", entry.alias, entry.pooling),
        )
    })
}

/// A model with a dense layer, say, would give wrong vectors without a word.
fn refuse_other_modules(directory: &Path) -> Result<(), FileFault> {
    let modules: Vec<Module> = read_json(directory, files::MODULES)?.unwrap_or_default();
    let is_known =
        |kind: &str| matches!(kind.rsplit('.').next(), Some("Transformer" | "Pooling" | "Normalize"));
    match modules.iter().find(|module| !is_known(&module.kind)) {
        None => Ok(()),
        Some(module) => Err(FileFault::content(
            files::MODULES,
            format!("module {:?} is not one of Transformer, Pooling, Normalize", module.kind),
        )),
    }
}

/// The pooling that the model's own file names; `None` where it has no such file.
fn pooling(directory: &Path) -> Result<Option<Pooling>, FileFault> {
    let Some(config) = read_json::<BTreeMap<String, Value>>(directory, files::POOLING)? else {
        return Ok(None);
    };
    let on = config.iter().filter(|(name, value)| name.starts_with("pooling_mode_") && **value == true);
    let mut modes: Vec<&str> = on.map(|(name, _)| name.as_str()).collect();
    modes.extend(config.get("pooling_mode").and_then(Value::as_str));
    match modes[..] {
        ["pooling_mode_mean_tokens" | "mean"] => Ok(Some(Pooling::Mean)),
        ["pooling_mode_cls_token" | "cls"] => Ok(Some(Pooling::Cls)),
        _ => Err(FileFault::content(
            files::POOLING,
            format!("pooling is [{}], it must be mean or cls", modes.join(", ")),
        )),
    }
}

fn tokens_max(directory: &Path, config: &Config, entry: Option<&CatalogEntry>) -> Result<usize, FileFault> {
    let limits: Option<Limits> = read_json(directory, files::LIMITS)?;
    let own = limits.and_then(|limits| limits.max_seq_length).or(entry.map(|entry| entry.tokens_max));
    // A text cannot be longer than there are positions, whatever the limits file says.
    match (own, config.max_position_embeddings) {
        (Some(own), Some(positions)) => Ok(own.min(positions)),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Err(FileFault::content(files::CONFIG, "max_position_embeddings is missing")),
    }
}

fn own_prompts(directory: &Path) -> Result<BTreeMap<String, String>, FileFault> {
    let prompts: Option<Prompts> = read_json(directory, files::PROMPTS)?;
    let prompts = prompts.map(|prompts| prompts.prompts).unwrap_or_default();
    Ok(prompts.into_iter().filter(|(_, prompt)| !prompt.is_empty()).collect())
}
