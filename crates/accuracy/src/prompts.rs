//! What goes in front of a query and of a text, where a model was trained to see it.

use serde::Serialize;

/// Names that models give the prompt of a query.
const QUERY: [&str; 2] = ["query", "search_query"];
/// Names that models give the prompt of a text that is searched.
const TEXT: [&str; 3] = ["document", "passage", "search_document"];

/// Prompts of the command line; what is not there is the model's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GivenPrompts {
    pub(crate) query: Option<String>,
    pub(crate) text: Option<String>,
}

/// Prompts that are used, empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Prompts {
    /// In front of each query.
    pub(crate) query: String,
    /// In front of each text.
    pub(crate) text: String,
}

impl Prompts {
    /// Those of a model; `find` gives the text of a name.
    pub(crate) fn of_model<'a>(find: impl Fn(&str) -> Option<&'a str>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| find(name)).unwrap_or_default().to_owned();
        Self { query: first(&QUERY), text: first(&TEXT) }
    }

    /// The same, but for what was given.
    pub(crate) fn overridden(self, given: &GivenPrompts) -> Self {
        let GivenPrompts { query, text } = given.clone();
        Self { query: query.unwrap_or(self.query), text: text.unwrap_or(self.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(known: &'static [(&str, &str)]) -> Prompts {
        Prompts::of_model(|name| known.iter().find(|(known, _)| *known == name).map(|(_, text)| *text))
    }

    #[test]
    fn prompts_of_a_model_are_known_by_the_usual_names() {
        let e5 = model(&[("passage", "passage: "), ("query", "query: ")]);
        assert_eq!((e5.query.as_str(), e5.text.as_str()), ("query: ", "passage: "));
        let bge = model(&[("query", "Represent: "), ("classification", "c: ")]);
        assert_eq!((bge.query.as_str(), bge.text.as_str()), ("Represent: ", ""));
        assert_eq!(model(&[]), Prompts::default());
    }

    #[test]
    fn what_is_given_wins_also_where_it_is_empty() {
        let given = GivenPrompts { query: Some(String::new()), text: None };
        let prompts = model(&[("query", "q: "), ("document", "d: ")]).overridden(&given);
        assert_eq!((prompts.query.as_str(), prompts.text.as_str()), ("", "d: "));
    }
}
