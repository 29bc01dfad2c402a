//! The prompts of a model. `similarity_fn_name` beside them says how to compare vectors, which is the caller's business.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::prompts::Prompts;
use serde::Deserialize;

use super::super::catalog::CatalogEntry;
use super::super::error::FileFault;
use super::super::files;
use super::read_json;

#[derive(Default, Deserialize)]
struct Own {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    #[serde(default)]
    default_prompt_name: Option<String>,
}

/// The catalog's prompts where it has some for this model, else those of the model's own file.
pub(super) fn read(directory: &Path, entry: Option<&CatalogEntry>) -> Result<Prompts, FileFault> {
    let own: Own = read_json(directory, files::PROMPTS)?.unwrap_or_default();
    match entry.map(|entry| &entry.prompts).filter(|prompts| !prompts.is_empty()) {
        Some(prompts) => Prompts::new(prompts.clone(), None),
        None => Prompts::new(own.prompts, own.default_prompt_name),
    }
    .map_err(|error| FileFault::content(files::PROMPTS, error.to_string()))
}
