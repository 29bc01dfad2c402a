//! config.json: what of it the encoder needs, and what it refuses.

use std::path::Path;

use serde::Deserialize;

use crate::error::LoadError;

const ARCHITECTURES: &[&str] = &["bert"];

/// Values of `model_type` that [`Engine::load`](crate::Engine::load) takes.
pub fn supported_architectures() -> &'static [&'static str] {
    ARCHITECTURES
}

/// The shape of a BERT encoder, checked: no size is 0 and `hidden` is a multiple of `heads`.
#[derive(Debug, Clone)]
pub(crate) struct BertConfig {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) positions: usize,
    pub(crate) token_types: usize,
    pub(crate) norm_epsilon: f32,
}

/// config.json as transformers writes it. Fields that do not change a forward pass are ignored.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    position_embedding_type: Option<String>,
    hidden_act: Option<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    intermediate_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f32>,
}

impl BertConfig {
    /// Reads and checks `file`.
    pub(crate) fn read(file: &Path) -> Result<Self, LoadError> {
        let json = std::fs::read(file).map_err(|source| LoadError::reading(file, source))?;
        let raw: RawConfig = serde_json::from_slice(&json)
            .map_err(|source| LoadError::Config { file: file.to_owned(), source })?;
        raw.refuse_other_models()?;
        raw.check(file)
    }
}

impl RawConfig {
    /// The architecture comes first, so that a model of another kind is refused as such and not for a field it names
    /// differently.
    fn refuse_other_models(&self) -> Result<(), LoadError> {
        let unsupported = |found: &str| LoadError::UnsupportedArchitecture {
            found: found.to_owned(),
            supported: ARCHITECTURES,
        };
        match (self.model_type.as_deref(), self.architectures.first()) {
            (Some(kind), _) if !ARCHITECTURES.contains(&kind) => return Err(unsupported(kind)),
            // Some models call themselves `bert` and are not: jina's second version, for one.
            (_, Some(class)) if !class.starts_with("Bert") => return Err(unsupported(class)),
            (None, None) => return Err(unsupported("")),
            (Some(_), _) | (None, Some(_)) => {}
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(found) => return Err(LoadError::UnsupportedPositions { found: found.to_owned() }),
        }
        match self.hidden_act.as_deref() {
            None | Some("gelu") => Ok(()),
            Some(found) => Err(LoadError::UnsupportedActivation { found: found.to_owned() }),
        }
    }

    /// Absent fields have the defaults that transformers' `BertConfig` gives them.
    fn check(&self, file: &Path) -> Result<BertConfig, LoadError> {
        let invalid = |field, found: String, wanted: &str| LoadError::InvalidConfig {
            file: file.to_owned(),
            field,
            found,
            wanted: wanted.to_owned(),
        };
        let positive = |field, value: Option<usize>, default: usize| match value.unwrap_or(default) {
            0 => Err(invalid(field, "0".to_owned(), "at least 1")),
            value => Ok(value),
        };
        let config = BertConfig {
            vocabulary: positive("vocab_size", self.vocab_size, 30_522)?,
            hidden: positive("hidden_size", self.hidden_size, 768)?,
            layers: positive("num_hidden_layers", self.num_hidden_layers, 12)?,
            heads: positive("num_attention_heads", self.num_attention_heads, 12)?,
            intermediate: positive("intermediate_size", self.intermediate_size, 3072)?,
            positions: positive("max_position_embeddings", self.max_position_embeddings, 512)?,
            token_types: positive("type_vocab_size", self.type_vocab_size, 2)?,
            norm_epsilon: self.layer_norm_eps.unwrap_or(1e-12),
        };
        if !config.hidden.is_multiple_of(config.heads) {
            let wanted = format!("a multiple of num_attention_heads = {}", config.heads);
            return Err(invalid("hidden_size", config.hidden.to_string(), &wanted));
        }
        if !(config.norm_epsilon > 0.0 && config.norm_epsilon.is_finite()) {
            return Err(invalid("layer_norm_eps", config.norm_epsilon.to_string(), "a positive number"));
        }
        Ok(config)
    }
}
