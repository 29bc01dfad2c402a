//! A false ml-base: vectors from a hash of the text, and every way to misbehave.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::Router;
use protocol::{
    checksum::inference::{Asked, of_info},
    inference::{
        ElementType, EmbedItem, EmbedRequest, EmbedResponse, InfoRequest, InfoResponse, ItemResult,
        ItemStatus, ModelInfo, PrecisionClass, StageTimes, Truncation,
        embed_item::Input,
        inference_server::{Inference, InferenceServer},
    },
};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use crate::served::Served;

pub(crate) const WIDTH: u32 = 4;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Honest,
    /// Refuses every call.
    Refuse(Code),
    /// Refuses one call, then is honest.
    RefuseOnce(Code),
    /// Says a width that is not its model's, with as many bytes.
    LieWidth,
    /// Answers for another identity.
    LieIdentity,
    /// Leaves the last vector out.
    LieBytes,
    /// Hears the last text wrong, as over a bad line.
    Mishear,
    /// The same in one call, then is honest.
    MishearOnce,
}

/// Its inner life, shared with the test.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mode: Mutex<Mode>,
    models: Mutex<Vec<FakeModel>>,
    prompts: Mutex<(BTreeMap<String, String>, String)>,
    calls: watch::Sender<Vec<Vec<String>>>,
    open: watch::Sender<bool>,
    /// Calls that hold one of these wait.
    held: watch::Sender<Vec<String>>,
    cancelled: watch::Sender<usize>,
    flaked: Mutex<HashSet<String>>,
}

/// A model it serves.
#[derive(Debug, Clone)]
struct FakeModel {
    id: String,
    alias: String,
    identity: String,
}

impl FakeModel {
    fn new(id: &str, alias: &str, digits: &str) -> Self {
        Self { id: id.to_owned(), alias: alias.to_owned(), identity: digits.repeat(32) }
    }
}

#[derive(Debug, Clone)]
struct Service(Arc<State>);

pub(crate) struct Fake {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    served: Served,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Honest),
            models: Mutex::new(vec![FakeModel::new("fake/model", "fake", "aa")]),
            prompts: Mutex::default(),
            calls: watch::Sender::default(),
            open: watch::Sender::new(true),
            held: watch::Sender::default(),
            cancelled: watch::Sender::default(),
            flaked: Mutex::default(),
        });
        let service = InferenceServer::new(Service(state.clone()));
        let app = Router::new().route_service("/sutra.inference.v1.Inference/{*rest}", service);
        let served = Served::start(app, "127.0.0.1:0".parse().unwrap()).await;
        Self { state, address: served.address, served }
    }

    /// Goes away.
    pub(crate) async fn stop(self) {
        self.served.stop().await;
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    pub(crate) fn set_identity(&self, digits: &str) {
        self.state.models.lock().unwrap()[0].identity = digits.repeat(32);
    }

    /// Serves these from now on, each by id, alias and the digits of its identity; the first is the default.
    pub(crate) fn set_models(&self, models: &[(&str, &str, &str)]) {
        let models = models.iter().map(|(id, alias, digits)| FakeModel::new(id, alias, digits)).collect();
        *self.state.models.lock().unwrap() = models;
    }

    /// Its model has these prompts, the first of them as the default.
    pub(crate) fn set_prompts(&self, prompts: &[(&str, &str)]) {
        let by_name = prompts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        *self.state.prompts.lock().unwrap() = (by_name, prompts[0].0.to_owned());
    }

    /// Calls wait until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.state.open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.state.open.send_replace(true);
    }

    /// Only calls with one of these texts wait from now on.
    pub(crate) fn hold_texts(&self, texts: &[&str]) {
        self.state.held.send_replace(texts.iter().map(ToString::to_string).collect());
    }

    /// The texts of each call so far, with what went in front of them.
    pub(crate) fn calls(&self) -> Vec<Vec<String>> {
        self.state.calls.borrow().clone()
    }

    /// All texts it was ever asked to compute.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.calls().concat()
    }

    /// Waits until this many calls have come.
    pub(crate) async fn called(&self, count: usize) {
        self.state.calls.subscribe().wait_for(|calls| calls.len() >= count).await.unwrap();
    }

    /// Waits until this many calls were cancelled while they were held.
    pub(crate) async fn cancelled(&self, count: usize) {
        self.state.cancelled.subscribe().wait_for(|cancelled| *cancelled >= count).await.unwrap();
    }
}

/// Tells when a held call is dropped.
struct Held<'a>(&'a State, bool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.send_modify(|cancelled| *cancelled += 1);
        }
    }
}

