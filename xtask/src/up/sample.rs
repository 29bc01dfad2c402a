//! Two sample texts through the running grid: the proof that it works.

use std::env;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::http::{self, Answer};

/// Much longer than two texts take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The variable with the key of embedding-single.
const API_KEY: &str = "API_KEY";

const TEXTS: [&str; 2] = ["A cat sleeps on the warm windowsill.", "A kitten naps in the sun by the window."];

/// Embeds the sample texts through embedding-single and returns their cosine similarity.
pub(super) fn try_out(port: u16) -> Result<f64> {
    let request = json!({ "inputs": TEXTS }).to_string();
    let key = api_key()?;
    let answer = http::post_json(port, "/embed", &request, key.as_deref(), TIMEOUT)
        .context("embed two sample texts")?;
    similarity_of(&answer).context("embed two sample texts")
}

/// The key itself, or the content of the file that `@FILE` names.
pub(crate) fn api_key() -> Result<Option<String>> {
    let given = env::var_os(API_KEY).unwrap_or_default().into_string();
    let Ok(given) = given else { bail!("{API_KEY} is not UTF-8") };
    match given.strip_prefix('@') {
        Some(file) => {
            let key = fs::read_to_string(file).with_context(|| format!("read {API_KEY} from {file}"))?;
            Ok(Some(key.trim_end().to_owned()))
        }
        None => Ok(Some(given).filter(|key| !key.is_empty())),
    }
}

fn similarity_of(answer: &Answer) -> Result<f64> {
    if answer.status != 200 {
        bail!("POST /embed answered {}: {}", answer.status, answer.body.trim_end());
    }
    let vectors: Vec<Vec<Value>> = serde_json::from_str(&answer.body).context("parse the vectors")?;
    let vectors: Vec<Vec<f64>> =
        vectors.iter().map(|vector| vector.iter().filter_map(Value::as_f64).collect()).collect();
    match vectors.as_slice() {
        [a, b] if a.len() == b.len() && !a.is_empty() => finite(cosine(a, b)),
        other => bail!(
            "got vectors of widths {:?}, wanted two of one width",
            other.iter().map(Vec::len).collect::<Vec<_>>()
        ),
    }
}

fn finite(similarity: f64) -> Result<f64> {
    if !similarity.is_finite() {
        bail!("the similarity of two sample texts is {similarity}");
    }
    Ok(similarity)
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned() }
    }

    #[test]
    fn similarity_is_the_cosine_of_both_vectors() {
        let similarity = similarity_of(&answer(200, "[[1, 0], [3.0, 4.0]]")).unwrap();
        assert!((similarity - 0.6).abs() < 1e-12, "{similarity}");
    }

    #[test]
    fn refusal_is_shown_as_the_server_said_it() {
        let error = similarity_of(&answer(503, "{\"error\": \"loading\"}\n")).unwrap_err();
        assert_eq!(error.to_string(), "POST /embed answered 503: {\"error\": \"loading\"}");
    }

    #[test]
    fn wrong_vectors_are_an_error() {
        assert!(similarity_of(&answer(200, "[[1, 0]]")).is_err());
        assert!(similarity_of(&answer(200, "[[1, 0], [1]]")).is_err());
        assert!(similarity_of(&answer(200, "[[0, 0], [0, 1]]")).is_err());
        assert!(similarity_of(&answer(200, "{}")).is_err());
    }
}
