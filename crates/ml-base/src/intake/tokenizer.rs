//! One text to token ids, cut to the model's limit.
//!
//! The tokenizer's own truncation and padding are switched off: tokenizer.json of all-MiniLM-L6-v2 ships a cut at 128 and
//! padding to 128, where its sentence_bert_config.json says 256 and nothing here is ever padded.

use std::path::Path;

use engine::TokenIds;
use protocol::{
    embed_json::check_text,
    inference::{ItemStatus, Truncation},
};
use tokenizers::{PostProcessor, TruncationDirection};

use crate::item::ItemFailure;

/// A text as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenized {
    /// The ids, special tokens included.
    pub ids: TokenIds,
    /// True when the text was cut.
    pub truncated: bool,
}

/// A tokenizer with the limits of its model.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    tokens_max: usize,
    text_bytes_max: usize,
    vocabulary: usize,
    special_tokens: usize,
}

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct TokenizerError {
    file: String,
    reason: String,
}

impl Tokenizer {
    /// Loads `tokenizer.json` from `directory`. `tokens_max` counts special tokens, `vocabulary` is the engine's.
    ///
    /// # Errors
    /// [`TokenizerError`] naming the file.
    pub fn load(
        directory: &Path,
        tokens_max: usize,
        text_bytes_max: usize,
        vocabulary: usize,
    ) -> Result<Self, TokenizerError> {
        let file = directory.join("tokenizer.json");
        let fail = |reason: String| TokenizerError { file: file.display().to_string(), reason };
        let mut inner = tokenizers::Tokenizer::from_file(&file).map_err(|error| fail(error.to_string()))?;
        inner.with_truncation(None).map_err(|error| fail(error.to_string()))?.with_padding(None);
        let special_tokens = inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        if tokens_max <= special_tokens {
            return Err(fail(format!("adds {special_tokens} special tokens, the limit is {tokens_max}")));
        }
        Ok(Self { inner, tokens_max, text_bytes_max, vocabulary, special_tokens })
    }

    /// Tokenizes `prompt` followed by `text`.
    ///
    /// # Errors
    /// [`ItemFailure`] for what is not a text, or is too long where truncation is not wanted.
    pub fn tokenize(
        &self,
        prompt: &str,
        text: &str,
        truncation: Truncation,
    ) -> Result<Tokenized, ItemFailure> {
        check_text(text, self.text_bytes_max, &"text").map_err(|error| ItemFailure::of_text(&error))?;
        let prompted;
        let whole = match prompt {
            "" => text,
            prompt => {
                prompted = format!("{prompt}{text}");
                &prompted
            }
        };
        let failed =
            |error: tokenizers::Error| ItemFailure::internal(format!("the tokenizer failed: {error}"));
        let mut encoding = self.inner.encode_fast(whole, false).map_err(failed)?;
        let room = self.tokens_max - self.special_tokens;
        let tokens = encoding.len();
        let truncated = tokens > room;
        if truncated {
            encoding.truncate(room, 0, self.direction(truncation, tokens)?);
        }
        let encoding = self.inner.post_process(encoding, None, true).map_err(failed)?;
        let ids = TokenIds::new(encoding.get_ids().to_vec())
            .map_err(|error| ItemFailure::invalid(format!("text has no tokens: {error}")))?;
        Ok(Tokenized { ids, truncated })
    }

    fn direction(&self, truncation: Truncation, tokens: usize) -> Result<TruncationDirection, ItemFailure> {
        match truncation {
            Truncation::Unspecified | Truncation::Right => Ok(TruncationDirection::Right),
            Truncation::Left => Ok(TruncationDirection::Left),
            Truncation::None => Err(self.too_long(tokens + self.special_tokens)),
        }
    }

    fn too_long(&self, tokens: usize) -> ItemFailure {
        let message = format!(
            "text has {tokens} tokens, the limit is {}, and it may not be truncated",
            self.tokens_max
        );
        ItemFailure { status: ItemStatus::TooLong, message }
    }

    /// Checks token ids that came from outside.
    ///
    /// # Errors
    /// [`ItemFailure`] for too many ids, or one the model does not have.
    pub fn check_ids(&self, ids: TokenIds) -> Result<Tokenized, ItemFailure> {
        if ids.len() > self.tokens_max {
            return Err(self.too_long(ids.len()));
        }
        if let Some(id) = ids.as_slice().iter().find(|id| **id as usize >= self.vocabulary) {
            let message = format!("token id {id} is outside the model's {} tokens", self.vocabulary);
            return Err(ItemFailure::invalid(message));
        }
        Ok(Tokenized { ids, truncated: false })
    }
}
