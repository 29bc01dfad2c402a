//! A model of a few bytes, and places to serve it from.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Mutex;

use ml_base::model::{
    CatalogEntry, FilePin, ModelError, ModelFiles, ModelName, PackagePin, Progress, Sha256, Sources,
};
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::site::{Page, Site};

pub(crate) const ID: &str = "org/tiny";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Nothing listens on this port of the host itself.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";
pub(crate) const WHEEL: &str = "some_tiny-1.0-py3-none-any.whl";

/// The files of the model, in the order of fetching.
pub(crate) fn files() -> Vec<(&'static str, Vec<u8>)> {
    let config = r#"{"model_type":"bert","hidden_size":2,"max_position_embeddings":512}"#;
    let pooling = r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#;
    vec![
        ("config.json", config.into()),
        ("tokenizer.json", b"{}".to_vec()),
        ("1_Pooling/config.json", pooling.into()),
        ("sentence_bert_config.json", br#"{"max_seq_length":64}"#.to_vec()),
        ("model.safetensors", weights(8)),
    ]
}

pub(crate) fn weights(tensor_bytes: usize) -> Vec<u8> {
    let header =
        format!(r#"{{"w":{{"dtype":"U8","shape":[{tensor_bytes}],"data_offsets":[0,{tensor_bytes}]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![7; tensor_bytes]);
    bytes
}

/// The catalog entry: every file pinned, and the wheel too.
pub(crate) fn entry() -> CatalogEntry {
    let pin = |(name, bytes): &(&str, Vec<u8>)| FilePin {
        name: (*name).to_owned(),
        sha256: Some(Sha256::of_bytes(bytes)),
        bytes: Some(bytes.len() as u64),
    };
    let wheel = wheel();
    CatalogEntry {
        alias: "tiny".to_owned(),
        id: ID.to_owned(),
        revision: COMMIT.to_owned(),
        architecture: "bert".to_owned(),
        pooling: "mean".to_owned(),
        tokens_max: 32,
        trained_dimensions: vec![2],
        layer_norm_before_cut: false,
        prompts: BTreeMap::new(),
        files: files().iter().map(pin).collect(),
        package: Some(PackagePin {
            name: "some-tiny".to_owned(),
            version: "1.0".to_owned(),
            folder: "some_tiny/model".to_owned(),
            sha256: Sha256::of_bytes(&wheel),
            bytes: wheel.len() as u64,
        }),
    }
}

pub(crate) fn unpinned_entry() -> CatalogEntry {
    let mut entry = entry();
    for file in &mut entry.files {
        (file.sha256, file.bytes) = (None, None);
    }
    entry
}

pub(crate) fn named(entry: CatalogEntry) -> ModelName {
    ModelName::Catalog(Box::new(entry))
}

pub(crate) fn wheel() -> Vec<u8> {
    let mut wheel = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files() {
        wheel.start_file(format!("some_tiny/model/{name}"), SimpleFileOptions::default()).unwrap();
        wheel.write_all(&bytes).unwrap();
    }
    wheel.finish().unwrap().into_inner()
}

pub(crate) fn hub_path(revision: &str, file: &str) -> String {
    format!("/{ID}/resolve/{revision}/{file}")
}

/// A hub with the model at `revision`.
pub(crate) fn hub(revision: &str) -> Site {
    let site = Site::new();
    for (name, bytes) in files() {
        site.put(&hub_path(revision, name), Page::new(bytes));
    }
    site
}

/// A package index with the wheel, its page as JSON.
pub(crate) fn index() -> Site {
    let site = Site::new();
    let page = format!(r#"{{"files":[{{"url":"../../files/{WHEEL}","filename":"{WHEEL}"}}]}}"#);
    let page = Page::new(page).with("Content-Type", "application/vnd.pypi.simple.v1+json");
    site.put("/simple/some-tiny/", page).put(&format!("/files/{WHEEL}"), Page::new(wheel()));
    site
}

/// Sources with these two and an empty store; whatever is not given cannot be reached.
pub(crate) fn sources(store: &Path, hub: Option<&Site>, index: Option<&Site>) -> Sources {
    let hub_endpoint = hub.map_or_else(|| NOBODY.to_owned(), Site::url);
    let package_index = index.map_or_else(|| NOBODY.to_owned(), |index| index.url() + "/simple/");
    Sources {
        store: store.to_owned(),
        hub_cache: None,
        hub_endpoint: hub_endpoint.parse().unwrap(),
        hub_token: None,
        hub_offline: false,
        package_index: Some(package_index.parse().unwrap()),
    }
}

/// Keeps the notes.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Progress for Notes {
    fn begin(&self, _file: &str, _bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

pub(crate) fn resolve(name: &ModelName, sources: &Sources) -> Result<ModelFiles, ModelError> {
    ml_base::model::resolve(name, sources, &Notes::default())
}

/// Fails, and the message says why.
pub(crate) fn refusal(name: &ModelName, sources: &Sources) -> String {
    resolve(name, sources).unwrap_err().to_string()
}

/// What a person would take for a model in the store.
pub(crate) fn left_in(store: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(store) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

/// Writes the model into a directory of its own.
pub(crate) fn write_into(directory: &Path) {
    for (name, bytes) in files() {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}
