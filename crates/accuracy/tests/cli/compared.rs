//! Servers that answer well.

use protocol::inference::PrecisionClass::{Float32, Int8};
use serde_json::Value;

use crate::{
    run::Run,
    server::{Model, embedding_single, ml_base},
};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_are_compared_at_every_width_the_model_was_trained_for() {
    let (reference, candidate) =
        (ml_base(Model::of(Float32, 0.0)).await, ml_base(Model::of(Int8, 4.0)).await);
    let run = Run::with(&["--reference", &reference, "--candidate", &candidate, "--json"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let json = run.json();
    assert_eq!(
        (&json["candidate"]["precision"], &json["candidate"]["asked"]),
        (&"int8".into(), &candidate.into())
    );
    let widths = json["widths"].as_array().unwrap();
    assert_eq!(widths.iter().map(|row| number(&row["width"])).collect::<Vec<_>>(), [16.0, 8.0]);
    for row in widths {
        let (mean, least) = (number(&row["cosine_mean"]), number(&row["cosine_min"]));
        assert!(0.5 < least && least < mean && mean < 0.9999, "{row}");
        assert!((0.05..0.95).contains(&number(&row["neighbours_kept"])), "{row}");
        let loss = number(&row["reference"]["ndcg"]) - number(&row["candidate"]["ndcg"]);
        assert!((number(&row["ndcg_loss"]) - loss).abs() < 1e-12, "{row}");
    }
    // The reference at full width is the same as itself, the shorter one is not.
    assert_eq!(widths[0]["neighbours_kept"], widths[0]["neighbours_kept_of_full"]);
    assert_ne!(widths[1]["neighbours_kept"], widths[1]["neighbours_kept_of_full"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_finished_by_embedding_single_are_those_finished_here() {
    let reference = ml_base(Model::of(Float32, 0.0)).await;
    let (candidate, asked) = embedding_single(Model::of(Float32, 0.0)).await;
    let sides = ["--reference", &reference, "--candidate", &candidate];
    let rest = ["--model", "fake", "--api-key", "hush", "--widths", "8,5", "--json"];
    let run = Run::with(&[&sides[..], &rest].concat()).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let json = run.json();
    let rows = json["widths"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| number(&row["width"])).collect::<Vec<_>>(), [16.0, 8.0, 5.0]);
    for row in rows {
        assert!(number(&row["cosine_min"]) > 0.999_999, "{row}");
        assert_eq!((number(&row["neighbours_kept"]), number(&row["ndcg_loss"])), (1.0, 0.0), "{row}");
    }
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty());
    for (headers, body) in asked.iter() {
        assert_eq!(headers["cache-control"], "no-cache");
        assert_eq!(headers["authorization"], "Bearer hush");
        assert_eq!(body["model"], "fake");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_stand_in_front_of_what_is_sent() {
    let (url, asked) = embedding_single(Model::of(Float32, 0.0)).await;
    let prompts = ["--query-prompt", "given: "];
    let run = Run::with(&[&["--reference", &url, "--candidate", &url][..], &prompts].concat()).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|(_, body)| body["prompt_name"] == ""), "no prompt is added to ours");
    let texts = asked.iter().flat_map(|(_, body)| body["inputs"].as_array().unwrap());
    let texts: Vec<_> = texts.map(|text| text.as_str().unwrap()).collect();
    let queries = texts.iter().filter(|text| text.starts_with("given: ")).count();
    let documents = texts.iter().filter(|text| text.starts_with("of the model: ")).count();
    assert!(queries > 0 && queries == documents && queries + documents == texts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_threshold_is_exit_code_1_and_named_after_the_table() {
    let (reference, candidate) =
        (ml_base(Model::of(Float32, 0.0)).await, ml_base(Model::of(Int8, 4.0)).await);
    let sides = ["--reference", &reference, "--candidate", &candidate];
    let run = Run::with(&[&sides[..], &["--cosine-min", "0.9999"]].concat()).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stdout.contains("nDCG@10") && run.stdout.contains("missed: cosine at width 16 is 0."),
        "{run:?}"
    );
    let run = Run::with(&[&sides[..], &["--cosine-min", "0.1", "--ndcg-loss-max", "1"]].concat()).await;
    assert_eq!(run.code, Some(0), "{run:?}");
}
