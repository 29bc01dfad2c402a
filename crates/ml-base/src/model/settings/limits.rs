//! The longest text, and the case that texts are brought to.
//!
//! As sentence-transformers decides it: `max_seq_length` of its own file, else the lower of the model's positions and
//! the tokenizer's `model_max_length`. What tokenizer.json says of truncation is a leftover of training and counts
//! nowhere.

use std::iter;
use std::path::Path;

use serde::Deserialize;

use super::super::catalog::CatalogEntry;
use super::super::error::FileFault;
use super::super::{Case, files};
use super::config::Config;
use super::read_json;

/// A tokenizer without a limit says 1e30; nothing above this is meant as one.
const SANE_MAX: f64 = 1e6;

#[derive(Default, Deserialize)]
struct Own {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

/// What the model's files say.
pub(super) struct Limits {
    own: Own,
    tokenizer_max: Option<usize>,
}

impl Limits {
    pub(super) fn read(directory: &Path) -> Result<Self, FileFault> {
        let tokenizer: Option<TokenizerConfig> = read_json(directory, files::TOKENIZER_CONFIG)?;
        let tokenizer_max = tokenizer.and_then(|config| config.model_max_length).and_then(sane);
        let limits = Self { own: own(directory)?.unwrap_or_default(), tokenizer_max };
        match limits.own.max_seq_length {
            Some(0) => Err(FileFault::content(files::LIMITS, "max_seq_length is 0, the least is 1")),
            Some(_) | None => Ok(limits),
        }
    }

    /// A text is brought to lower case before it is tokenized, where the model's file wants it.
    pub(super) fn case(&self) -> Case {
        if self.own.do_lower_case { Case::Lower } else { Case::AsGiven }
    }

    /// Tokens of the longest text, special tokens included.
    pub(super) fn tokens_max(
        &self,
        config: &Config,
        entry: Option<&CatalogEntry>,
    ) -> Result<usize, FileFault> {
        let own = self.own.max_seq_length.or(entry.map(|entry| entry.tokens_max)).or(self.tokenizer_max);
        // A text cannot be longer than there are positions, whatever the other files say.
        own.into_iter()
            .chain(config.positions())
            .min()
            .ok_or_else(|| FileFault::content(files::CONFIG, "max_position_embeddings is missing"))
    }
}

fn own(directory: &Path) -> Result<Option<Own>, FileFault> {
    for file in iter::once(files::LIMITS).chain(files::OLDER_LIMITS) {
        if let Some(own) = read_json(directory, file)? {
            return Ok(Some(own));
        }
    }
    Ok(None)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
fn sane(limit: f64) -> Option<usize> {
    (1.0..=SANE_MAX).contains(&limit).then_some(limit as usize)
}
