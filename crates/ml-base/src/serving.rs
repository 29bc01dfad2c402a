//! The models of this replica: what is known of each, and whether it is loaded.
//!
//! ```text
//!  gRPC, HTTP ─▶ Serving ─▶ Replica::find ─▶ Served ─▶ lease ─▶ Lease ─▶ pipeline
//!                                              │ ▲ phase: unloaded ─▶ loading ─▶ loaded ─▶ unloaded …
//!                                      wanted  ▼ │
//!                                            Keeper (one task): admits memory, loads, unloads what is idle
//! ```
//!
//! What a model is called, its identity, widths, limits and prompts come from its files alone, so every model is told of
//! in `Info` and can be asked for whether it is loaded or not. The default model is loaded first and never unloaded.

mod described;

mod served;

mod keeper;

mod memory;

use std::sync::{Arc, OnceLock};

use protocol::{
    error::{ApiError, ErrorCode},
    inference,
};

pub(crate) use described::{Described, count};
pub(crate) use keeper::{Keeper, Loaded, Loader, Terms};
pub(crate) use memory::{Load as MemoryLoad, available_bytes};
pub use served::{Lease, Served};

use crate::{config::Limits, queue::QueueLoad};

/// Everything a call needs to find its model. Invariant: there is a default model.
#[derive(Debug)]
pub struct Replica {
    models: Vec<Arc<Served>>,
    pub(crate) limits: Limits,
    pub(crate) instance_id: String,
}

impl Replica {
    /// A replica of these models, the default one first.
    pub(crate) fn new(models: Vec<Arc<Served>>, limits: Limits, instance_id: String) -> Self {
        assert!(!models.is_empty(), "a replica serves a model");
        Self { models, limits, instance_id }
    }

    /// All models, the default one first.
    pub fn models(&self) -> &[Arc<Served>] {
        &self.models
    }

    /// The model with this id or alias; the default one for the empty name.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] naming those that are served.
    pub fn find(&self, name: &str) -> Result<&Arc<Served>, ApiError> {
        let is_called = |model: &&Arc<Served>| name.is_empty() || model.is_called(name);
        self.models.iter().find(is_called).ok_or_else(|| {
            let served = self.models.iter().map(|model| format!("`{}`", model.id())).collect::<Vec<_>>();
            let message = format!("`model` is `{name}`, this replica serves {}", served.join(", "));
            ApiError::new(ErrorCode::NotFound, message).at_field("model")
        })
    }

    /// What waits for the device now, of all models.
    pub(crate) fn load(&self) -> QueueLoad {
        let loads = self.models.iter().map(|model| model.queue().load());
        loads.fold(QueueLoad::default(), |sum, load| QueueLoad {
            texts: sum.texts + load.texts,
            tokens: sum.tokens + load.tokens,
        })
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
        let load = self.load();
        serde_json::json!({
            "service": "ml-base",
            "version": env!("CARGO_PKG_VERSION"),
            "instance": self.instance_id,
            "device": "cpu",
            "models": self.models.iter().map(|model| model.info_json()).collect::<Vec<_>>(),
            "limits": self.limits,
            "load": { "queued_texts": load.texts, "queued_tokens": load.tokens },
        })
    }
}

/// Holds the replica once its default model is loaded; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Serving(Arc<OnceLock<Replica>>);

impl Serving {
    /// The replica.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] while its default model is not there.
    pub fn replica(&self) -> Result<&Replica, ApiError> {
        let loading = || ApiError::new(ErrorCode::Unavailable, "this replica is loading its model");
        self.0.get().ok_or_else(loading)
    }

    /// Puts the replica in, once.
    pub(crate) fn fill(&self, replica: Replica) {
        if self.0.set(replica).is_err() {
            tracing::error!("a second replica was made; the first one stays");
        }
    }

    /// Takes no more calls; what waits is still computed.
    pub(crate) fn close(&self) {
        if let Some(replica) = self.0.get() {
            replica.models.iter().for_each(|model| model.queue().close());
        }
    }
}
