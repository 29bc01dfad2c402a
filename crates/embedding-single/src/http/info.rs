//! `GET /info`: what is served here and what a request may hold.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use service::{
    edition::Edition,
    refusal::{self, Speaks},
};

use crate::{SERVICE, VERSION, http::Front, served::Model};

#[derive(Serialize)]
struct Info<'a> {
    service: &'a str,
    version: &'a str,
    edition: Edition,
    models: Vec<ModelInfo<'a>>,
    limits: Limits,
    cache: Cache,
}

#[derive(Serialize)]
struct ModelInfo<'a> {
    id: &'a str,
    alias: &'a str,
    identity: &'a str,
    width: u32,
    trained_dimensions: &'a [u32],
    tokens_max: u32,
    precision: &'a str,
    pooling: &'a str,
    prompts: &'a BTreeMap<String, String>,
    default_prompt_name: Option<&'a str>,
}

#[derive(Serialize)]
struct Limits {
    texts_max: usize,
    text_bytes_max: usize,
    body_bytes_max: usize,
    requests_max: usize,
}

#[derive(Serialize)]
struct Cache {
    entries_max: usize,
    bytes_max: usize,
    ttl_seconds: f64,
}

/// 503 until ml-base has said what it serves.
pub(crate) async fn info(State(front): State<Arc<Front>>) -> Response {
    let served = match front.models.served() {
        Ok(served) => served,
        Err(error) => return refusal::respond(&error, Speaks::Http),
    };
    let config = &front.config;
    let info = Info {
        service: SERVICE,
        version: VERSION,
        edition: config.edition,
        models: served.models().iter().map(|model| model_info(model)).collect(),
        limits: Limits {
            texts_max: config.requests.texts_max,
            text_bytes_max: config.requests.text_bytes_max,
            body_bytes_max: config.requests.body_bytes_max,
            requests_max: config.requests.requests_max,
        },
        cache: Cache {
            entries_max: config.cache.entries_max,
            bytes_max: config.cache.bytes_max,
            ttl_seconds: config.cache.ttl.as_secs_f64(),
        },
    };
    Json(info).into_response()
}

fn model_info(model: &Model) -> ModelInfo<'_> {
    ModelInfo {
        id: &model.id,
        alias: &model.alias,
        identity: &model.identity,
        width: model.width,
        trained_dimensions: &model.trained_dimensions,
        tokens_max: model.tokens_max,
        precision: model.precision.name(),
        pooling: &model.pooling,
        prompts: model.prompts.by_name(),
        default_prompt_name: model.prompts.default_name(),
    }
}
