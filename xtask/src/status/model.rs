//! Which models are served, out of `GET /info` of each service.

use serde::Serialize;
use serde_json::Value;

use super::service::Kind;

/// One model as one service serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ServedModel {
    /// The service.
    pub(super) service: String,
    /// Id of the model at the hub.
    pub(super) id: Option<String>,
    /// Its short name.
    pub(super) alias: Option<String>,
    /// What its vectors are told apart by from those of other models, hex digits.
    pub(super) identity: Option<String>,
    /// Numbers of a vector.
    pub(super) width: Option<u64>,
    /// What it is computed in.
    pub(super) precision: Option<String>,
    /// Where it is computed; none at the proxy, which computes nothing.
    pub(super) device: Option<String>,
    /// Whether it is in memory; none at the proxy.
    pub(super) is_loaded: Option<bool>,
}

/// The models that `service` names in its answer of `/info`.
pub(super) fn models(service: &str, info: &Value) -> Vec<ServedModel> {
    let device = text(&info["device"]);
    let model = |model: &Value| ServedModel {
        service: service.to_owned(),
        id: text(&model["id"]),
        alias: text(&model["alias"]),
        identity: text(&model["identity"]),
        width: model["width"].as_u64(),
        precision: text(&model["precision"]),
        device: device.clone(),
        is_loaded: model["is_loaded"].as_bool(),
    };
    match Kind::of(service) {
        Kind::MlBase | Kind::EmbeddingSingle => {
            info["models"].as_array().into_iter().flatten().map(model).collect()
        }
        Kind::CacheShard | Kind::Balancer | Kind::Other => Vec::new(),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replica_names_all_its_models_their_device_and_which_are_loaded() {
        let model = json!({"id": "org/m", "alias": "medium", "identity": "ab12", "width": 384, "precision": "float32", "is_loaded": true});
        let info = json!({"device": "cpu", "models": [model, {"id": "org/n", "is_loaded": false}]});
        let found = models("ml-base-2", &info);
        assert_eq!(found.iter().map(|model| model.is_loaded).collect::<Vec<_>>(), [Some(true), Some(false)]);
        assert_eq!((found[0].service.as_str(), found[0].id.as_deref()), ("ml-base-2", Some("org/m")));
        assert_eq!((found[0].width, found[0].device.as_deref()), (Some(384), Some("cpu")));
    }

    #[test]
    fn proxy_names_all_models_and_no_device() {
        let info = json!({"models": [{"id": "a"}, {"id": "b"}]});
        let found = models("embedding-single", &info);
        assert_eq!(found.iter().map(|model| model.id.as_deref()).collect::<Vec<_>>(), [Some("a"), Some("b")]);
        assert_eq!((found[0].width, found[0].device.as_deref()), (None, None));
    }

    #[test]
    fn service_that_said_nothing_serves_no_model() {
        assert_eq!(models("ml-base", &Value::Null), []);
        assert_eq!(models("embedding-single", &json!({"status": "ready"})), []);
        assert_eq!(models("cache-shard", &json!({"model": {}})), []);
    }
}
