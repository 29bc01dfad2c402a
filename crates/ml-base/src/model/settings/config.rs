//! The part of config.json that is read here; the engine reads the rest.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::super::error::{FileFault, SourceFault};
use super::super::files;
use super::{read_json, refuse_unsupported};

/// Sizes that bound a text and name the width.
#[derive(Deserialize)]
pub(super) struct Config {
    model_type: String,
    #[serde(alias = "n_embd", alias = "dim")]
    pub(super) hidden_size: u32,
    #[serde(alias = "n_positions")]
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<usize>,
}

impl Config {
    /// Reads config.json; refuses an architecture that the engine lacks, by name. An ONNX graph computes itself, of whatever
    /// kind it is.
    pub(super) fn read(directory: &Path, model: &str) -> Result<Self, SourceFault> {
        let value: Value = read_json(directory, files::CONFIG)?.unwrap_or_default();
        // First the kind: other kinds have other fields, and it is the kind that should be named then.
        let kind = value.get("model_type").and_then(Value::as_str).unwrap_or("(model_type is missing)");
        if engine::onnx_files(directory).is_empty() {
            refuse_unsupported(model, kind)?;
        }
        let config = serde_json::from_value(value);
        Ok(config.map_err(|error| FileFault::content(files::CONFIG, error.to_string()))?)
    }

    /// Tokens that have a position; `None` where the file names no number.
    pub(super) fn positions(&self) -> Option<usize> {
        let rows = self.max_position_embeddings?;
        Some(rows.saturating_sub(self.positions_unused()))
    }

    /// Models that descend from RoBERTa number the first token after the one of padding, so that these rows of the
    /// table belong to no token.
    fn positions_unused(&self) -> usize {
        match self.model_type.as_str() {
            "roberta" | "xlm-roberta" | "camembert" => self.pad_token_id.unwrap_or(1) + 1,
            // Whatever its pad_token_id says: transformers fixes it for this model.
            "mpnet" => 2,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn positions(config: Value) -> Option<usize> {
        serde_json::from_value::<Config>(config).unwrap().positions()
    }

    #[test]
    fn two_positions_of_a_model_that_descends_from_roberta_belong_to_no_token() {
        for kind in ["roberta", "xlm-roberta", "mpnet", "camembert"] {
            let config = json!({"model_type": kind, "hidden_size": 8, "max_position_embeddings": 514, "pad_token_id": 1});
            assert_eq!(positions(config), Some(512), "{kind}");
        }
        let bert = json!({"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 512, "pad_token_id": 0});
        assert_eq!(positions(bert), Some(512));
    }

    #[test]
    fn positions_of_nomic_have_another_name_and_may_be_missing() {
        let nomic = json!({"model_type": "nomic_bert", "n_embd": 768, "n_positions": 8192});
        assert_eq!(positions(nomic), Some(8192));
        assert_eq!(positions(json!({"model_type": "bert", "hidden_size": 8})), None);
    }
}
