//! Fake servers: vectors are arithmetic on the text, the class and what goes wrong are the test's.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt,
};
use protocol::inference::{
    ElementType, EmbedRequest, EmbedResponse, InfoRequest, InfoResponse, ItemResult, ItemStatus, Limits,
    ModelInfo, PrecisionClass, embed_item::Input, inference_server::Inference,
    inference_server::InferenceServer,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{Request, Status};
use vector::{Finish, ModelWidths, Normalization, Widths, codec};

/// Numbers of a full vector.
const WIDTH: u32 = 16;
/// What the fake model was trained for.
const TRAINED: [u32; 2] = [WIDTH, 8];
/// Texts of one call, few enough that there are several calls.
const TEXTS_MAX: u32 = 7;

/// How a fake computes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    /// What it announces.
    pub(crate) class: PrecisionClass,
    /// What its answers say.
    pub(crate) answered: PrecisionClass,
    /// Numbers are rounded to multiples of this; 0 for none.
    pub(crate) step: f32,
}

impl Model {
    /// One that tells the truth.
    pub(crate) fn of(class: PrecisionClass, step: f32) -> Self {
        Self { class, answered: class, step }
    }

    /// Every letter moves the vector, so that a query is nearest to the text it shares most with.
    fn pooled(self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.1; WIDTH as usize];
        for byte in text.bytes() {
            vector[usize::from(byte) % WIDTH as usize] += 1.0 + f32::from(byte % 13) / 13.0;
        }
        if self.step > 0.0 {
            vector.iter_mut().for_each(|number| *number = (*number / self.step).round() * self.step);
        }
        vector
    }
}

#[tonic::async_trait]
impl Inference for Model {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<tonic::Response<EmbedResponse>, Status> {
        let items = request.into_inner().items;
        assert!(items.len() <= TEXTS_MAX as usize, "{} items", items.len());
        let mut answer = EmbedResponse {
            width: WIDTH,
            element_type: ElementType::Float32.into(),
            precision_class: self.answered.into(),
            ..EmbedResponse::default()
        };
        let mut bytes = Vec::new();
        for item in items {
            let Some(Input::Text(text)) = item.input else { return Err(Status::invalid_argument("no text")) };
            let is_refused = text.contains("refuse me");
            let status = if is_refused { ItemStatus::Invalid } else { ItemStatus::Ok };
            if !is_refused {
                codec::extend_float32(&mut bytes, &self.pooled(&text));
            }
            let message = if is_refused { "as it wished" } else { "" };
            answer.results.push(ItemResult {
                status: status.into(),
                message: message.to_owned(),
                ..ItemResult::default()
            });
        }
        answer.vectors = bytes.into();
        Ok(tonic::Response::new(answer))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<tonic::Response<InfoResponse>, Status> {
        let model = ModelInfo {
            id: "org/fake".to_owned(),
            alias: "fake".to_owned(),
            identity: "f0".to_owned(),
            width: WIDTH,
            trained_dimensions: TRAINED.to_vec(),
            precision_class: self.class.into(),
            layer_norm_before_cut: true,
            prompts: [("search_document".to_owned(), "of the model: ".to_owned())].into(),
            ..ModelInfo::default()
        };
        let limits = Limits { items_max: TEXTS_MAX, ..Limits::default() };
        let info = InfoResponse { models: vec![model], limits: Some(limits), ..InfoResponse::default() };
        Ok(tonic::Response::new(info))
    }
}

/// A running ml-base; its address.
pub(crate) async fn ml_base(model: Model) -> String {
    let info = get(async || Json(json!({"service": "ml-base"})));
    let inference = InferenceServer::new(model);
    let router = Router::new().route("/info", info);
    serve(router.route_service("/sutra.inference.v1.Inference/{*method}", inference)).await
}

/// A running embedding-single; its address, and the headers and body of each `POST /embed`.
pub(crate) async fn embedding_single(model: Model) -> (String, Asked) {
    let asked = Asked::default();
    let state = (model, Arc::clone(&asked));
    let router = Router::new().route("/info", get(info)).route("/embed", post(embed)).with_state(state);
    (serve(router).await, asked)
}

/// What was asked so far.
pub(crate) type Asked = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Else each small answer waits 40 ms for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn info(State((model, _)): State<(Model, Asked)>) -> Json<Value> {
    Json(json!({
        "service": "embedding-single",
        "models": [{"id": "org/fake", "alias": "fake", "identity": "f0", "width": WIDTH,
                    "trained_dimensions": TRAINED, "precision": model.class.name(), "prompts": {"search_document": "of the model: "}}],
        "limits": {"texts_max": TEXTS_MAX},
    }))
}

async fn embed(
    State((model, asked)): State<(Model, Asked)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let texts: Vec<String> = serde_json::from_value(body["inputs"].clone()).unwrap();
    let dimensions = body["dimensions"].as_u64().map(|width| width.try_into().unwrap());
    let of_model = ModelWidths { full: WIDTH, trained: &TRAINED, layer_norm_before_cut: true };
    let widths = if body["allow_untrained_dimensions"] == true { Widths::Any } else { Widths::Trained };
    let finish = Finish::new(dimensions, of_model, widths, Normalization::Unit).unwrap();
    let rows: Vec<_> = texts.iter().map(|text| finish.apply(&model.pooled(text))).collect();
    asked.lock().unwrap().push((headers, body));
    ([("x-precision", model.answered.name())], Json(rows)).into_response()
}
