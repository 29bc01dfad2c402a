//! Which models ml-base serves, learned from its `Info` and kept up to date.
//!
//! ```text
//!  Poller (one task) ── Info ─▶ ml-base          every 5 s; at start every 0.1 → 2 s; at once when asked to
//!     │ watch
//!     ▼
//!  Models::served()                              None until the first good answer, then the last good one for ever
//! ```
//!
//! The last good answer stays when ml-base goes away, so that what is cached is served on. The cache shards keep it too:
//! a proxy that is started while every replica is away begins with what was served last.

use std::{sync::Arc, time::Duration};

use protocol::{
    checksum::inference::of_info,
    error::{ApiError, ErrorCode},
    inference::{InfoResponse, ModelInfo, PrecisionClass},
    prompts::Prompts,
};
use service::lifecycle::{Lifecycle, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{lookup::l2::L2, miss::ml_base::MlBase, precision::Classes};

const POLL_INTERVAL: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Requests to poll at once that may wait.
const REFRESHES_MAX: usize = 64;
/// The widest vector that is believed.
const WIDTH_MAX: u32 = 1 << 16;
const IDENTITY_DIGITS: usize = 2 * blake3::OUT_LEN;

/// A model as ml-base describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// Hub id or directory name.
    pub(crate) id: String,
    /// Short name, may be empty.
    pub(crate) alias: String,
    /// Identity of the vector space, 64 hex digits.
    pub(crate) identity: String,
    /// The same in bytes.
    pub(crate) identity_bytes: [u8; blake3::OUT_LEN],
    /// Numbers in a full vector.
    pub(crate) width: u32,
    /// Widths it may be cut to.
    pub(crate) trained_dimensions: Vec<u32>,
    /// Tokens of one text.
    pub(crate) tokens_max: u32,
    /// How its vectors are computed.
    pub(crate) precision: PrecisionClass,
    /// `mean` or `cls`.
    pub(crate) pooling: String,
    /// Whether a layer-norm goes before a cut.
    pub(crate) layer_norm_before_cut: bool,
    /// What belongs in front of texts.
    pub(crate) prompts: Prompts,
    /// Items ml-base takes in one call.
    pub(crate) items_max: usize,
}

/// Why an answer to `Info` is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadInfo {
    #[error("what ml-base says of its models was changed on its way")]
    Garbled,
    #[error("ml-base names no model")]
    NoModel,
    #[error("ml-base says that model `{id}` has {what}")]
    BadModel { id: String, what: String },
    #[error("--dimensions is {asked}, but model `{id}` was trained for {trained}")]
    NotTrained { asked: u32, id: String, trained: String },
}

/// What of an answer to `Info` is accepted.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// Precision classes of vectors.
    pub(crate) classes: Classes,
    /// The width that is served by default, which every model has to have been trained for.
    pub(crate) dimensions: Option<u32>,
}

/// The models of one answer to `Info`, the default one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served(Vec<Arc<Model>>);

impl Served {
    /// Reads and checks an answer.
    ///
    /// # Errors
    /// [`BadInfo`] if it cannot be served from.
    pub(crate) fn read(info: InfoResponse, accepted: &Accepted) -> Result<Self, BadInfo> {
        require_whole(&info)?;
        let items_max = match info.limits.map_or(0, |limits| limits.items_max) {
            0 => usize::MAX,
            items_max => items_max as usize,
        };
        let models: Vec<_> = info
            .models
            .into_iter()
            .map(|info| model(info, &accepted.classes, items_max))
            .collect::<Result<_, _>>()?;
        if models.is_empty() {
            return Err(BadInfo::NoModel);
        }
        models.iter().try_for_each(|model| check_trained(model, accepted.dimensions))?;
        Ok(Self(models.into_iter().map(Arc::new).collect()))
    }

    /// The models, the default one first.
    pub(crate) fn models(&self) -> &[Arc<Model>] {
        &self.0
    }

