//! What a person calls a model: an alias, a hub id or a directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::catalog::{Catalog, CatalogEntry};
use super::error::ModelError;

/// A model as asked for, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// A directory on this machine.
    Directory(PathBuf),
    /// A model of the catalog, asked for by alias or hub id.
    Catalog(Box<CatalogEntry>),
    /// A model of the hub that the catalog does not have.
    Hub(String),
}

impl FromStr for ModelName {
    type Err = ModelError;

    /// An alias wins over a directory of the same name (write `./medium` for that); a directory wins over a hub id.
    fn from_str(name: &str) -> Result<Self, ModelError> {
        let catalog = Catalog::built_in();
        let entry = catalog.find(name).cloned().map(Box::new);
        match entry {
            Some(entry) if entry.alias == name => Ok(Self::Catalog(entry)),
            _ if is_path(name) || (!name.is_empty() && Path::new(name).is_dir()) => {
                Ok(Self::Directory(PathBuf::from(name)))
            }
            Some(entry) => Ok(Self::Catalog(entry)),
            None if is_hub_id(name) => Ok(Self::Hub(name.to_owned())),
            None => Err(ModelError::UnknownName { name: name.to_owned(), known: catalog.aliases() }),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(out, "{}", path.display()),
            Self::Catalog(entry) => out.write_str(&entry.alias),
            Self::Hub(id) => out.write_str(id),
        }
    }
}

/// Whether `name` can only be meant as a path.
fn is_path(name: &str) -> bool {
    matches!(name, "." | "..") || ["/", "./", "../"].iter().any(|start| name.starts_with(start))
}

/// Whether `name` is `org/name` in the hub's alphabet: it becomes part of addresses and of a directory name.
fn is_hub_id(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains("--")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    name.len() <= 200 && name.split_once('/').is_some_and(|(org, model)| is_part(org) && is_part(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_and_id_name_the_same_entry() {
        let by_alias: ModelName = "medium".parse().unwrap();
        let by_id: ModelName = "sentence-transformers/all-MiniLM-L6-v2".parse().unwrap();
        assert_eq!(by_alias, by_id);
        assert_eq!(by_id.to_string(), "medium");
    }

    #[test]
    fn path_is_a_directory_even_where_there_is_none() {
        for path in ["/no/such/model", "./medium", "../model", "."] {
            assert_eq!(path.parse::<ModelName>().unwrap(), ModelName::Directory(path.into()));
        }
    }

    #[test]
    fn existing_directory_without_a_leading_dot_is_a_directory() {
        assert_eq!("src".parse::<ModelName>().unwrap(), ModelName::Directory("src".into()));
        assert_eq!("src/model".parse::<ModelName>().unwrap(), ModelName::Directory("src/model".into()));
    }

    #[test]
    fn other_hub_id_is_left_to_the_hub() {
        let name = "BAAI/bge-small-zh-v1.5";
        assert_eq!(name.parse::<ModelName>().unwrap(), ModelName::Hub(name.to_owned()));
    }

    #[test]
    fn unknown_name_lists_the_aliases() {
        for name in ["", "tiny", "Medium", "a/b/c", "a/..", "a b/c", "a/?x", "a--b/c"] {
            let error = name.parse::<ModelName>().unwrap_err().to_string();
            assert!(error.contains("medium, small, large"), "{error}");
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }
}
