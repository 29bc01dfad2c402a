//! Editions: profiles of limits, as the plan names them.

use serde::Serialize;

/// A profile of limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Edition {
    /// For a laptop.
    Simple,
    /// For a team.
    Community,
    /// For a thousand users; the default.
    #[default]
    Enterprise,
}

/// What an edition allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditionLimits {
    /// Texts of one caller in one inference batch, and so in one chunk.
    pub chunk_texts_max: usize,
    /// Texts of one request.
    pub request_texts_max: usize,
    /// Tokens of one text; the model's own limit may be lower.
    pub tokens_max: usize,
    /// Entries in L1.
    pub cache_entries_max: usize,
    /// Requests at once.
    pub requests_max: usize,
}

impl Edition {
    /// The name, as in `SUTRA_EDITION` and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Community => "community",
            Self::Enterprise => "enterprise",
        }
    }

    /// The limits of this edition.
    pub fn limits(self) -> EditionLimits {
        match self {
            Self::Simple => EditionLimits {
                chunk_texts_max: 8,
                request_texts_max: 64,
                tokens_max: 512,
                cache_entries_max: 10_000,
                requests_max: 8,
            },
            Self::Community => EditionLimits {
                chunk_texts_max: 32,
                request_texts_max: 512,
                tokens_max: 2048,
                cache_entries_max: 50_000,
                requests_max: 64,
            },
            Self::Enterprise => EditionLimits {
                chunk_texts_max: 128,
                request_texts_max: 2048,
                tokens_max: 8192,
                cache_entries_max: 200_000,
                requests_max: 512,
            },
        }
    }
}