    /// The model called `name`, by id or alias; the default one for `None`.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] naming those that are served.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Arc<Model>, ApiError> {
        let found = match name {
            None => self.0.first(),
            Some(name) => self.0.iter().find(|model| model.id == name || model.alias == name),
        };
        found.ok_or_else(|| {
            let message = format!(
                "model `{}` is not served here, these are: {}",
                name.unwrap_or_default(),
                self.names()
            );
            ApiError::new(ErrorCode::NotFound, message).at_field("model")
        })
    }

    fn names(&self) -> String {
        let name = |model: &Arc<Model>| match model.alias.as_str() {
            "" => model.id.clone(),
            alias => format!("{} ({alias})", model.id),
        };
        self.0.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

fn require_whole(info: &InfoResponse) -> Result<(), BadInfo> {
    if info.checksum == of_info(info) { Ok(()) } else { Err(BadInfo::Garbled) }
}

fn model(info: ModelInfo, classes: &Classes, items_max: usize) -> Result<Model, BadInfo> {
    let precision = info.precision_class();
    let bad = |what: String| Err(BadInfo::BadModel { id: info.id.clone(), what });
    if info.width == 0 || info.width > WIDTH_MAX {
        return bad(format!("width {}", info.width));
    }
    let Ok(identity) = blake3::Hash::from_hex(&info.identity) else {
        return bad(format!("identity `{}`, which is not {IDENTITY_DIGITS} hex digits", info.identity));
    };
    if !classes.take(precision) {
        return bad(format!(
            "precision {}, which --precision-classes does not name",
            precision.as_str_name()
        ));
    }
    let default_prompt = Some(info.default_prompt_name).filter(|name| !name.is_empty());
    let prompts = match Prompts::new(info.prompts, default_prompt) {
        Ok(prompts) => prompts,
        Err(error) => return Err(BadInfo::BadModel { id: info.id, what: error.to_string() }),
    };
    Ok(Model {
        id: info.id,
        alias: info.alias,
        identity_bytes: identity.into(),
        identity: info.identity,
        width: info.width,
        trained_dimensions: info.trained_dimensions,
        tokens_max: info.tokens_max,
        precision,
        pooling: info.pooling,
        layer_norm_before_cut: info.layer_norm_before_cut,
        prompts,
        items_max,
    })
}

fn check_trained(model: &Model, dimensions: Option<u32>) -> Result<(), BadInfo> {
    match dimensions {
        Some(asked) if asked != model.width && !model.trained_dimensions.contains(&asked) => {
            let trained: Vec<_> = model.trained_dimensions.iter().map(u32::to_string).collect();
            Err(BadInfo::NotTrained { asked, id: model.id.clone(), trained: trained.join(", ") })
        }
        Some(_) | None => Ok(()),
    }
}

/// What is served now; clones watch the same poller.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    served: watch::Receiver<Option<Arc<Served>>>,
    refreshes: mpsc::Sender<oneshot::Sender<()>>,
}

impl Models {
    /// Starts asking `ml_base` until `stop`; the first good answer, or what `l2` remembers of one, makes `lifecycle` ready.
    pub(crate) fn start(
        ml_base: MlBase,
        l2: Option<Arc<L2>>,
        accepted: Accepted,
        lifecycle: Lifecycle,
        stop: CancellationToken,
    ) -> Self {
        let (served_by, served) = watch::channel(None);
        let (refreshes, refreshes_asked) = mpsc::channel(REFRESHES_MAX);
        let poller = Poller { ml_base, l2, accepted, lifecycle, served: served_by, trouble: None };
        tokio::spawn(async move {
            tokio::select! {
                () = poller.run(refreshes_asked) => {}
                () = stop.cancelled() => {}
            }
        });
        Self { served, refreshes }
    }

    /// The last good answer.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] until there is one.
    pub(crate) fn served(&self) -> Result<Arc<Served>, ApiError> {
        self.served.borrow().clone().ok_or_else(|| {
            ApiError::new(ErrorCode::Unavailable, "ml-base has not yet said which models it serves")
        })
    }

    /// Asks again now, and waits for the answer to a question sent after this call.
    pub(crate) async fn refresh(&self) {
        let (done, answered) = oneshot::channel();
        if self.refreshes.send(done).await.is_err() || answered.await.is_err() {
            tracing::debug!("models are not refreshed any more");
        }
    }
}

struct Poller {
    ml_base: MlBase,
    accepted: Accepted,
    lifecycle: Lifecycle,
    served: watch::Sender<Option<Arc<Served>>>,
    l2: Option<Arc<L2>>,
    /// What was wrong at the last poll: said once, not at every poll.
    trouble: Option<String>,
}

