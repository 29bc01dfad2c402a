//! The files that sentence-transformers writes beside a model, rule by rule.

use std::fs;
use std::path::Path;

use engine::Pooling;
use ml_base::model::{Case, ModelFiles, ModelName};
use serde_json::{Value, json};

use crate::tiny::{self, sources};

const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";
const LIMITS: &str = "sentence_bert_config.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const PROMPTS: &str = "config_sentence_transformers.json";

/// A model directory that can be changed file by file: a BERT of width 2 with 512 positions, pooling cls, limit 64.
struct Model(tempfile::TempDir);

impl Model {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        tiny::write_into(directory.path());
        Self(directory)
    }

    fn with(self, file: &str, content: &Value) -> Self {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
        self
    }

    fn without(self, file: &str) -> Self {
        fs::remove_file(self.0.path().join(file)).unwrap();
        self
    }

    fn read(&self) -> ModelFiles {
        tiny::resolve(&self.name(), &sources(self.0.path(), None, None)).unwrap()
    }

    fn refusal(&self) -> String {
        tiny::refusal(&self.name(), &sources(self.0.path(), None, None))
    }

    fn name(&self) -> ModelName {
        ModelName::Directory(self.0.path().to_owned())
    }
}

fn modules(kinds: &[&str]) -> Value {
    let module = |(idx, kind): (usize, &&str)| {
        let path = if idx == 0 { String::new() } else { format!("{idx}_{kind}") };
        json!({"idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")})
    };
    kinds.iter().enumerate().map(module).collect()
}

#[test]
fn every_pooling_is_read_from_its_switch_and_from_its_newer_name() {
    let cases = [
        ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
        ("pooling_mode_cls_token", "cls", Pooling::Cls),
        ("pooling_mode_max_tokens", "max", Pooling::Max),
        ("pooling_mode_lasttoken", "lasttoken", Pooling::LastToken),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Pooling::MeanSqrtLen),
    ];
    for (switch, newer, pooling) in cases {
        let older = json!({"word_embedding_dimension": 2, "pooling_mode_cls_token": false, switch: true});
        assert_eq!(Model::new().with(POOLING, &older).read().pooling, pooling);
        let newer = json!({"embedding_dimension": 2, "pooling_mode": newer, "include_prompt": true});
        assert_eq!(Model::new().with(POOLING, &newer).read().pooling, pooling);
    }
}

