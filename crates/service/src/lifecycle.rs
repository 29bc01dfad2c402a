//! What state a replica is in: the one source for `/health`, grpc.health.v1 and admission.
//!
//! ```text
//!  Loading ──▶ Ready ⇄ Broken
//!      └─────────┴───────┴────▶ Draining (for good)
//! ```

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// State of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not yet able to answer.
    Loading,
    /// Serving.
    Ready,
    /// Was serving, and a part of it is being replaced.
    Broken,
    /// Told to stop; answers what it has taken and takes no more.
    Draining,
}

impl State {
    /// The name, as `/health` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Broken => "broken",
            Self::Draining => "draining",
        }
    }
}

/// The state of this process, shared by all that set or watch it.
#[derive(Debug, Clone)]
pub struct Lifecycle(Arc<watch::Sender<State>>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Loading)))
    }
}

impl Lifecycle {
    /// The state now.
    pub fn state(&self) -> State {
        *self.0.borrow()
    }

    /// Moves to `next`, unless the process is draining: that is for good.
    pub fn set(&self, next: State) {
        let changed = self.0.send_if_modified(|state| {
            let moves = *state != State::Draining && *state != next;
            if moves {
                *state = next;
            }
            moves
        });
        if changed {
            tracing::info!(state = next.name(), "state changed");
        }
    }

    /// A receiver that sees every later state.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// Waits until the state is `wanted`.
    pub async fn wait_for(&self, wanted: State) {
        // The sender lives in `self`, so the wait ends only by the state.
        if self.watch().wait_for(|state| *state == wanted).await.is_err() {
            tracing::debug!("lifecycle ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_is_for_good() {
        let lifecycle = Lifecycle::default();
        lifecycle.set(State::Ready);
        lifecycle.set(State::Draining);
        lifecycle.set(State::Ready);
        assert_eq!(lifecycle.state(), State::Draining);
    }
}
