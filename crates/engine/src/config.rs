//! config.json: which kind of encoder it describes, and what of it changes a forward pass.
//!
//! ```text
//!  config.json ─▶ Fields ─▶ Family (by model_type) ─▶ Shape: plain data that the encoder is built from
//! ```
//! What is not computed is refused here, by file, field and value.

#[cfg(feature = "onnx")]
mod bare;
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
#[cfg(feature = "onnx")]
pub(crate) use bare::BareSizes;
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(config: &Value) -> Result<Shape, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        Shape::read(&file)
    }

    fn with(model_type: &str, field: &str, value: &Value) -> Result<Shape, LoadError> {
        read(&json!({ "model_type": model_type, field: value }))
    }

    #[test]
    fn both_spellings_of_nomic_bert_are_one_shape() {
        let own = json!({
            "model_type": "nomic_bert", "n_embd": 128, "n_head": 2, "n_layer": 3, "n_inner": 256, "n_positions": 8192,
            "vocab_size": 500, "max_trained_positions": 2048, "rotary_scaling_factor": 2.0, "rotary_emb_base": 1000,
        });
        let newer = json!({
            "model_type": "nomic_bert", "hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 3,
            "intermediate_size": 256, "max_position_embeddings": 2048, "vocab_size": 500,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0},
        });
        assert_eq!(format!("{:?}", read(&own).unwrap()), format!("{:?}", read(&newer).unwrap()));
    }

    #[test]
    fn a_file_that_names_only_its_kind_has_the_sizes_of_the_best_known_model() {
        for (kind, tokens_max) in [("bert", 512), ("mpnet", 510), ("nomic_bert", 8192), ("modernbert", 8192)]
        {
            let shape = read(&json!({ "model_type": kind })).unwrap();
            assert_eq!((shape.hidden, shape.head_width(), shape.tokens_max), (768, 64, tokens_max), "{kind}");
        }
    }

    #[test]
    fn layers_of_modernbert_are_listed_or_counted() {
        let counted = with("modernbert", "num_hidden_layers", &json!(4)).unwrap();
        let windows = |shape: &Shape| shape.layers.iter().map(|layer| layer.window).collect::<Vec<_>>();
        assert_eq!(windows(&counted), [None, Some(64), Some(64), None]);
        let listed = read(&json!({
            "model_type": "modernbert", "num_hidden_layers": 2, "local_attention": 10,
            "layer_types": ["sliding_attention", "full_attention"],
        }));
        assert_eq!(windows(&listed.unwrap()), [Some(5), None]);
    }

    #[test]
    fn options_that_are_not_computed_are_named() {
        for (kind, field, value) in [
            ("bert", "hidden_act", json!("relu")),
            ("bert", "is_decoder", json!(true)),
            ("roberta", "position_embedding_type", json!("relative_key_query")),
            ("distilbert", "activation", json!("relu")),
            ("nomic_bert", "activation_function", json!("geglu")),
            ("nomic_bert", "prenorm", json!(true)),
            ("nomic_bert", "num_experts", json!(8)),
            ("modernbert", "hidden_activation", json!("silu")),
        ] {
            let error = with(kind, field, &value).unwrap_err();
            let named =
                matches!(&error, LoadError::UnsupportedOption { field: found, .. } if *found == field);
            assert!(named, "{error}");
            assert!(error.to_string().contains("config.json"), "{error}");
        }
    }

    #[test]
    fn values_that_no_encoder_has_are_named() {
        for (kind, field, value) in [
            ("bert", "hidden_size", json!("wide")),
            ("roberta", "max_position_embeddings", json!(2)),
            ("mpnet", "relative_attention_num_buckets", json!(30)),
            ("nomic_bert", "rotary_emb_fraction", json!(0.5)),
            ("modernbert", "intermediate_size", json!(100)),
            ("modernbert", "layer_types", json!(["full_attention"])),
        ] {
            let error = with(kind, field, &value).unwrap_err();
            let named = matches!(&error, LoadError::InvalidConfig { field: found, .. } if *found == field);
            assert!(named, "{error}");
        }
    }
}
