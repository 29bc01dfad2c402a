//! `POST /embed`, in both shapes: read, check against the model, look up, answer.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Request, Response, header},
};
use protocol::{
    embed_json::{self, EmbedCall, TextLimits, UntrainedDimensions},
    error::{ApiError, ErrorCode},
};
use service::refusal::{self, Speaks};
use tokio::time::Instant;
use vector::{Finish, ModelWidths, Normalization, Widths};

use crate::{
    answer::{self, Rendering},
    http::Front,
    key::CacheKey,
    lookup::{Asked, CacheUse, Embedded, Gathered, l1::CachedVector},
    miss::MissError,
    served::Model,
};

/// A body longer than this is parsed where it holds nobody up.
const BODY_BYTES_INLINE_MAX: usize = 64 * 1024;
/// Likewise an answer of more texts than this.
const ANSWER_TEXTS_INLINE_MAX: usize = 32;

/// The handler.
pub(crate) async fn embed(State(front): State<Arc<Front>>, request: Request<Body>) -> Response<Body> {
    let start = Instant::now();
    front.embed(request, start).await.unwrap_or_else(|error| refusal::respond(&error, Speaks::Http))
}

impl Front {
    async fn embed(&self, request: Request<Body>, start: Instant) -> Result<Response<Body>, ApiError> {
        let cache = cache_use(request.headers());
        let body = self.bodies.read_json(request).await?;
        let limits = self.text_limits(self.config.requests.texts_max);
        let parse_apart = body.as_ref().len() > BODY_BYTES_INLINE_MAX;
        // The body is kept to the end: its share of the budget stands for the texts made from it.
        let (body, call) = apart(parse_apart, move || {
            let call = embed_json::parse(body.as_ref(), &limits);
            (body, call)
        })
        .await?;
        let call = call?;
        let (model, finish, gathered) = self.gather(&call, cache).await?;
        let rendering = Rendering {
            shape: call.shape,
            model,
            edition: self.config.edition,
            cache,
            finish,
            gathered,
            start,
        };
        let texts = call.texts.len();
        drop((body, call));
        let rows = self.rows.clone();
        apart(texts > ANSWER_TEXTS_INLINE_MAX, move || answer::render(&rendering, &rows)).await?
    }

    fn text_limits(&self, texts_max: usize) -> TextLimits {
        TextLimits {
            texts_max,
            text_bytes_max: self.config.requests.text_bytes_max,
            edition: self.config.edition.name(),
            untrained_dimensions: match self.config.forbid_untrained_dimensions {
                true => UntrainedDimensions::Forbidden,
                false => UntrainedDimensions::OnRequest,
            },
        }
    }

    /// The vector of the one text of a request, from the cache or computed.
    ///
    /// # Errors
    /// Those of `POST /embed`.
    pub(crate) async fn one_vector(&self, request: Request<Body>) -> Result<OneVector, ApiError> {
        let cache = cache_use(request.headers());
        let body = self.bodies.read_json(request).await?;
        let call = embed_json::parse(body.as_ref(), &self.text_limits(1))?;
        let (model, _, gathered) = self.gather(&call, cache).await?;
        let resolved = self.resolve(&call)?;
        let key = self.lookup.keys(&resolved.asked(&call, cache)).of(&call.texts[0]);
        let text = gathered.texts.into_iter().next();
        let Embedded { vector, .. } =
            text.ok_or_else(|| ApiError::new(ErrorCode::Internal, "no vector for a text"))?;
        Ok(OneVector { model, key, vector })
    }

    /// Looks the texts up, and once more where ml-base turned out to serve another identity by now.
    async fn gather(
        &self,
        call: &EmbedCall,
        cache: CacheUse,
    ) -> Result<(Arc<Model>, Finish, Gathered), ApiError> {
        let resolved = self.resolve(call)?;
        match self.lookup.vectors(&resolved.asked(call, cache)).await {
            Ok(gathered) => return Ok((resolved.model, resolved.finish, gathered)),
            Err(failed) if failed.error != MissError::IdentityMismatch => {
                return Err(failed.error.to_api(call.shape.list(), failed.index));
            }
            Err(_) => self.models.refresh().await,
        }
        let resolved = self.resolve(call)?;
        match self.lookup.vectors(&resolved.asked(call, cache)).await {
            Ok(gathered) => Ok((resolved.model, resolved.finish, gathered)),
            Err(failed) => Err(failed.error.to_api(call.shape.list(), failed.index)),
        }
    }

    fn resolve(&self, call: &EmbedCall) -> Result<Resolved, ApiError> {
        let model = self.models.served()?.find(call.model.as_deref())?.clone();
        let prompt = model.prompts.find(call.prompt_name.as_deref())?.into();
        let finish = finish(&model, call, self.config.dimensions)?;
        Ok(Resolved { model, prompt, finish })
    }
}

/// `default` is the width of a call that asks for none; every model that is served was trained for it.
fn finish(model: &Model, call: &EmbedCall, default: Option<u32>) -> Result<Finish, ApiError> {
    let of_model = ModelWidths {
        full: model.width,
        trained: &model.trained_dimensions,
        layer_norm_before_cut: model.layer_norm_before_cut,
    };
    let widths = if call.allow_untrained_dimensions { Widths::Any } else { Widths::Trained };
    let normalization = if call.normalize { Normalization::Unit } else { Normalization::Raw };
    Finish::new(call.dimensions.or(default), of_model, widths, normalization)
        .map_err(|error| ApiError::new(ErrorCode::Invalid, error.to_string()).at_field("dimensions"))
}

/// A text's vector, and what it is found by.
#[derive(Debug)]
pub(crate) struct OneVector {
    /// The model that computed it.
    pub(crate) model: Arc<Model>,
    /// Its key.
    pub(crate) key: CacheKey,
    /// The vector, as it is kept.
    pub(crate) vector: Arc<CachedVector>,
}

/// What a call means under the model that is served now.
struct Resolved {
    model: Arc<Model>,
    prompt: Arc<str>,
    finish: Finish,
}

impl Resolved {
    fn asked<'a>(&'a self, call: &'a EmbedCall, cache: CacheUse) -> Asked<'a> {
        Asked {
            model: &self.model,
            texts: &call.texts,
            prompt: &self.prompt,
            truncation: call.truncation,
            ttl: call.cache_ttl,
            cache,
        }
    }
}

fn cache_use(headers: &HeaderMap) -> CacheUse {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let no_cache = directives
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"));
    if no_cache { CacheUse::Bypass } else { CacheUse::Full }
}

/// Runs `work`, on a thread of its own where it is `long`: the threads of the runtime serve all requests.
async fn apart<T: Send + 'static>(
    long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !long {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request's work ended without an outcome");
        ApiError::new(ErrorCode::Internal, "the request's work ended without an outcome")
    })
}
