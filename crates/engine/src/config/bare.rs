//! The few sizes that are needed of a model of any kind, where something else computes it.

use std::path::Path;

use super::fields::Fields;
use crate::error::LoadError;

/// Sizes by their names in config.json, whatever the kind of model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BareSizes {
    pub(crate) hidden: usize,
    pub(crate) vocabulary: usize,
    /// Positions, or no limit where the file names none.
    pub(crate) tokens_max: usize,
    pub(crate) padding: u32,
}

impl BareSizes {
    /// Reads the sizes of `file`, of which the width and the vocabulary must be there.
    pub(crate) fn read(file: &Path) -> Result<Self, LoadError> {
        let fields = Fields::read(file)?;
        let positions = size(&fields, &["max_position_embeddings", "n_positions"])?;
        Ok(Self {
            hidden: needed(&fields, &["hidden_size", "n_embd", "dim"])?,
            vocabulary: needed(&fields, &["vocab_size"])?,
            tokens_max: positions.unwrap_or(usize::MAX),
            padding: fields.id("pad_token_id", 0)?,
        })
    }
}

fn size(fields: &Fields<'_>, names: &[&'static str]) -> Result<Option<usize>, LoadError> {
    let name = names.iter().find(|name| fields.has(name));
    name.map(|name| fields.size(name, 1)).transpose()
}

fn needed(fields: &Fields<'_>, names: &[&'static str]) -> Result<usize, LoadError> {
    size(fields, names)?.ok_or_else(|| fields.invalid(names[0], "missing", "a whole number of at least 1"))
}
