//! config.json as transformers writes it, field by field. Fields that do not change a forward pass are never asked for.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::LoadError;

/// The fields of one file. A field that is `null` is taken as absent.
pub(super) struct Fields<'a> {
    file: &'a Path,
    values: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(file: &'a Path) -> Result<Self, LoadError> {
        let json = std::fs::read(file).map_err(|source| LoadError::reading(file, source))?;
        let values = serde_json::from_slice(&json)
            .map_err(|source| LoadError::Config { file: file.to_owned(), source })?;
        Ok(Self { file, values })
    }

    pub(super) fn file(&self) -> &Path {
        self.file
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.values.get(field).filter(|value| !value.is_null())
    }

    /// Whether the field is there.
    pub(super) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    pub(super) fn invalid(&self, field: &'static str, found: impl ToString, wanted: &str) -> LoadError {
        LoadError::InvalidConfig {
            file: self.file.to_owned(),
            field,
            found: found.to_string(),
            wanted: wanted.to_owned(),
        }
    }

    fn unsupported(&self, field: &'static str, found: &str, supported: &[&str]) -> LoadError {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        LoadError::UnsupportedOption {
            file: self.file.to_owned(),
            field,
            found: found.to_owned(),
            supported: supported.join(", "),
        }
    }

    /// A field that is text.
    pub(super) fn text(&self, field: &'static str) -> Result<Option<&str>, LoadError> {
        self.get(field)
            .map(|value| value.as_str().ok_or_else(|| self.invalid(field, value, "text")))
            .transpose()
    }

    /// The first entry of a list of texts.
    pub(super) fn first(&self, field: &str) -> Option<&str> {
        self.get(field)?.as_array()?.first()?.as_str()
    }

    /// A whole number, at least `least`.
    pub(super) fn whole(
        &self,
        field: &'static str,
        least: usize,
        default: usize,
    ) -> Result<usize, LoadError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        let fits = number.filter(|number| *number >= least);
        fits.ok_or_else(|| self.invalid(field, value, &format!("a whole number of at least {least}")))
    }

    /// A number of things, at least 1.
    pub(super) fn size(&self, field: &'static str, default: usize) -> Result<usize, LoadError> {
        self.whole(field, 1, default)
    }

    /// A token id.
    pub(super) fn id(&self, field: &'static str, default: u32) -> Result<u32, LoadError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        let id = value.as_u64().and_then(|number| u32::try_from(number).ok());
        id.ok_or_else(|| self.invalid(field, value, "a token id"))
    }

    /// A number.
    pub(super) fn number(&self, field: &'static str) -> Result<Option<f32>, LoadError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
        let number = value.as_f64().map(|number| number as f32);
        number.map(Some).ok_or_else(|| self.invalid(field, value, "a number"))
    }

    /// True or false.
    pub(super) fn switch(&self, field: &'static str, default: bool) -> Result<bool, LoadError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.invalid(field, value, "true or false"))
    }

    /// An object within the file, with fields of its own.
    pub(super) fn object(&self, field: &'static str) -> Result<Option<Self>, LoadError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let values = value.as_object().ok_or_else(|| self.invalid(field, value, "an object"))?;
        Ok(Some(Self { file: self.file, values: values.clone() }))
    }

    /// A list of texts.
    pub(super) fn texts(&self, field: &'static str) -> Result<Option<Vec<&str>>, LoadError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let texts = value.as_array().and_then(|values| values.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.invalid(field, value, "a list of texts"))
    }

    /// Refuses a text that is none of `supported`. Absent is the first of them.
    pub(super) fn only(&self, field: &'static str, supported: &[&str]) -> Result<(), LoadError> {
        match self.text(field)? {
            Some(found) if !supported.contains(&found) => Err(self.unsupported(field, found, supported)),
            _ => Ok(()),
        }
    }

    /// Refuses a switch that is on, or a number that is not 0: something that is not computed.
    pub(super) fn off(&self, field: &'static str) -> Result<(), LoadError> {
        match self.get(field) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(value) if value.as_f64() == Some(0.0) => Ok(()),
            Some(value) => Err(self.unsupported(field, &value.to_string(), &["false"])),
        }
    }
}
