//! The files of a model directory, by name.

/// The weights.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The tokenizer, complete in one file.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Sizes and kind of the encoder.
pub(super) const CONFIG: &str = "config.json";
/// The steps after the encoder, where sentence-transformers made the model.
pub(super) const MODULES: &str = "modules.json";
/// How token vectors become one.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// The longest text.
pub(super) const LIMITS: &str = "sentence_bert_config.json";
/// The same, as older versions of sentence-transformers called it for other architectures; the first that is there
/// rules.
pub(super) const OLDER_LIMITS: [&str; 6] = [
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// The longest text, where the files above do not say it.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Prompts, where the model has some.
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";
/// The sums of the others, in the format of `sha256sum`. A store directory is complete only with it.
pub(super) const SUMS: &str = "SHA256SUMS";

/// Without these there is no model.
pub(super) const REQUIRED: [&str; 3] = [CONFIG, TOKENIZER, WEIGHTS];

/// All that is read, in the order of fetching: small files that may refuse the model come before the weights.
pub(super) const ALL: [&str; 8] =
    [CONFIG, TOKENIZER, TOKENIZER_CONFIG, MODULES, POOLING, LIMITS, PROMPTS, WEIGHTS];

/// Whether a model without this file is refused.
pub(super) fn is_required(name: &str) -> bool {
    REQUIRED.contains(&name)
}
