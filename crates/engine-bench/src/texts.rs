//! The texts as token ids, in the two orders in which they are computed.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use engine::TokenIds;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokenizers::{Tokenizer, TruncationParams};

/// What is measured where no file is named.
const QUESTIONS: &str = include_str!("../../accuracy/data/retrieval.jsonl");
/// Long enough to be cut to a short query under any tokenizer.
const QUERY: &str = "what should a traveller know about the weather in the mountains before they set out";
/// Tokens of the short query, special tokens included.
const QUERY_TOKENS: usize = 8;
/// Of all random ids.
const SEED: u64 = 1;

/// In which order texts are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// As they come.
    Arrival,
    /// The longest first, which only who has all of them beforehand can do.
    Sorted,
}

impl Order {
    /// The word in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Sorted => "sorted",
        }
    }
}

/// A question and its passage, of a few words and of some sentences.
#[derive(Deserialize)]
struct Pair {
    query: String,
    text: String,
}

/// Each question, then its passage.
fn questions_and_passages() -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for line in QUESTIONS.lines() {
        let Pair { query, text } = serde_json::from_str(line)?;
        texts.extend([query, text]);
    }
    Ok(texts)
}

/// Token ids of all texts and of one short query.
#[derive(Debug)]
pub(crate) struct Texts {
    arrival: Vec<TokenIds>,
    query: TokenIds,
}

impl Texts {
    /// The first `count` lines of `file`, or of the questions and passages that come with `accuracy`, as the tokenizer of the model in `model_dir` cuts them.
    ///
    /// # Errors
    /// Where the file or the tokenizer cannot be read, or there is no text.
    pub(crate) fn read(
        model_dir: &Path,
        file: Option<&Path>,
        count: NonZeroUsize,
        tokens_max: NonZeroUsize,
    ) -> Result<Self> {
        let given = file.map(|file| {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        });
        let given = given.transpose()?;
        let lines: Vec<String> = match &given {
            Some(given) => given.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect(),
            None => questions_and_passages()?,
        };
        let tokenizer_file = model_dir.join("tokenizer.json");
        let cut = |tokens_max| tokenizer(&tokenizer_file, tokens_max);
        let texts = cut(tokens_max.get())?;
        let arrival: Vec<_> =
            lines.iter().take(count.get()).map(|line| encode(&texts, line)).collect::<Result<_>>()?;
        ensure!(!arrival.is_empty(), "there is no text to measure");
        Ok(Self { arrival, query: encode(&cut(QUERY_TOKENS)?, QUERY)? })
    }

    /// `count` texts of `tokens` random ids each; the query is random as well.
    ///
    /// # Errors
    /// Never where `vocabulary` is not 0.
    pub(crate) fn synthetic(count: usize, tokens: NonZeroUsize, vocabulary: usize) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(SEED);
        let arrival = (0..count).map(|_| draw_ids(tokens.get(), vocabulary, &mut rng));
        Ok(Self {
            arrival: arrival.collect::<Result<_>>()?,
            query: draw_ids(QUERY_TOKENS, vocabulary, &mut rng)?,
        })
    }

    /// All texts in `order`.
    pub(crate) fn in_order(&self, order: Order) -> Vec<&TokenIds> {
        let mut texts: Vec<&TokenIds> = self.arrival.iter().collect();
        if order == Order::Sorted {
            texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        }
        texts
    }

    /// One text of a few tokens.
    pub(crate) fn query(&self) -> &TokenIds {
        &self.query
    }

    /// Number of texts.
    pub(crate) fn count(&self) -> usize {
        self.arrival.len()
    }

    /// Tokens of all texts together.
    pub(crate) fn tokens(&self) -> usize {
        self.arrival.iter().map(TokenIds::len).sum()
    }
}

/// The ids of a text of `tokens` tokens, the same in every run.
///
/// # Errors
/// Where `tokens` or `vocabulary` is 0.
pub(crate) fn random_ids(tokens: usize, vocabulary: usize) -> Result<TokenIds> {
    draw_ids(tokens, vocabulary, &mut StdRng::seed_from_u64(SEED))
}

fn draw_ids(tokens: usize, vocabulary: usize, rng: &mut StdRng) -> Result<TokenIds> {
    let last = u32::try_from(vocabulary)?.checked_sub(1).context("a vocabulary of no token")?;
    Ok(TokenIds::new((0..tokens).map(|_| rng.random_range(0..=last)).collect())?)
}

fn tokenizer(file: &Path, tokens_max: usize) -> Result<Tokenizer> {
    let failed = |error| anyhow!("tokenizer {}: {error}", file.display());
    let mut tokenizer = Tokenizer::from_file(file).map_err(failed)?;
    tokenizer.with_padding(None);
    let cut = TruncationParams { max_length: tokens_max, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(cut)).map_err(failed)?;
    Ok(tokenizer)
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<TokenIds> {
    let encoded = tokenizer.encode(text, true).map_err(|error| anyhow!("tokenizing `{text}`: {error}"))?;
    Ok(TokenIds::new(encoded.get_ids().to_vec())?)
}
