//! Who may enter a full cache, and who goes for it. Each policy has a file of its own.

use clap::ValueEnum;
use serde::Serialize;

use super::{adaptive::Adaptive, policy::Policy, recency::Recency};

/// Who may enter a full L1, and who goes for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Every vector enters, the least recently used goes.
    Lru,
    /// A new vector makes way for the next new ones, unless it is asked for again.
    #[default]
    Adaptive,
}

impl Admission {
    /// The entries of an empty shard.
    pub(super) fn start(self) -> Box<dyn Policy> {
        match self {
            Self::Lru => Box::new(Recency::default()),
            Self::Adaptive => Box::new(Adaptive::default()),
        }
    }
}
