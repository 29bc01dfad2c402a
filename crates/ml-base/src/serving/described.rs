//! What is known of a model from its files alone.

use engine::{Compute, Isa};
use protocol::inference::{self, PrecisionClass};
use vector::{Finish, FinishError, ModelWidths, Normalization, Widths};

use crate::model::ModelFiles;

/// A model, loaded or not.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) files: ModelFiles,
    /// 64 hex digits.
    pub(crate) identity: String,
    /// The lower of the model's limit and the edition's.
    pub(crate) tokens_max: usize,
    /// Width `POST /embed` answers with; `None` means the full width.
    pub(crate) dimensions: Option<u32>,
    /// What it is computed with.
    pub(crate) compute: Compute,
    /// The instructions that may be used.
    pub(crate) isa: Isa,
    /// The name of what computes it.
    pub(crate) computes_with: &'static str,
    /// The class of its vectors, which follows from that.
    pub(crate) precision: PrecisionClass,
    /// Memory it is reckoned to take once loaded.
    pub(crate) need_bytes: u64,
}

impl Described {
    pub(crate) fn width(&self) -> usize {
        self.files.width as usize
    }

    /// `dimensions` is what a call asks for; without it the configured width is served.
    pub(crate) fn finish(
        &self,
        dimensions: Option<u32>,
        widths: Widths,
        normalization: Normalization,
    ) -> Result<Finish, FinishError> {
        let of_model = ModelWidths {
            full: self.files.width,
            trained: &self.files.trained_dimensions,
            layer_norm_before_cut: self.files.layer_norm_before_cut,
        };
        Finish::new(dimensions.or(self.dimensions), of_model, widths, normalization)
    }

    pub(crate) fn message(&self) -> inference::ModelInfo {
        inference::ModelInfo {
            id: self.files.id.clone(),
            alias: self.files.alias.clone().unwrap_or_default(),
            identity: self.identity.clone(),
            width: self.files.width,
            trained_dimensions: self.files.trained_dimensions.clone(),
            tokens_max: count(self.tokens_max),
            precision_class: self.precision.into(),
            pooling: self.files.pooling.to_string(),
            layer_norm_before_cut: self.files.layer_norm_before_cut,
            prompts: self.files.prompts.by_name().clone(),
            default_prompt_name: self.files.prompts.default_name().unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.files.id,
            "alias": self.files.alias,
            "identity": self.identity,
            "width": self.files.width,
            "trained_dimensions": self.files.trained_dimensions,
            "tokens_max": self.tokens_max,
            "pooling": self.files.pooling.to_string(),
            "precision": self.precision.name(),
            "cpu_isa": self.isa.name(),
            "computes_with": self.computes_with,
            "prompts": self.files.prompts.by_name(),
            "default_prompt_name": self.files.prompts.default_name(),
            "memory_bytes": self.need_bytes,
        })
    }
}

/// Counts on the wire have 32 bits; no limit here comes near.
pub(crate) fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