#[tonic::async_trait]
impl Inference for Service {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let EmbedRequest { model, expected_identity, items } = request.into_inner();
        let state = &*self.0;
        state.calls.send_modify(|calls| calls.push(items.iter().map(text_of).collect()));
        let mut held = Held(state, false);
        state.open.subscribe().wait_for(|open| *open).await.unwrap();
        let is_free = |texts: &Vec<String>| items.iter().all(|item| !texts.contains(&text_of(item)));
        state.held.subscribe().wait_for(is_free).await.unwrap();
        held.1 = true;
        let served = state.models.lock().unwrap().iter().find(|served| served.id == model).cloned();
        let Some(FakeModel { identity, .. }) = served else { return Err(Status::not_found("no such model")) };
        if expected_identity != identity {
            return Err(Status::failed_precondition("another identity"));
        }
        let mode = *state.mode.lock().unwrap();
        match mode {
            Mode::Refuse(code) => return Err(Status::new(code, "refused")),
            Mode::RefuseOnce(code) => {
                *state.mode.lock().unwrap() = Mode::Honest;
                return Err(Status::new(code, "refused once"));
            }
            Mode::MishearOnce => *state.mode.lock().unwrap() = Mode::Honest,
            Mode::Honest | Mode::LieWidth | Mode::LieIdentity | Mode::LieBytes | Mode::Mishear => {}
        }
        let items = if matches!(mode, Mode::Mishear | Mode::MishearOnce) { misheard(items) } else { items };
        Ok(Response::new(state.answer(&items, identity, mode)))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let (prompts, default_prompt_name) = self.0.prompts.lock().unwrap().clone();
        let model = |served: &FakeModel| ModelInfo {
            id: served.id.clone(),
            alias: served.alias.clone(),
            identity: served.identity.clone(),
            width: WIDTH,
            trained_dimensions: vec![4, 2],
            tokens_max: 8,
            precision_class: PrecisionClass::Float32.into(),
            pooling: "mean".into(),
            layer_norm_before_cut: true,
            prompts: prompts.clone(),
            default_prompt_name: default_prompt_name.clone(),
        };
        let models = self.0.models.lock().unwrap().iter().map(model).collect();
        let info = InfoResponse { models, ..InfoResponse::default() };
        Ok(Response::new(InfoResponse { checksum: of_info(&info), ..info }))
    }
}

impl State {
    fn answer(&self, items: &[EmbedItem], identity: String, mode: Mode) -> EmbedResponse {
        let width = if mode == Mode::LieWidth { WIDTH - 1 } else { WIDTH };
        let mut answer = EmbedResponse {
            width,
            element_type: ElementType::Float32.into(),
            identity: if mode == Mode::LieIdentity { "ee".repeat(32) } else { identity.clone() },
            precision_class: PrecisionClass::Float32.into(),
            times: Some(StageTimes { tokenization_us: 11, queue_us: 22, inference_us: 3_300 }),
            ..EmbedResponse::default()
        };
        let mut vectors = Vec::new();
        for item in items {
            let start = vectors.len();
            let mut result = self.result(item, &identity, width, &mut vectors);
            // What it lies about it sums up as well: the checksum is not what finds it out.
            result.checksum = Asked::of(item).answered(&answer, &result, &vectors[start..]);
            answer.results.push(result);
        }
        if mode == Mode::LieBytes {
            vectors.truncate(vectors.len() - 4 * WIDTH as usize);
        }
        EmbedResponse { vectors: vectors.into(), ..answer }
    }

    fn result(&self, item: &EmbedItem, identity: &str, width: u32, vectors: &mut Vec<u8>) -> ItemResult {
        let text = text_of(item);
        let status = if text.starts_with("long") && item.truncation() == Truncation::None {
            ItemStatus::TooLong
        } else if text.starts_with("flaky") && self.flaked.lock().unwrap().insert(text.clone()) {
            ItemStatus::Internal
        } else {
            ItemStatus::Ok
        };
        if status == ItemStatus::Ok {
            let row = vector_of(&identity[..2], &text, width);
            row.iter().for_each(|number| vectors.extend_from_slice(&number.to_le_bytes()));
        }
        let message = if status == ItemStatus::Ok { "" } else { "it has 9 tokens, the limit is 8" };
        ItemResult { status: status.into(), message: message.into(), tokens: 3, ..ItemResult::default() }
    }
}

fn misheard(mut items: Vec<EmbedItem>) -> Vec<EmbedItem> {
    let last = items.last_mut().unwrap();
    last.input = Some(Input::Text(format!("{} or so", text_of(last))));
    items
}

fn text_of(item: &EmbedItem) -> String {
    match item.input.as_ref().unwrap() {
        Input::Text(text) => format!("{}{text}", item.prompt),
        Input::TokenIds(_) => panic!("the proxy never sends tokens"),
    }
}

/// The vector of a text under the identity of these digits.
pub(crate) fn vector_of(digits: &str, text: &str, width: u32) -> Vec<f32> {
    if digits == "aa" { vector(text, width) } else { vector(&format!("{text} by {digits}"), width) }
}

/// The vector of a text under the first identity; NaN for one that begins so.
pub(crate) fn vector(text: &str, width: u32) -> Vec<f32> {
    let hash = blake3::hash(text.as_bytes());
    let numbers = hash.as_bytes()[..width as usize].iter().map(|byte| (f32::from(*byte) + 1.0).ln());
    let mut row: Vec<f32> = numbers.collect();
    if text.starts_with("nan") {
        row[1] = f32::NAN;
    }
    row
}
