//! What ml-base says that it serves: read, checked, and found again by name.
//!
//! Invariant: a description that cannot be true, or changed on its way, is refused as a whole; the last good one stays.

use std::sync::Arc;

use protocol::{
    checksum::inference::of_info,
    error::{ApiError, ErrorCode},
    inference::{InfoResponse, ModelInfo, PrecisionClass},
    prompts::Prompts,
};

use crate::precision::Classes;

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
