//! The place of the store, empty until it is open.

use std::sync::{Arc, OnceLock};

use protocol::error::{ApiError, ErrorCode};

use crate::store::{Stats, Store};

/// Where the doors find the store; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<OnceLock<Arc<Store>>>);

impl Slot {
    /// Puts the store in, once.
    pub fn fill(&self, store: Arc<Store>) {
        if self.0.set(store).is_err() {
            tracing::error!("a second store was opened");
        }
    }

    /// The store.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] while it is being opened.
    pub fn store(&self) -> Result<Arc<Store>, ApiError> {
        self.0.get().cloned().ok_or_else(|| ApiError::new(ErrorCode::Unavailable, "this shard is loading"))
    }

    /// Its counts; zeros while it is being opened.
    pub fn stats(&self) -> Stats {
        self.0.get().map(|store| store.stats()).unwrap_or_default()
    }
}
