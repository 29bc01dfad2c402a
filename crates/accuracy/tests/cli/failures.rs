//! Nothing to compare: exit code 2 and a sentence that says why.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use protocol::inference::PrecisionClass::{Bfloat16, Float32};

use crate::{
    run::Run,
    server::{Model, ml_base},
};

async fn assert_refused(arguments: &[&str], expected: &[&str]) {
    let run = Run::with(arguments).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:?}");
    for expected in expected {
        assert!(run.stderr.contains(expected), "`{expected}` is missing in {run:?}");
    }
}

fn script(folder: &Path, lines: &str) -> String {
    let path = folder.join("ml-base");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn class_that_ml_base_does_not_know_is_told_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "echo \"error: $* is refused here\" >&2; exit 2");
    let expected =
        ["int8: ml-base ended before it was ready", "--dtype int8", "--model-id medium", "is refused here"];
    assert_refused(&["--candidate", "int8", "--ml-base", &program], &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ml_base_that_does_not_get_ready_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "echo still loading >&2; exec sleep 600");
    let arguments = ["--candidate", "int8", "--ml-base", &program, "--start-timeout-seconds", "1"];
    assert_refused(&arguments, &["ml-base is not ready after 1s", "still loading"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_cannot_be_started_is_named() {
    assert_refused(&["--candidate", "int8", "--ml-base", "/nowhere/ml-base"], &["start /nowhere/ml-base"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_another_class_than_announced_are_not_compared() {
    let liar = ml_base(Model { answered: Float32, ..Model::of(Bfloat16, 0.0) }).await;
    let expected = ["vectors of class float32 came, bfloat16 was announced"];
    assert_refused(&["--candidate", &liar, "--reference", &liar], &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_text_model_and_server_are_named() {
    let url = ml_base(Model::of(Float32, 0.0)).await;
    let sides = ["--candidate", &url, "--reference", &url];
    assert_refused(&[&sides[..], &["--model", "large"]].concat(), &["it serves org/fake, not `large`"]).await;
    let prompt = ["--query-prompt", "refuse me: "];
    assert_refused(&[&sides[..], &prompt].concat(), &["as it wished", "refuse me: "]).await;
    let closed = "http://127.0.0.1:1";
    assert_refused(&["--candidate", closed, "--reference", closed], &[closed, "GET /info"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_line_of_a_file_is_named_by_file_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.jsonl");
    fs::write(&file, "{\"query\": \"q\", \"text\": \"t\"}\n{\"query\": \"q\"}\n").unwrap();
    let file = file.to_str().unwrap();
    let expected = [file, "line 2: missing field `text`"];
    assert_refused(&["--candidate", "http://127.0.0.1:1", "--pairs", file], &expected).await;
}
