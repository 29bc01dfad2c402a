//! One text to token ids, cut to the model's limit.
//!
//! The tokenizer's own truncation and padding are switched off: tokenizer.json of all-MiniLM-L6-v2 ships a cut at 128 and
//! padding to 128, where its sentence_bert_config.json says 256 and nothing here is ever padded.

use std::{borrow::Cow, path::Path};

use engine::TokenIds;
use protocol::{
    embed_json::check_text,
    inference::{ItemStatus, Truncation},
};
use tokenizers::{PostProcessor, TruncationDirection};

use crate::{item::ItemFailure, model::Case};

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
    case: Case,
    limits: TokenizerLimits,
    special_tokens: usize,
}

/// Bounds of what is tokenized.
#[derive(Debug, Clone, Copy)]
pub struct TokenizerLimits {
    /// Tokens of one text, special tokens included.
    pub tokens_max: usize,
    /// Bytes of one text.
    pub text_bytes_max: usize,
    /// Token ids the engine has a row for.
    pub vocabulary: usize,
}

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct TokenizerError {
    file: String,
    reason: String,
}

impl Tokenizer {
    /// Loads `tokenizer.json` from `directory`; texts are brought to `case` first.
    ///
    /// # Errors
    /// [`TokenizerError`] naming the file.
    pub fn load(directory: &Path, case: Case, limits: TokenizerLimits) -> Result<Self, TokenizerError> {
        let tokens_max = limits.tokens_max;
        let file = directory.join("tokenizer.json");
        let fail = |reason: String| TokenizerError { file: file.display().to_string(), reason };
        let mut inner = tokenizers::Tokenizer::from_file(&file).map_err(|error| fail(error.to_string()))?;
        inner.with_truncation(None).map_err(|error| fail(error.to_string()))?.with_padding(None);
        let special_tokens = inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        if tokens_max <= special_tokens {
            return Err(fail(format!("adds {special_tokens} special tokens, the limit is {tokens_max}")));
        }
        Ok(Self { inner, case, limits, special_tokens })
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
        check_text(text, self.limits.text_bytes_max, &"text")
            .map_err(|error| ItemFailure::of_text(&error))?;
        let whole = self.whole(prompt, text);
        let failed =
            |error: tokenizers::Error| ItemFailure::internal(format!("the tokenizer failed: {error}"));
        let mut encoding = self.inner.encode_fast(&*whole, false).map_err(failed)?;
        let room = self.limits.tokens_max - self.special_tokens;
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

    fn whole<'a>(&self, prompt: &str, text: &'a str) -> Cow<'a, str> {
        let whole = if prompt.is_empty() { Cow::Borrowed(text) } else { format!("{prompt}{text}").into() };
        match self.case {
            Case::AsGiven => whole,
            Case::Lower => whole.to_lowercase().into(),
        }
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
            self.limits.tokens_max
        );
        ItemFailure { status: ItemStatus::TooLong, message }
    }

    /// Checks token ids that came from outside.
    ///
    /// # Errors
    /// [`ItemFailure`] for too many ids, or one the model does not have.
    pub fn check_ids(&self, ids: TokenIds) -> Result<Tokenized, ItemFailure> {
        if ids.len() > self.limits.tokens_max {
            return Err(self.too_long(ids.len()));
        }
        if let Some(id) = ids.as_slice().iter().find(|id| **id as usize >= self.limits.vocabulary) {
            let message = format!("token id {id} is outside the model's {} tokens", self.limits.vocabulary);
            return Err(ItemFailure::invalid(message));
        }
        Ok(Tokenized { ids, truncated: false })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMITS: TokenizerLimits = TokenizerLimits { tokens_max: 4, text_bytes_max: 64, vocabulary: 5 };

    /// Knows a few words in lower case; every other one is 0.
    fn tokenizer(case: Case) -> Tokenizer {
        let directory = tempfile::tempdir().unwrap();
        let words = json!({"?": 0, "query": 1, ":": 2, "a": 3, "text": 4});
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": [],
            "truncation": {"max_length": 2, "stride": 0, "strategy": "LongestFirst", "direction": "Right"},
            "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": words, "unk_token": "?"},
        });
        std::fs::write(directory.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        Tokenizer::load(directory.path(), case, LIMITS).unwrap()
    }

    fn ids(case: Case, prompt: &str, text: &str) -> Vec<u32> {
        let tokenized = tokenizer(case).tokenize(prompt, text, Truncation::Right).unwrap();
        tokenized.ids.as_slice().to_vec()
    }

    #[test]
    fn text_and_prompt_are_brought_to_lower_case_where_the_model_wants_it() {
        assert_eq!(ids(Case::Lower, "Query: ", "A TEXT"), [1, 2, 3, 4]);
        assert_eq!(ids(Case::AsGiven, "Query: ", "A text"), [0, 2, 0, 4]);
    }

    #[test]
    fn prompt_goes_in_front_of_the_text_and_counts_for_its_length() {
        assert_eq!(ids(Case::AsGiven, "query: ", "a text a text"), [1, 2, 3, 4]);
        let error = tokenizer(Case::AsGiven).tokenize("query: ", "a text a", Truncation::None).unwrap_err();
        assert!(error.message.contains("text has 5 tokens, the limit is 4"), "{}", error.message);
    }
}
