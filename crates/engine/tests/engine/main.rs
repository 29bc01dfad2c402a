//! The engine against what it must equal: sentence-transformers' vectors, candle-transformers' models, and itself in
//! another batch. Then what it must refuse.

#![expect(clippy::unwrap_used, reason = "what fails in a test's own functions fails the test")]

mod golden_files;
mod model_dir;
mod random_bert;

mod golden;
mod nomic_oracle;
mod oracle;
mod refusals;
