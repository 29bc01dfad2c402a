//! The steps of a model as sentence-transformers lists them: encoder, pooling, unit norm.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::Value;

use super::super::error::FileFault;
use super::super::{Pooling, files};
use super::read_json;

/// One line of modules.json.
#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    idx: usize,
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    class: String,
}

impl Module {
    /// The class without its package, which differs between versions.
    fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }
}

fn fault(reason: impl Into<String>) -> FileFault {
    FileFault::content(files::MODULES, reason)
}

/// The pooling that the model's own files name; `None` where they name none. `width` is that of its hidden states. With
/// `is_known` the catalog stands in for a file that is missing.
pub(super) fn pooling(directory: &Path, width: u32, is_known: bool) -> Result<Option<Pooling>, FileFault> {
    let Some(mut modules) = read_json::<Vec<Module>>(directory, files::MODULES)? else {
        return read(directory, files::POOLING, width);
    };
    modules.sort_by_key(|module| module.idx);
    check_kinds(&modules)?;
    check_order(&modules)?;
    let file = pooling_file(&modules[1].path)?;
    match read(directory, &file, width)? {
        None if !is_known => Err(fault(format!("module Pooling wants {file}, which is missing"))),
        pooling => Ok(pooling),
    }
}

/// A model with a dense layer, say, would give wrong vectors without a word.
fn check_kinds(modules: &[Module]) -> Result<(), FileFault> {
    let other =
        modules.iter().find(|module| !["Transformer", "Pooling", "Normalize"].contains(&module.kind()));
    other.map_or(Ok(()), |module| {
        Err(fault(format!("module {:?} is not one of Transformer, Pooling, Normalize", module.class)))
    })
}

/// Encoder, pooling, and a unit norm or none: another order is another vector.
fn check_order(modules: &[Module]) -> Result<(), FileFault> {
    let kinds: Vec<_> = modules.iter().map(Module::kind).collect();
    if !matches!(kinds[..], ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"]) {
        let found = kinds.join(", ");
        return Err(fault(format!(
            "modules are [{found}], they must be Transformer, Pooling and maybe Normalize"
        )));
    }
    match modules[0].path.as_str() {
        "" | "." => Ok(()),
        path => {
            Err(fault(format!("module Transformer lies in {path:?}, its files must lie beside modules.json")))
        }
    }
}

/// The file in the module's folder, which must not lead out of the model's directory.
fn pooling_file(folder: &str) -> Result<String, FileFault> {
    let is_inside = Path::new(folder).components().all(|part| matches!(part, Component::Normal(_)));
    match is_inside && !folder.is_empty() {
        true => Ok(format!("{}/config.json", folder.trim_end_matches('/'))),
        false => Err(fault(format!("module Pooling lies in {folder:?}, which is no folder of this model"))),
    }
}

fn read(directory: &Path, file: &str, width: u32) -> Result<Option<Pooling>, FileFault> {
    let Some(config) = read_json::<BTreeMap<String, Value>>(directory, file)? else {
        return Ok(None);
    };
    let refused = |reason: String| Err(FileFault::content(file, reason));
    if config.get("include_prompt") == Some(&Value::Bool(false)) {
        return refused(
            "include_prompt is false, only poolings that include the prompt are computed".to_owned(),
        );
    }
    let own_width = config.get("word_embedding_dimension").or_else(|| config.get("embedding_dimension"));
    if let Some(own_width) = own_width.and_then(Value::as_u64).filter(|own| *own != u64::from(width)) {
        return refused(format!(
            "word_embedding_dimension is {own_width}, hidden_size of config.json is {width}"
        ));
    }
    let modes = modes(&config);
    match modes[..] {
        [one] => one.parse().map(Some).or_else(|error: engine::UnknownPooling| refused(error.to_string())),
        _ => refused(format!("pooling is [{}], it must be one", modes.join(", "))),
    }
}

/// The modes that are switched on, by their newer names: one text today, a switch for each in older files.
fn modes(config: &BTreeMap<String, Value>) -> Vec<&str> {
    let is_on = |(name, value): &(&String, &Value)| name.starts_with("pooling_mode_") && **value == true;
    let switched = config.iter().filter(is_on).map(|(name, _)| newer_name(name));
    switched.chain(config.get("pooling_mode").and_then(Value::as_str)).collect()
}

fn newer_name(switch: &str) -> &str {
    match switch {
        "pooling_mode_mean_tokens" => "mean",
        "pooling_mode_cls_token" => "cls",
        "pooling_mode_max_tokens" => "max",
        "pooling_mode_lasttoken" => "lasttoken",
        "pooling_mode_mean_sqrt_len_tokens" => "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens" => "weightedmean",
        other => other,
    }
}
