//! The named prompts of a model, and which of them a request gets.

use std::collections::BTreeMap;

use crate::error::{ApiError, ErrorCode};

/// Texts that a model was trained to see in front of a text, by name.
///
/// Invariant: the default is one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    by_name: BTreeMap<String, String>,
    default_name: Option<String>,
}

/// A default prompt that is none of the prompts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("default_prompt_name is {name:?}, the prompts are: {}", names(known))]
pub struct UnknownDefault {
    /// The name.
    pub name: String,
    /// The prompts there are.
    pub known: BTreeMap<String, String>,
}

fn names(prompts: &BTreeMap<String, String>) -> String {
    match prompts.is_empty() {
        true => "none".to_owned(),
        false => prompts.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

impl Prompts {
    /// Prompts by name, and the one that a request gets which names none.
    ///
    /// # Errors
    /// [`UnknownDefault`] if the default is none of them.
    pub fn new(
        by_name: BTreeMap<String, String>,
        default_name: Option<String>,
    ) -> Result<Self, UnknownDefault> {
        match default_name {
            Some(name) if !by_name.contains_key(&name) => Err(UnknownDefault { name, known: by_name }),
            default_name => Ok(Self { by_name, default_name }),
        }
    }

    /// The prompts.
    pub fn by_name(&self) -> &BTreeMap<String, String> {
        &self.by_name
    }

    /// Name of the default one.
    pub fn default_name(&self) -> Option<&str> {
        self.default_name.as_deref()
    }

    /// What goes in front of the texts of a request with this `prompt_name`: the default prompt where it names none,
    /// nothing where the name is empty.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] naming the prompts there are.
    pub fn find(&self, asked: Option<&str>) -> Result<&str, ApiError> {
        let Some(name) = asked.or(self.default_name()).filter(|name| !name.is_empty()) else { return Ok("") };
        self.by_name.get(name).map(String::as_str).ok_or_else(|| {
            let known = names(&self.by_name);
            let message = format!("`prompt_name` is `{name}`, the model has: {known}");
            ApiError::new(ErrorCode::Invalid, message).at_field("prompt_name")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e5() -> BTreeMap<String, String> {
        let pair = |name: &str| (name.to_owned(), format!("{name}: "));
        [pair("query"), pair("passage")].into()
    }

    #[test]
    fn a_request_gets_the_prompt_it_names_else_the_default_one() {
        let prompts = Prompts::new(e5(), Some("query".to_owned())).unwrap();
        assert_eq!(prompts.find(Some("passage")).unwrap(), "passage: ");
        assert_eq!(prompts.find(None).unwrap(), "query: ");
    }

    #[test]
    fn without_a_default_a_request_that_names_none_gets_none() {
        assert_eq!(Prompts::new(e5(), None).unwrap().find(None).unwrap(), "");
    }

    #[test]
    fn an_empty_name_asks_for_no_prompt_in_spite_of_the_default() {
        let prompts = Prompts::new(e5(), Some("query".to_owned())).unwrap();
        assert_eq!(prompts.find(Some("")).unwrap(), "");
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_known() {
        let error = Prompts::new(e5(), None).unwrap().find(Some("title")).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Invalid, Some("prompt_name")));
        assert_eq!(error.message, "`prompt_name` is `title`, the model has: passage, query");
        let error = Prompts::default().find(Some("query")).unwrap_err();
        assert_eq!(error.message, "`prompt_name` is `query`, the model has: none");
    }

    #[test]
    fn a_default_that_is_none_of_the_prompts_is_refused_by_name() {
        let error = Prompts::new(e5(), Some("title".to_owned())).unwrap_err().to_string();
        assert_eq!(error, "default_prompt_name is \"title\", the prompts are: passage, query");
    }
}
