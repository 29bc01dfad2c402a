//! The command line, and what it means once it is checked.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use api_key::ApiKey;
use clap::Parser;

use crate::{
    pairs::Pairs,
    prompts::GivenPrompts,
    report::{Form, Thresholds},
    run::Config,
    side::Side,
};

const AFTER_HELP: &str = "\
A class starts an ml-base of its own and stops it; a URL asks a server that runs (ml-base, or embedding-single with its \
caches left aside). Vectors are compared as clients get them: of every class but float32 rounded to float16.

nDCG@10 and MRR@10 are those of finding each query's text among all texts; a text as near as the right one counts as nearer. \
Thresholds hold for every width, candidate and reference cut alike.

Exit codes: 0 measured, 1 measured and a threshold was missed, 2 nothing measured, 130 interrupted.";

/// Tells how much a precision class or a shorter vector changes answers.
#[derive(Debug, Parser)]
#[command(name = "accuracy", after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What is judged: float32, bfloat16, float16, int8, or the address of a running server
    #[arg(long, value_name = "CLASS|URL")]
    candidate: Side,
    /// What it is compared with
    #[arg(long, value_name = "CLASS|URL", default_value = "float32")]
    reference: Side,
    /// Model: an alias, a hub id or a directory [default: medium, or what the server at a URL serves first]
    #[arg(long, env = "MODEL_NAME", value_name = "NAME")]
    model: Option<String>,
    /// A {"query": "…", "text": "…"} a line: each query is answered by its text [default: the set that ships]
    #[arg(long, value_name = "FILE.jsonl")]
    pairs: Option<PathBuf>,
    /// Put in front of each query [default: the model's prompt `query` or `search_query`, if it has one]
    #[arg(long, value_name = "TEXT")]
    query_prompt: Option<String>,
    /// Put in front of each text [default: the model's prompt `document`, `passage` or `search_document`]
    #[arg(long, value_name = "TEXT")]
    text_prompt: Option<String>,
    /// Widths to compare besides the full one, also such as the model was not trained for [default: all it was trained for]
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    widths: Vec<u32>,
    /// Exit 1 where a text's two vectors have a lower cosine than this
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    cosine_min: Option<f64>,
    /// Exit 1 where the candidate loses more nDCG@10 than this
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    ndcg_loss_max: Option<f64>,
    /// Bearer key of the server at a URL; `@FILE` reads it from a file, which keeps it out of the list of processes
    #[arg(long, env = "API_KEY", hide_env_values = true, value_name = "KEY|@FILE")]
    api_key: Option<ApiKey>,
    /// Program to start for a class [default: ml-base beside this program]
    #[arg(long, value_name = "FILE")]
    ml_base: Option<PathBuf>,
    /// How long it may take until it is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    start_timeout_seconds: u32,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Checks what clap cannot, and reads the files.
    pub(crate) fn into_config(self) -> anyhow::Result<Config> {
        check_threshold("--cosine-min", self.cosine_min, -1.0)?;
        check_threshold("--ndcg-loss-max", self.ndcg_loss_max, -1.0)?;
        let pairs = match &self.pairs {
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                Pairs::parse(&text).with_context(|| path.display().to_string())?
            }
            None => Pairs::shipped()?,
        };
        Ok(Config {
            reference: self.reference,
            candidate: self.candidate,
            model: self.model.filter(|model| !model.is_empty()),
            pairs,
            widths: self.widths,
            prompts: GivenPrompts { query: self.query_prompt, text: self.text_prompt },
            bearer: self.api_key.map(ApiKey::bearer).transpose()?.flatten(),
            ml_base: self.ml_base.map_or_else(beside_this_program, Ok)?,
            start_timeout: Duration::from_secs(self.start_timeout_seconds.into()),
            thresholds: Thresholds { cosine_min: self.cosine_min, ndcg_loss_max: self.ndcg_loss_max },
            form: if self.json { Form::Json } else { Form::Table },
        })
    }
}

fn check_threshold(flag: &str, value: Option<f64>, least: f64) -> anyhow::Result<()> {
    let fits = value.is_none_or(|value| (least..=1.0).contains(&value));
    ensure!(fits, "`{flag}` is {}, it must lie between {least} and 1", value.unwrap_or_default());
    Ok(())
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find the folder of this program")?;
    Ok(own.with_file_name("ml-base"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn config(arguments: &[&str]) -> anyhow::Result<Config> {
        Args::try_parse_from([&["accuracy"], arguments].concat())?.into_config()
    }

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn unknown_class_is_refused_naming_the_known_ones() {
        let error = config(&["--candidate", "fp8"]).expect_err("fp8 should be refused").to_string();
        for expected in ["--candidate", "fp8", "float32, bfloat16, float16, int8", "http://"] {
            assert!(error.contains(expected), "`{expected}` is missing in {error}");
        }
    }

    #[test]
    fn threshold_outside_its_range_is_refused_by_flag_name() {
        for (flag, value) in [("--cosine-min", "1.1"), ("--cosine-min", "NaN"), ("--ndcg-loss-max", "2")] {
            let error = config(&["--candidate", "int8", flag, value]).expect_err(value).to_string();
            assert!(error.contains(&format!("`{flag}` is {value}")), "{error}");
        }
        assert!(config(&["--candidate", "int8", "--cosine-min", "0.99", "--ndcg-loss-max", "0"]).is_ok());
    }

    #[test]
    fn key_is_not_shown() {
        let args = Args::try_parse_from(["accuracy", "--candidate", "int8", "--api-key", "hush"]).unwrap();
        assert!(!format!("{args:?}").contains("hush"));
    }
}
