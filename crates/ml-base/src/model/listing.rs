//! The catalog as a person or a script reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::catalog::{Catalog, CatalogEntry};
use super::store::Shelf;

/// The models of a catalog, with what this build and this machine can say of them. Displayed as a table.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Listing<'a>(Vec<Row<'a>>);

#[derive(Debug, Serialize)]
struct Row<'a> {
    alias: &'a str,
    id: &'a str,
    revision: &'a str,
    architecture: &'a str,
    /// Whether the engine of this build computes it.
    is_supported: bool,
    pooling: &'a str,
    tokens_max: usize,
    trained_dimensions: &'a [u32],
    prompts: &'a BTreeMap<String, String>,
    /// Whether all that a vector depends on is held to a sum from the first download on.
    is_verified: bool,
    /// Whether it lies in the store already.
    is_stored: bool,
}

impl<'a> Listing<'a> {
    /// The models of `catalog`; those under `store` count as stored.
    #[must_use]
    pub fn new(catalog: &'a Catalog, store: &Path) -> Self {
        Self(catalog.entries().map(|entry| row(entry, store)).collect())
    }
}

fn row<'a>(entry: &'a CatalogEntry, store: &Path) -> Row<'a> {
    Row {
        alias: &entry.alias,
        id: &entry.id,
        revision: &entry.revision,
        architecture: &entry.architecture,
        is_supported: engine::supported_architectures().contains(&entry.architecture.as_str()),
        pooling: &entry.pooling,
        tokens_max: entry.tokens_max,
        trained_dimensions: &entry.trained_dimensions,
        prompts: &entry.prompts,
        is_verified: entry.is_verified(),
        is_stored: Shelf::new(store, &entry.id).directory().is_dir(),
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "alias",
            "id",
            "architecture",
            "widths",
            "tokens",
            "pooling",
            "prompts",
            "sums",
            "stored",
        ]);
        for row in &self.0 {
            table.add_row(row.cells());
        }
        // Without the spaces that fill the last column.
        table.lines().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
    }
}

impl Row<'_> {
    fn cells(&self) -> [String; 9] {
        let architecture = match self.is_supported {
            true => self.architecture.to_owned(),
            false => format!("{} (not computed)", self.architecture),
        };
        let widths: Vec<_> = self.trained_dimensions.iter().map(u32::to_string).collect();
        let prompts: Vec<_> = self.prompts.keys().map(String::as_str).collect();
        [
            self.alias.to_owned(),
            self.id.to_owned(),
            architecture,
            widths.join(" "),
            self.tokens_max.to_string(),
            self.pooling.to_owned(),
            prompts.join(" "),
            if self.is_verified { "pinned" } else { "unverified" }.to_owned(),
            if self.is_stored { "yes" } else { "no" }.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_line_for_each_model_and_says_what_is_stored_and_pinned() {
        let (catalog, store) = (Catalog::built_in(), tempfile::tempdir().unwrap());
        std::fs::create_dir(store.path().join("thenlper--gte-small")).unwrap();
        let table = Listing::new(&catalog, store.path()).to_string();
        assert_eq!(table.lines().count(), 1 + catalog.entries().count(), "{table}");
        let line =
            |alias: &str| table.lines().find(|line| line.trim_start().starts_with(alias)).unwrap().to_owned();
        assert!(line("medium").contains("pinned") && line("medium").ends_with("no"), "{table}");
        assert!(line("gte-small").contains("unverified") && line("gte-small").ends_with("yes"), "{table}");
        assert!(line("e5-small-v2").contains("passage query"), "{table}");
    }

    #[test]
    fn json_names_what_the_engine_of_this_build_does_not_compute() {
        let catalog = Catalog::built_in();
        let json = serde_json::to_value(Listing::new(&catalog, Path::new("/no/store"))).unwrap();
        for row in json.as_array().unwrap() {
            let supported =
                engine::supported_architectures().contains(&row["architecture"].as_str().unwrap());
            assert_eq!(
                (row["is_supported"].as_bool(), row["is_stored"].as_bool()),
                (Some(supported), Some(false))
            );
        }
    }
}
