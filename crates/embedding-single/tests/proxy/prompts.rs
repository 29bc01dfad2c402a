//! What goes in front of a text, and that it is part of what a vector is found by.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{client::Connection, fake::Fake, grid::Grid};

/// In front of a model whose default prompt is `query`.
async fn grid() -> (Grid, Connection) {
    let fake = Fake::start().await;
    fake.set_prompts(&[("query", "query: "), ("passage", "passage: "), ("plain", "")]);
    let grid = Grid::start_before(fake, &[]).await;
    let connection = grid.connect().await;
    (grid, connection)
}

/// Asks with this `prompt_name` and gives `x-cache`.
async fn ask(connection: &mut Connection, prompt_name: &Value) -> String {
    let answer = connection.embed(&json!({"inputs": "text", "prompt_name": prompt_name})).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.header("x-cache").to_owned()
}

#[tokio::test]
async fn default_prompt_is_applied_where_a_request_names_none() {
    let (grid, mut connection) = grid().await;
    assert_eq!(connection.embed(&json!({"inputs": "text"})).await.status, StatusCode::OK);
    assert_eq!(grid.fake.texts(), ["query: text"]);
    assert_eq!(ask(&mut connection, &json!(null)).await, "hit");
    assert_eq!(ask(&mut connection, &json!("query")).await, "hit", "the same text is in front");
}

#[tokio::test]
async fn vector_of_another_prompt_is_another_vector() {
    let (grid, mut connection) = grid().await;
    for name in ["query", "passage", ""] {
        assert_eq!(ask(&mut connection, &json!(name)).await, "miss", "{name}");
        assert_eq!(ask(&mut connection, &json!(name)).await, "hit", "{name}");
    }
    assert_eq!(grid.fake.texts(), ["query: text", "passage: text", "text"]);
    assert_eq!(ask(&mut connection, &json!("plain")).await, "hit", "an empty prompt is no prompt");
}

#[tokio::test]
async fn unknown_prompt_is_refused_with_those_known() {
    let (_grid, mut connection) = grid().await;
    let answer = connection.embed(&json!({"inputs": "text", "prompt_name": "title"})).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["error"], "`prompt_name` is `title`, the model has: passage, plain, query");
}

#[tokio::test]
async fn prompts_are_in_info() {
    let (_grid, mut connection) = grid().await;
    let model = &connection.get("/info").await.json()["models"][0];
    assert_eq!(model["default_prompt_name"], "query");
    assert_eq!(model["prompts"]["passage"], "passage: ");
}