#[test]
fn pooling_that_is_not_computed_is_refused_by_name() {
    let refusal = |config| Model::new().with(POOLING, &config).refusal();
    let message = refusal(json!({"pooling_mode_weightedmean_tokens": true}));
    assert!(
        message.starts_with("1_Pooling/config.json: pooling \"weightedmean\" is not supported"),
        "{message}"
    );
    let message = refusal(json!({"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}));
    assert_eq!(message, "1_Pooling/config.json: pooling is [cls, max], it must be one");
    assert_eq!(refusal(json!({})), "1_Pooling/config.json: pooling is [], it must be one");
    let message = refusal(json!({"pooling_mode_mean_tokens": true, "include_prompt": false}));
    assert!(message.starts_with("1_Pooling/config.json: include_prompt is false"), "{message}");
    let message = refusal(json!({"pooling_mode_mean_tokens": true, "word_embedding_dimension": 768}));
    assert!(
        message.ends_with("word_embedding_dimension is 768, hidden_size of config.json is 2"),
        "{message}"
    );
}

#[test]
fn model_without_modules_and_pooling_takes_the_mean() {
    assert_eq!(Model::new().without(POOLING).read().pooling, Pooling::Mean);
}

#[test]
fn modules_are_taken_in_the_order_of_their_numbers() {
    let mut listed = modules(&["Transformer", "Pooling", "Normalize"]);
    listed.as_array_mut().unwrap().reverse();
    assert_eq!(Model::new().with(MODULES, &listed).read().pooling, Pooling::Cls);
    let newer = json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
    ]);
    assert_eq!(Model::new().with(MODULES, &newer).read().pooling, Pooling::Cls);
}

#[test]
fn modules_in_another_order_are_refused_by_name() {
    for kinds in [
        &["Transformer", "Normalize", "Pooling"][..],
        &["Pooling", "Transformer"],
        &["Transformer"],
        &["Transformer", "Pooling", "Normalize", "Normalize"],
        &[],
    ] {
        let message = Model::new().with(MODULES, &modules(kinds)).refusal();
        assert!(
            message.starts_with(&format!("modules.json: modules are [{}]", kinds.join(", "))),
            "{message}"
        );
    }
}

#[test]
fn model_with_a_layer_after_pooling_is_refused_by_name() {
    let message = Model::new().with(MODULES, &modules(&["Transformer", "Pooling", "Dense"])).refusal();
    assert!(message.starts_with("modules.json: module \"sentence_transformers.models.Dense\""), "{message}");
}

fn modules_at(transformer: &str, pooling: &str) -> Value {
    json!([{"idx": 0, "path": transformer, "type": "a.Transformer"}, {"idx": 1, "path": pooling, "type": "a.Pooling"}])
}

#[test]
fn pooling_is_read_from_the_folder_that_modules_name() {
    let mode = json!({"pooling_mode_max_tokens": true});
    let model = Model::new().with(MODULES, &modules_at("", "5_Pool")).with("5_Pool/config.json", &mode);
    assert_eq!(model.read().pooling, Pooling::Max);
    let message = Model::new().with(MODULES, &modules_at("", "5_Pool")).refusal();
    assert_eq!(message, "modules.json: module Pooling wants 5_Pool/config.json, which is missing");
}

#[test]
fn folder_that_leads_out_of_the_model_is_refused() {
    for folder in ["../1_Pooling", "/1_Pooling", "", "a/../../b"] {
        let message = Model::new().with(MODULES, &modules_at("", folder)).refusal();
        assert_eq!(
            message,
            format!("modules.json: module Pooling lies in {folder:?}, which is no folder of this model")
        );
    }
    let message = Model::new().with(MODULES, &modules_at("0_Transformer", "1_Pooling")).refusal();
    assert!(message.starts_with("modules.json: module Transformer lies in \"0_Transformer\""), "{message}");
}

#[test]
fn max_seq_length_rules_over_the_tokenizers_limits() {
    let model = Model::new()
        .with(LIMITS, &json!({"max_seq_length": 256}))
        .with("tokenizer.json", &json!({"truncation": {"max_length": 128}}))
        .with(TOKENIZER_CONFIG, &json!({"model_max_length": 100}));
    assert_eq!(model.read().tokens_max, 256);
}

#[test]
fn limit_is_never_more_than_there_are_positions() {
    assert_eq!(Model::new().with(LIMITS, &json!({"max_seq_length": 514})).read().tokens_max, 512);
    assert_eq!(Model::new().without(LIMITS).read().tokens_max, 512);
}

#[test]
fn model_max_length_is_the_limit_where_max_seq_length_is_not_said() {
    let limited = |length: Value| Model::new().with(TOKENIZER_CONFIG, &json!({"model_max_length": length}));
    assert_eq!(limited(json!(128)).without(LIMITS).read().tokens_max, 128);
    let unsaid = json!({"max_seq_length": null, "do_lower_case": false});
    assert_eq!(limited(json!(128)).with(LIMITS, &unsaid).read().tokens_max, 128);
    for none_meant in
        [json!(1e30), json!(1_000_000_000_000_000_019_884_624_838_656_u128 as f64), json!(0), json!(null)]
    {
        assert_eq!(limited(none_meant.clone()).without(LIMITS).read().tokens_max, 512, "{none_meant}");
    }
}

#[test]
fn limits_under_an_older_name_are_read_too() {
    let older = json!({"max_seq_length": 33});
    let model = Model::new().without(LIMITS).with("sentence_xlm-roberta_config.json", &older);
    assert_eq!(model.read().tokens_max, 33);
    assert_eq!(model.with(LIMITS, &json!({"max_seq_length": 44})).read().tokens_max, 44);
}

#[test]
fn limit_of_nothing_is_refused() {
    let message = Model::new().with(LIMITS, &json!({"max_seq_length": 0})).refusal();
    assert_eq!(message, "sentence_bert_config.json: max_seq_length is 0, the least is 1");
}

#[test]
fn do_lower_case_is_read_and_makes_another_identity() {
    let as_given = Model::new().read();
    let same = Model::new().with(LIMITS, &json!({"max_seq_length": 64, "do_lower_case": false})).read();
    let lower = Model::new().with(LIMITS, &json!({"max_seq_length": 64, "do_lower_case": true})).read();
    assert_eq!((as_given.case, lower.case), (Case::AsGiven, Case::Lower));
    assert_eq!(as_given.identity, same.identity);
    assert_ne!(as_given.identity, lower.identity);
}

#[test]
fn prompts_of_the_model_are_read_with_the_default_one_and_the_similarity_is_left_alone() {
    let own = json!({
        "prompts": {"query": "query: ", "document": ""},
        "default_prompt_name": "query",
        "similarity_fn_name": "dot"
    });
    let prompts = Model::new().with(PROMPTS, &own).read().prompts;
    assert_eq!((prompts.default_name(), prompts.find(None).unwrap()), (Some("query"), "query: "));
    assert_eq!(prompts.find(Some("document")).unwrap(), "");
    let none = Model::new().with(PROMPTS, &json!({"default_prompt_name": null})).read().prompts;
    assert_eq!((none.default_name(), none.find(None).unwrap()), (None, ""));
}

#[test]
fn default_prompt_that_is_none_of_the_prompts_is_refused_by_name() {
    let own = json!({"prompts": {"query": "query: "}, "default_prompt_name": "title"});
    let message = Model::new().with(PROMPTS, &own).refusal();
    let expected = format!("{PROMPTS}: default_prompt_name is \"title\", the prompts are: query");
    assert_eq!(message, expected);
}

#[test]
fn prompts_of_the_catalog_rule_over_those_of_the_model() {
    let mut entry = tiny::entry();
    entry.prompts = [("passage".to_owned(), "passage: ".to_owned())].into();
    let store = tempfile::tempdir().unwrap();
    let hub = tiny::hub(tiny::COMMIT);
    let model = tiny::resolve(&tiny::named(entry), &sources(store.path(), Some(&hub), None)).unwrap();
    assert_eq!(model.prompts.by_name().keys().collect::<Vec<_>>(), ["passage"]);
    assert!(Path::new(&model.directory).is_dir());
}
