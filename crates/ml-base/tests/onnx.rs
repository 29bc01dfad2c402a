//! A directory that ships only ONNX: found, verified, served. The graphs are those that `crates/engine` is tested with.
//!
//! The library of ONNX Runtime is the one that `ORT_DYLIB_PATH` names. Where it is not there, the test that serves says so and
//! ends; with `SUTRA_REQUIRE_ONNXRUNTIME` set it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::Parser;
use ml_base::model::{LogProgress, ModelFiles, ModelName, Sources};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const FLOAT32: &str = "onnx/model.onnx";
const INT8: &str = "onnx/model_quantized.onnx";
const WIDTH: usize = 32;

/// A model of one token a word, with these graphs and of a kind that no encoder of ours computes.
fn model(graphs: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/onnx");
    fs::create_dir(dir.path().join("onnx")).unwrap();
    for graph in graphs {
        fs::copy(from.join(graph.trim_start_matches("onnx/")), dir.path().join(graph)).unwrap();
    }
    let words: serde_json::Map<_, _> = (0..64).map(|number| (format!("w{number}"), number.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    });
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config =
        r#"{"model_type":"deberta-v2","hidden_size":32,"vocab_size":64,"max_position_embeddings":40}"#;
    fs::write(dir.path().join("config.json"), config).unwrap();
    dir
}

fn resolve(dir: &Path) -> Result<ModelFiles, String> {
    let sources = Sources {
        store: dir.to_owned(),
        hub_cache: None,
        hub_endpoint: "http://127.0.0.1:1".parse().unwrap(),
        hub_token: None,
        hub_offline: true,
        package_index: None,
    };
    let name = ModelName::Directory(dir.to_owned());
    ml_base::model::resolve(&name, &sources, &LogProgress).map_err(|error| error.to_string())
}

#[test]
fn every_graph_is_part_of_the_identity() {
    let both = model(&[FLOAT32, INT8]);
    let found = resolve(both.path()).unwrap();
    assert_eq!((found.width as usize, found.tokens_max), (WIDTH, 40));
    let one = resolve(model(&[FLOAT32]).path()).unwrap();
    assert_ne!(found.identity, one.identity);
    let mut graph = fs::OpenOptions::new().append(true).open(both.path().join(INT8)).unwrap();
    graph.write_all(b"x").unwrap();
    assert_ne!(found.identity, resolve(both.path()).unwrap().identity);
}

#[test]
fn a_directory_with_sums_is_held_to_them() {
    let dir = model(&[FLOAT32]);
    let sum = "0".repeat(64);
    fs::write(dir.path().join("SHA256SUMS"), format!("{sum}  {FLOAT32}\n")).unwrap();
    let refused = resolve(dir.path()).unwrap_err();
    assert!(refused.starts_with(&format!("{FLOAT32}: sha256 is ")), "{refused}");
}

/// Serves the model in `dir` and asks for one vector, in the class that its files decide; gives what `/info` says too.
async fn served(dir: &Path) -> (Vec<f64>, String) {
    let model = dir.to_str().unwrap();
    let command = ["ml-base", "--port", "0", "--model-id", model, "--model-store", model];
    let args = ml_base::args::Cli::try_parse_from(command).unwrap().serve;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let running = tokio::spawn(ml_base::run(ml_base::Config::new(args).unwrap(), listener, stop.clone()));
    let asked = tokio::task::spawn_blocking(move || ask(&url)).await.unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
    asked
}

fn ask(url: &str) -> (Vec<f64>, String) {
    let is_ready = || ureq::get(format!("{url}/health")).call().is_ok();
    let start = std::time::Instant::now();
    while !is_ready() {
        assert!(start.elapsed().as_secs() < 60, "not ready");
        std::thread::yield_now();
    }
    let body = r#"{"inputs": ["w1 w2 w3"]}"#;
    let answer = ureq::post(format!("{url}/embed")).header("content-type", "application/json").send(body);
    let answer = answer.unwrap().body_mut().read_to_string().unwrap();
    let vectors: Vec<Vec<f64>> = serde_json::from_str(&answer).unwrap();
    let info = ureq::get(format!("{url}/info")).call().unwrap().body_mut().read_to_string().unwrap();
    (vectors[0].clone(), info)
}

#[tokio::test]
async fn a_model_is_served_in_the_class_that_its_files_decide() {
    if !has_library("a_model_is_served_in_the_class_that_its_files_decide") {
        return;
    }
    for (graphs, class) in [(&[FLOAT32, INT8][..], "float32"), (&[INT8], "int8")] {
        let (vector, info) = served(model(graphs).path()).await;
        let norm: f64 = vector.iter().map(|value| value * value).sum();
        assert!(vector.len() == WIDTH && (norm - 1.0).abs() < 1e-4, "norm {norm}");
        assert!(info.contains("onnxruntime") && info.contains(class), "{info}");
    }
}

/// Whether the library is there; else the test `name` says that it is not.
#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn has_library(name: &str) -> bool {
    let found = std::env::var("ORT_DYLIB_PATH").is_ok_and(|path| Path::new(&path).is_file());
    if !found {
        let reason = format!("ml-base::onnx::{name}: ORT_DYLIB_PATH names no library of ONNX Runtime\n");
        assert!(std::env::var("SUTRA_REQUIRE_ONNXRUNTIME").is_err(), "{reason}");
        if let Ok(log) = std::env::var("SUTRA_SKIP_LOG") {
            let mut log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
            log.write_all(reason.as_bytes()).unwrap();
        }
        std::io::stderr().write_all(reason.as_bytes()).unwrap();
    }
    found
}
