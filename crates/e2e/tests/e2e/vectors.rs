//! The vectors are those of sentence-transformers, however they are asked for and whatever else is computed meanwhile.

use e2e::{Answer, Client, Door, Golden, Grid, goldens, largest_delta};
use serde_json::json;
use tokio::task::JoinSet;

use crate::texts::text;

/// Within this a vector does not depend on what else is in its batch: only the order of additions in a matrix product
/// may differ.
const BATCH_TOLERANCE: f32 = 1e-6;

const NO_CACHE: [(&str, &str); 1] = [("cache-control", "no-cache")];

fn assert_goldens(answer: &Answer, asked: &[&Golden], how: &str) {
    let rows = answer.rows();
    assert_eq!(rows.len(), asked.len(), "{how}");
    asked.iter().zip(&rows).for_each(|(golden, row)| golden.assert_is(row, how));
}

fn texts_of<'a>(goldens: &[&'a Golden]) -> Vec<&'a str> {
    goldens.iter().map(|golden| golden.text.as_str()).collect()
}

async fn goldens_match_at(door: Door, who: &str) {
    let goldens = goldens();
    let all: Vec<_> = goldens.iter().collect();
    let mut client = door.connect().await;
    for golden in &all {
        let answer = client.ask_with(&NO_CACHE, &json!({"inputs": golden.text})).await;
        assert_goldens(&answer, &[golden], &format!("alone, from {who}"));
    }
    for list in ["texts", "inputs"] {
        let answer = client.ask_with(&NO_CACHE, &json!({list: texts_of(&all)})).await;
        assert_goldens(&answer, &all, &format!("in one list of `{list}`, from {who}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goldens_match_alone_and_in_a_list_in_both_shapes_at_both_doors() {
    let test = "vectors::goldens_match_alone_and_in_a_list_in_both_shapes_at_both_doors";
    let Some(grid) = Grid::start(test).await else { return };
    goldens_match_at(grid.proxy(), "embedding-single").await;
    goldens_match_at(grid.ml_base(), "ml-base").await;
}

/// A walk through all of them that comes back to where it was: each client has its own order, and duplicates.
fn walk(goldens: &[Golden], client: usize) -> Vec<&Golden> {
    let step = client % 5 + 1;
    (0..24).map(|place| &goldens[(client * 11 + place / 2 * step) % goldens.len()]).collect()
}

async fn walk_through(mut client: Client, number: usize) {
    let goldens = goldens();
    for (round, asked) in walk(&goldens, number).chunks(8).enumerate() {
        let list = if (number + round).is_multiple_of(2) { "texts" } else { "inputs" };
        let answer = client.ask(&json!({list: texts_of(asked)})).await;
        assert_goldens(&answer, asked, &format!("for client {number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goldens_match_for_64_clients_at_once_with_duplicates() {
    let Some(grid) = Grid::start("vectors::goldens_match_for_64_clients_at_once_with_duplicates").await
    else {
        return;
    };
    let mut clients = JoinSet::new();
    for number in 0..64 {
        clients.spawn(walk_through(grid.connect().await, number));
    }
    clients.join_all().await;
    let distinct = goldens().len() as u64;
    assert!(grid.computed().await <= distinct, "a text was computed twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_does_not_depend_on_what_is_computed_with_it() {
    let Some(grid) = Grid::start("vectors::a_vector_does_not_depend_on_what_is_computed_with_it").await
    else {
        return;
    };
    // Of many lengths, so that batches are ragged.
    let texts: Vec<String> = (0..64).map(|number| text(number, 1 + number * 3)).collect();
    let mut alone = Vec::new();
    let mut client = grid.connect().await;
    for text in &texts {
        alone.extend(client.ask_with(&NO_CACHE, &json!({"inputs": text})).await.rows());
    }
    let mut clients = JoinSet::new();
    for (number, text) in texts.into_iter().enumerate() {
        let mut client = grid.connect().await;
        clients.spawn(async move {
            let answer = client.ask_with(&NO_CACHE, &json!({"inputs": text})).await;
            (number, answer.rows().remove(0))
        });
    }
    for (number, together) in clients.join_all().await {
        let delta = largest_delta(&together, &alone[number]);
        assert!(delta <= BATCH_TOLERANCE, "text {number} is {delta:e} off");
    }
    assert_eq!(grid.computed().await, 2 * 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_larger_than_a_batch_is_computed_too() {
    let builder = Grid::builder("vectors::a_text_larger_than_a_batch_is_computed_too");
    let Some(grid) = builder.ml_base(&["--batch-tokens-max", "8"]).start().await else { return };
    let goldens = goldens();
    let all: Vec<_> = goldens.iter().collect();
    let answer = grid.embed(&texts_of(&all)).await;
    assert_goldens(&answer, &all, "in batches of 8 tokens");
}
