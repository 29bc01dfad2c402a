//! The two forms in which embedding servers are asked.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

/// How a server is asked for vectors, and how its answer is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Api {
    /// `POST /embed` with `{"inputs": […]}`, answered by a matrix: embedding-single, text-embeddings-inference.
    Embed,
    /// `POST /v1/embeddings` with `{"input": […], "model": …}`: OpenAI's, which most servers speak.
    OpenAi {
        /// What some servers insist on.
        model: String,
    },
}

impl Api {
    /// Where texts are sent.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Embed => "/embed",
            Self::OpenAi { .. } => "/v1/embeddings",
        }
    }

    /// The body that asks for the vectors of `texts`.
    ///
    /// # Errors
    /// Never for texts; serde_json checks them.
    pub(crate) fn body(&self, texts: &[Cow<'_, str>]) -> serde_json::Result<Bytes> {
        #[derive(Serialize)]
        struct Embed<'a> {
            inputs: &'a [Cow<'a, str>],
            truncate: bool,
            normalize: bool,
        }
        #[derive(Serialize)]
        struct OpenAi<'a> {
            input: &'a [Cow<'a, str>],
            model: &'a str,
            encoding_format: &'static str,
        }
        let body = match self {
            Self::Embed => serde_json::to_vec(&Embed { inputs: texts, truncate: true, normalize: true }),
            Self::OpenAi { model } => {
                serde_json::to_vec(&OpenAi { input: texts, model, encoding_format: "float" })
            }
        };
        body.map(Bytes::from)
    }

    /// Whether `body` has a vector for each of `texts` texts. Brackets are counted: to parse every number would load the machine that
    /// is being measured.
    pub(crate) fn answers(&self, body: &[u8], texts: usize) -> bool {
        // One bracket is that of the matrix, or of OpenAI's `data`.
        let vectors = body.iter().filter(|byte| **byte == b'[').count().saturating_sub(1);
        let end: &[u8] = match self {
            Self::Embed => b"]]",
            Self::OpenAi { .. } => b"}",
        };
        vectors == texts && body.trim_ascii_end().ends_with(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openai() -> Api {
        Api::OpenAi { model: "m".to_owned() }
    }

    #[test]
    fn answer_must_have_a_vector_for_each_text() {
        assert!(Api::Embed.answers(b"[[1,2],[3,4]]", 2));
        for wrong in [b"[[1,2]]".as_slice(), b"[[1,2],[3,4]", b"[]", b""] {
            assert!(!Api::Embed.answers(wrong, 2));
        }
        let answer = br#"{"object":"list","data":[{"embedding":[1,2]},{"embedding":[3]}],"usage":{"a":1}}"#;
        assert!(openai().answers(answer, 2));
        assert!(!openai().answers(answer, 1) && !openai().answers(b"{}", 1));
    }

    #[test]
    fn texts_are_sent_under_the_name_of_each_form() {
        let texts = [Cow::Borrowed("a")];
        let sent =
            |api: Api| serde_json::from_slice::<serde_json::Value>(&api.body(&texts).unwrap()).unwrap();
        assert_eq!(sent(Api::Embed)["inputs"][0], "a");
        assert_eq!((&sent(openai())["input"][0], &sent(openai())["model"]), (&"a".into(), &"m".into()));
    }
}
