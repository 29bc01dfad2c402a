//! The Hugging Face hub, and the cache that its other tools keep.

use std::path::PathBuf;

use hf_hub::{Cache, Repo, RepoType};

use super::Wanted;
use super::digest::Sha256;
use super::error::{FileFault, SourceFault};
use super::files;
use super::progress::Progress;
use super::settings;
use super::sources::Sources;
use super::store::Stage;
use super::sums::Sums;
use super::verify;
use super::web::{Request, Web, fault};
use service::config::Secret;

/// The directories of the hub cache that may hold the model: the wanted revision, then what a branch of that name, or
/// `main`, points to. A pinned file from another revision is as good, for its sum decides.
pub(super) fn cached(cache: &std::path::Path, wanted: &Wanted) -> Vec<PathBuf> {
    let cache = Cache::new(cache.to_owned());
    let repo = |revision: &str| {
        cache.repo(Repo::with_revision(wanted.id.clone(), RepoType::Model, revision.to_owned()))
    };
    let pinned = repo(&wanted.revision).pointer_path(&wanted.revision);
    let pointed = [wanted.revision.as_str(), "main"].map(|branch| repo(branch).get(files::WEIGHTS));
    let mut directories = vec![pinned];
    directories.extend(pointed.into_iter().flatten().filter_map(|file| file.parent().map(Into::into)));
    directories.dedup();
    directories.retain(|directory| directory.join(files::WEIGHTS).is_file());
    directories
}

/// Fetches the model's files from the hub into `stage`.
pub(super) fn fetch(
    wanted: &Wanted,
    sources: &Sources,
    web: &Web,
    stage: &Stage,
    progress: &dyn Progress,
) -> Result<Sums, SourceFault> {
    if sources.hub_offline {
        return Err(SourceFault::Passed("switched off by HF_HUB_OFFLINE"));
    }
    let bearer = sources.hub_token.as_ref().map(|token| Secret::new(format!("Bearer {}", token.expose())));
    let mut revision = wanted.revision.clone();
    let mut sums = Sums::default();
    for pin in &wanted.files {
        let path = format!("{}/resolve/{revision}/{}", wanted.id, pin.name);
        let address = sources.hub_endpoint.child(&path).map_err(|error| SourceFault::Web {
            url: sources.hub_endpoint.to_string(),
            reason: error.to_string(),
        })?;
        let authorization = bearer.as_ref().or_else(|| sources.hub_endpoint.authorization());
        let request = Request { address: &address, authorization, accept: "*/*" };
        let Some(answer) = web.get(request)? else {
            if files::is_required(&pin.name) {
                return Err(fault(&address, "HTTP 404, there is no such model, revision or file"));
            }
            continue;
        };
        // A branch may move between two files: all of them come from the commit of the first.
        if let Some(commit) = answer.origin_header("x-repo-commit").filter(|commit| is_commit(commit)) {
            commit.clone_into(&mut revision);
        }
        let announced = answer.origin_header("x-linked-etag").and_then(sum_in_etag);
        let sum = answer.into_file(&stage.path(&pin.name)?, &pin.name, progress)?;
        verify::compare(&pin.name, sum, pin.sha256.or(announced))?;
        sums.insert(&pin.name, sum);
        if pin.name == files::CONFIG {
            settings::check_architecture(stage.directory(), &wanted.id)?;
        }
    }
    Ok(sums)
}

/// The hub's tag of a large file is its SHA-256; other files have a git hash, which is shorter.
fn sum_in_etag(etag: &str) -> Option<Sha256> {
    etag.trim_start_matches("W/").trim_matches('"').parse().ok()
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A fault that says the cache has nothing, for the list of what was tried.
pub(super) fn nothing_cached(cache: &std::path::Path) -> SourceFault {
    FileFault::Missing { name: files::WEIGHTS.to_owned(), directory: cache.to_owned() }.into()
}
