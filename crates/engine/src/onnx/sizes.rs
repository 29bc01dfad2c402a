//! What config.json must tell of a model that somebody else computes.

use std::path::Path;

use crate::config::{BareSizes, Shape};
use crate::error::LoadError;

/// Sizes of a model, whatever its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    pub(crate) vocabulary: usize,
    /// Most tokens of one text.
    pub(crate) tokens_max: usize,
    /// The id that fills rectangles; whatever it is, no text sees it.
    pub(crate) padding: u32,
}

impl Sizes {
    /// Reads `file`. Of a kind that this crate knows the positions are counted as the kind does; of any other they are those
    /// that the file names.
    pub(crate) fn read(file: &Path) -> Result<Self, LoadError> {
        let bare = BareSizes::read(file);
        let BareSizes { hidden, vocabulary, tokens_max, padding } = match Shape::read(file) {
            Ok(Shape { hidden, vocabulary, tokens_max, .. }) => {
                BareSizes { hidden, vocabulary, tokens_max, padding: bare.map_or(0, |bare| bare.padding) }
            }
            // It is the graph that computes it, and the graph knows this kind.
            Err(LoadError::UnsupportedArchitecture { .. } | LoadError::UnsupportedOption { .. }) => bare?,
            Err(error) => return Err(error),
        };
        let padding = if (padding as usize) < vocabulary { padding } else { 0 };
        Ok(Self { hidden, vocabulary, tokens_max, padding })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(config: &Value) -> Result<Sizes, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        Sizes::read(&file)
    }

    #[test]
    fn a_kind_that_no_encoder_here_computes_tells_its_sizes() {
        let config = json!({"model_type": "deberta", "n_embd": 48, "vocab_size": 90, "n_positions": 33, "pad_token_id": 90});
        assert_eq!(read(&config).unwrap(), Sizes { hidden: 48, vocabulary: 90, tokens_max: 33, padding: 0 });
    }

    #[test]
    fn a_known_kind_counts_its_positions_as_it_does() {
        let config = json!({"model_type": "roberta", "hidden_size": 48, "num_attention_heads": 2, "vocab_size": 90,
            "max_position_embeddings": 34, "pad_token_id": 1});
        assert_eq!(read(&config).unwrap(), Sizes { hidden: 48, vocabulary: 90, tokens_max: 32, padding: 1 });
    }

    #[test]
    fn sizes_that_are_missing_are_named() {
        for (field, config) in [
            ("hidden_size", json!({"model_type": "deberta", "vocab_size": 90})),
            ("vocab_size", json!({"model_type": "deberta", "hidden_size": 48})),
        ] {
            let error = read(&config).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("missing"), "{error}");
        }
    }
}
