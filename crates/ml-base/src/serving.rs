//! The model that is served, once it is loaded, with everything a call needs to know of it.

use std::sync::{Arc, OnceLock};

use protocol::{
    error::{ApiError, ErrorCode},
    inference::{self, PrecisionClass},
};
use vector::{Finish, FinishError, Normalization};

use crate::{config::Limits, model::ModelFiles, pipeline::Pipeline};

/// The loaded model with everything a call needs.
#[derive(Debug)]
pub struct Serving {
    pub(crate) files: ModelFiles,
    pub(crate) identity: String,
    pub(crate) width: usize,
    pub(crate) tokens_max: usize,
    /// Width `POST /embed` answers with; `None` means the full width.
    pub(crate) dimensions: Option<u32>,
    /// How its vectors are computed.
    pub(crate) precision: PrecisionClass,
    pub(crate) pipeline: Pipeline,
    pub(crate) limits: Limits,
    pub(crate) instance_id: String,
}

impl Serving {
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn model_id(&self) -> &str {
        &self.files.id
    }

    /// Accepts the id or the alias of the served model, and the empty name.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), ApiError> {
        if name.is_empty() || name == self.files.id || Some(name) == self.files.alias.as_deref() {
            return Ok(());
        }
        let message = format!("`model` is `{name}`, this replica serves `{}`", self.files.id);
        Err(ApiError::new(ErrorCode::NotFound, message).at_field("model"))
    }

    pub(crate) fn finish(
        &self,
        dimensions: Option<u32>,
        normalization: Normalization,
    ) -> Result<Finish, FinishError> {
        Finish::new(
            dimensions.or(self.dimensions),
            count(self.width),
            &self.files.trained_dimensions,
            self.files.layer_norm_before_cut,
            normalization,
        )
    }

    pub(crate) fn model_info(&self) -> inference::ModelInfo {
        inference::ModelInfo {
            id: self.files.id.clone(),
            alias: self.files.alias.clone().unwrap_or_default(),
            identity: self.identity.clone(),
            width: count(self.width),
            trained_dimensions: self.files.trained_dimensions.clone(),
            tokens_max: count(self.tokens_max),
            precision_class: self.precision.into(),
            pooling: self.files.pooling.to_string(),
            layer_norm_before_cut: self.files.layer_norm_before_cut,
            prompts: self.files.prompts.by_name().clone(),
            default_prompt_name: self.files.prompts.default_name().unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn limits_message(&self) -> inference::Limits {
        inference::Limits {
            items_max: count(self.limits.call_texts_max),
            text_bytes_max: count(self.limits.text_bytes_max),
            message_bytes_max: count(self.limits.body_bytes_max),
            calls_max: count(self.limits.calls_max),
        }
    }

    pub(crate) fn info_json(&self) -> serde_json::Value {
        let load = self.pipeline.queue().load();
        serde_json::json!({
            "service": "ml-base",
            "version": env!("CARGO_PKG_VERSION"),
            "instance": self.instance_id,
            "device": "cpu",
            "model": {
                "id": self.files.id,
                "alias": self.files.alias,
                "identity": self.identity,
                "width": self.width,
                "trained_dimensions": self.files.trained_dimensions,
                "tokens_max": self.tokens_max,
                "pooling": self.files.pooling.to_string(),
                "precision": self.precision.name(),
                "prompts": self.files.prompts.by_name(),
                "default_prompt_name": self.files.prompts.default_name(),
            },
            "limits": self.limits,
            "load": { "queued_texts": load.texts, "queued_tokens": load.tokens },
        })
    }
}

/// Holds the model once it is loaded.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<OnceLock<Arc<Serving>>>);

impl Slot {
    /// The loaded model.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] while it is not there.
    pub fn serving(&self) -> Result<Arc<Serving>, ApiError> {
        let loading = || ApiError::new(ErrorCode::Unavailable, "this replica is loading its model");
        self.0.get().cloned().ok_or_else(loading)
    }

    /// Puts the model in; a slot is filled once.
    pub(crate) fn fill(&self, serving: Serving) {
        if self.0.set(Arc::new(serving)).is_err() {
            tracing::error!("a second model was loaded; the first one stays");
        }
    }
}

/// Counts on the wire have 32 bits; no limit here comes near.
pub(crate) fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
