//! config.json: which kind of encoder it describes, and what of it changes a forward pass.
//!
//! ```text
//!  config.json ─▶ Fields ─▶ Family (by model_type) ─▶ Shape: plain data that the encoder is built from
//! ```
//! What is not computed is refused here, by file, field and value.

mod fields;
mod shape;

// One file for each group of kinds that share their fields.
mod bert;
mod distilbert;
mod modernbert;
mod mpnet;
mod nomic_bert;

use std::path::Path;

use crate::error::LoadError;
use fields::Fields;
pub(crate) use shape::{
    Counting, FeedForward, Names, NormPlace, NtkScaling, Pairs, PositionTable, Presence, RelativeBuckets,
    Rotary, Shape,
};

/// A kind of model.
struct Family {
    /// `model_type` of config.json.
    model_type: &'static str,
    /// What the class in `architectures` begins with. Some models have the `model_type` of another and say here that
    /// they are none: jina's second version calls itself `bert`.
    class: &'static str,
    read: fn(&Fields<'_>) -> Result<Shape, LoadError>,
}

const FAMILIES: &[Family] = &[
    Family { model_type: "bert", class: "Bert", read: bert::read_bert },
    Family { model_type: "roberta", class: "Roberta", read: bert::read_roberta },
    Family { model_type: "xlm-roberta", class: "XLMRoberta", read: bert::read_roberta },
    Family { model_type: "mpnet", class: "MPNet", read: mpnet::read },
    Family { model_type: "distilbert", class: "DistilBert", read: distilbert::read },
    Family { model_type: "nomic_bert", class: "NomicBert", read: nomic_bert::read },
    Family { model_type: "modernbert", class: "ModernBert", read: modernbert::read },
];

const MODEL_TYPES: [&str; FAMILIES.len()] = {
    let mut names = [""; FAMILIES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = FAMILIES[index].model_type;
        index += 1;
    }
    names
};

/// Values of `model_type` that [`Engine::load`](crate::Engine::load) takes.
pub fn supported_architectures() -> &'static [&'static str] {
    &MODEL_TYPES
}

impl Shape {
    /// Reads and checks `file`. The kind comes first, so that a model of another kind is refused as such and not for a
    /// field it names differently.
    pub(crate) fn read(file: &Path) -> Result<Self, LoadError> {
        let fields = Fields::read(file)?;
        let shape = (family(&fields)?.read)(&fields)?;
        shape.check(file)?;
        Ok(shape)
    }
}

fn family(fields: &Fields<'_>) -> Result<&'static Family, LoadError> {
    let unsupported = |field, found: &str| {
        Err(LoadError::UnsupportedArchitecture {
            file: fields.file().to_owned(),
            field,
            found: found.to_owned(),
            supported: supported_architectures(),
        })
    };
    let (kind, class) = (fields.text("model_type")?, fields.first("architectures"));
    let family = match (kind, class) {
        (Some(kind), _) => FAMILIES.iter().find(|family| family.model_type == kind),
        (None, Some(class)) => FAMILIES.iter().find(|family| class.starts_with(family.class)),
        (None, None) => None,
    };
    match (family, kind, class) {
        (Some(family), _, Some(class)) if !class.starts_with(family.class) => {
            unsupported("architectures", class)
        }
        (Some(family), _, _) => Ok(family),
        (None, None, Some(class)) => unsupported("architectures", class),
        (None, kind, _) => unsupported("model_type", kind.unwrap_or_default()),
    }
}