impl Poller {
    async fn run(mut self, mut refreshes: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut asked = Vec::new();
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.poll().await {
                Ok((info, served)) => {
                    self.accept(served);
                    self.keep(info).await;
                }
                Err(trouble) => {
                    self.complain(trouble);
                    self.recall().await;
                }
            }
            Self::answer(&mut asked);
            let pause = if self.served.borrow().is_some() { POLL_INTERVAL } else { backoff };
            backoff = (backoff * 2).min(BACKOFF_MAX);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(done) = refreshes.recv() => asked.push(done),
            }
            while let Ok(done) = refreshes.try_recv() {
                asked.push(done);
            }
        }
    }

    async fn poll(&self) -> Result<(InfoResponse, Served), String> {
        let info = self.ml_base.info().await.map_err(|status| {
            format!("ml-base does not say what it serves: {} ({})", status.message(), status.code())
        })?;
        let served = Served::read(info.clone(), &self.accepted).map_err(|error| error.to_string())?;
        Ok((info, served))
    }

    /// Tells the cache shards, where they do not know it yet.
    async fn keep(&self, info: InfoResponse) {
        let Some(l2) = &self.l2 else { return };
        // The rest is about one replica at one moment.
        let InfoResponse { models, limits, checksum, .. } = info;
        let essence = InfoResponse { models, limits, checksum, ..InfoResponse::default() };
        l2.keep_models(&essence).await;
    }

    /// Begins with what was served last, as long as ml-base has said nothing.
    async fn recall(&mut self) {
        let Some(l2) = self.l2.as_ref().filter(|_| self.served.borrow().is_none()) else { return };
        match l2.kept_models().await.map(|info| Served::read(info, &self.accepted)) {
            Some(Ok(served)) => {
                tracing::warn!("ml-base is away: what is cached is served, under the models served last");
                self.publish(served);
            }
            Some(Err(error)) => tracing::warn!(%error, "the models served last cannot be served"),
            None => {}
        }
    }

    fn answer(asked: &mut Vec<oneshot::Sender<()>>) {
        for done in asked.drain(..) {
            if done.send(()).is_err() {
                tracing::debug!("whoever wanted the models refreshed is gone");
            }
        }
    }

    fn accept(&mut self, served: Served) {
        if self.trouble.take().is_some() {
            tracing::info!("ml-base answers again");
        }
        self.publish(served);
    }

    fn publish(&self, served: Served) {
        let changed = self.served.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&served);
            if changed {
                *known = Some(Arc::new(served));
            }
            changed
        });
        if changed {
            for model in self.served.borrow().iter().flat_map(|served| served.models()) {
                tracing::info!(id = model.id, identity = model.identity, width = model.width, "model served");
            }
        }
        self.lifecycle.set(State::Ready);
    }

    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}");
            self.trouble = Some(trouble);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A model of two numbers.
    pub(crate) fn model() -> Model {
        Model {
            id: "model".to_owned(),
            alias: String::new(),
            identity: "ab".repeat(32),
            identity_bytes: [0xab; 32],
            width: 2,
            trained_dimensions: vec![2],
            tokens_max: 8,
            precision: PrecisionClass::Float32,
            pooling: "mean".to_owned(),
            layer_norm_before_cut: false,
            prompts: Prompts::default(),
            items_max: 8,
        }
    }

    fn info(models: Vec<ModelInfo>) -> InfoResponse {
        let info = InfoResponse { models, ..InfoResponse::default() };
        InfoResponse { checksum: of_info(&info), ..info }
    }

    fn read(models: Vec<ModelInfo>, dimensions: Option<u32>) -> Result<Served, BadInfo> {
        Served::read(info(models), &accepted(dimensions))
    }

    fn accepted(dimensions: Option<u32>) -> Accepted {
        let classes = Classes::new([PrecisionClass::Float32, PrecisionClass::Bfloat16]);
        Accepted { classes, dimensions }
    }

    fn nomic() -> ModelInfo {
        ModelInfo {
            id: "nomic-ai/nomic-embed-text-v1.5".into(),
            alias: "large".into(),
            identity: "ab".repeat(32),
            width: 768,
            trained_dimensions: vec![768, 512, 256],
            tokens_max: 8192,
            precision_class: PrecisionClass::Float32.into(),
            pooling: "mean".into(),
            layer_norm_before_cut: true,
            ..ModelInfo::default()
        }
    }

    #[test]
    fn a_model_is_found_by_id_by_alias_and_by_default() {
        let served = read(vec![nomic()], None).unwrap();
        for name in [None, Some("large"), Some("nomic-ai/nomic-embed-text-v1.5")] {
            assert_eq!(served.find(name).unwrap().alias, "large");
        }
    }

    #[test]
    fn an_unknown_model_is_refused_with_those_served() {
        let error = read(vec![nomic()], None).unwrap().find(Some("tiny")).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("model")));
        assert!(error.message.contains("nomic-ai/nomic-embed-text-v1.5 (large)"), "{error}");
    }

    #[test]
    fn default_width_must_be_trained() {
        assert!(read(vec![nomic()], Some(256)).is_ok());
        let error = read(vec![nomic()], Some(100)).unwrap_err().to_string();
        assert!(error.contains("--dimensions is 100") && error.contains("768, 512, 256"), "{error}");
    }

    #[test]
    fn a_description_that_changed_on_its_way_is_not_believed() {
        let mut changed = info(vec![nomic()]);
        changed.models[0].layer_norm_before_cut = false;
        let without = InfoResponse { checksum: 0, ..info(vec![nomic()]) };
        for info in [changed, without] {
            assert_eq!(Served::read(info, &accepted(None)), Err(BadInfo::Garbled));
        }
    }

    #[test]
    fn descriptions_that_cannot_be_served_from_are_refused() {
        assert_eq!(read(Vec::new(), None), Err(BadInfo::NoModel));
        let broken = [
            ModelInfo { width: 0, ..nomic() },
            ModelInfo { identity: "ab".into(), ..nomic() },
            ModelInfo { precision_class: PrecisionClass::Int8.into(), ..nomic() },
        ];
        for model in broken {
            assert!(read(vec![model.clone()], None).is_err(), "{model:?}");
        }
    }
}
