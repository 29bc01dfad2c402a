//! The JSON of `POST /embed`, which embedding-single and ml-base both serve, in two shapes.
//!
//! | request | answer |
//! |---|---|
//! | `{"texts": [..], "normalize": true}` | an object with `embeddings`, `dimension`, `model`, `processing_time_ms`, … |
//! | `{"inputs": ".." or [..]}` (text-embeddings-inference) | a matrix, also for one text |
//!
//! Invariant: what [`parse`] returns holds at least one text, no empty text, no NUL, and no more than the limits allow.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    error::{ApiError, ErrorCode},
    inference::Truncation,
};

/// Which of the two shapes a request came in, and its answer leaves in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `texts`, answered by an object.
    Texts,
    /// `inputs`, answered by a matrix.
    Inputs,
}

impl Shape {
    /// The field that holds the texts, as errors name it.
    pub fn list(self) -> &'static str {
        match self {
            Self::Texts => "texts",
            Self::Inputs => "inputs",
        }
    }
}

/// Whether a request may ask for a width that its model was not trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrainedDimensions {
    /// Where it says `allow_untrained_dimensions`.
    OnRequest,
    /// Not even then.
    Forbidden,
}

/// What one request may hold.
#[derive(Debug, Clone, Copy)]
pub struct TextLimits {
    /// Texts of one request.
    pub texts_max: usize,
    /// Bytes of one text, in UTF-8.
    pub text_bytes_max: usize,
    /// Name of the edition the limits come from, for messages.
    pub edition: &'static str,
    /// Whether a width that was not trained can be asked for.
    pub untrained_dimensions: UntrainedDimensions,
}

/// A request to embed texts, checked against [`TextLimits`] but not yet against a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedCall {
    /// The shape to answer in.
    pub shape: Shape,
    /// The texts, in the caller's order.
    pub texts: Vec<String>,
    /// Id or alias of a model; `None` means the default one.
    pub model: Option<String>,
    /// Scale the vectors to unit norm.
    pub normalize: bool,
    /// Cut the vectors to this width; `None` means the served default.
    pub dimensions: Option<u32>,
    /// Also where the model was not trained for that width.
    pub allow_untrained_dimensions: bool,
    /// What to do with a text over the model's limit.
    pub truncation: Truncation,
    /// Name of a prompt the model ships; `None` for its default one, empty for none.
    pub prompt_name: Option<String>,
    /// Keep new vectors no longer than this.
    pub cache_ttl: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCall {
    texts: Option<Texts>,
    inputs: Option<Texts>,
    #[serde(alias = "model_id")]
    model: Option<String>,
    normalize: Option<bool>,
    dimensions: Option<u32>,
    allow_untrained_dimensions: Option<bool>,
    truncate: Option<bool>,
    truncation_direction: Option<Direction>,
    prompt_name: Option<String>,
    cache_ttl_seconds: Option<u64>,
}

#[derive(Deserialize)]
enum Direction {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}

/// One text or a list of texts. Written by hand because an untagged enum would lose the name of the wrong element.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Texts, E> {
                Ok(Texts(vec![text]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Reads the body of `POST /embed`.
///
/// # Errors
/// [`ErrorCode::Malformed`] for what is not such a body at all, [`ErrorCode::TooLarge`] for too many texts,
/// [`ErrorCode::Invalid`] for a text or value outside the limits. Each names its field.
pub fn parse(body: &[u8], limits: &TextLimits) -> Result<EmbedCall, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let raw: RawCall = serde_path_to_error::deserialize(&mut json).map_err(|error| malformed(&error))?;
    json.end().map_err(|error| {
        ApiError::new(ErrorCode::Malformed, format!("the body goes on after its JSON value ({error})"))
    })?;
    let (shape, texts) = match (raw.texts, raw.inputs) {
        (Some(Texts(texts)), None) => (Shape::Texts, texts),
        (None, Some(Texts(texts))) => (Shape::Inputs, texts),
        (None, None) => {
            return Err(required("texts", "`texts` or `inputs` is required: a list of texts to embed"));
        }
        (Some(_), Some(_)) => {
            return Err(required("inputs", "`texts` and `inputs` exclude each other: send one of them"));
        }
    };
    check_texts(shape, &texts, limits)?;
    Ok(EmbedCall {
        shape,
        texts,
        model: raw.model.filter(|model| !model.is_empty()),
        normalize: raw.normalize.unwrap_or(true),
        dimensions: raw.dimensions,
        allow_untrained_dimensions: check_untrained(raw.allow_untrained_dimensions, limits)?,
        truncation: truncation(raw.truncate, raw.truncation_direction),
        prompt_name: raw.prompt_name,
        cache_ttl: check_ttl(raw.cache_ttl_seconds)?,
    })
}

fn required(field: &str, message: &str) -> ApiError {
    ApiError::new(ErrorCode::Malformed, message).at_field(field)
}

fn malformed(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let path = error.path().to_string();
    let cause = error.inner();
    if cause.is_syntax() || cause.is_eof() {
        return ApiError::new(ErrorCode::Malformed, format!("the body is not valid JSON: {cause}"));
    }
    if path == "." {
        return ApiError::new(
            ErrorCode::Malformed,
            format!("the body is not what POST /embed takes: {cause}"),
        );
    }
    ApiError::new(ErrorCode::Malformed, format!("field `{path}`: {cause}")).at_field(path)
}

fn truncation(truncate: Option<bool>, direction: Option<Direction>) -> Truncation {
    match (truncate, direction) {
        (Some(false), _) => Truncation::None,
        (_, Some(Direction::Left)) => Truncation::Left,
        (_, Some(Direction::Right) | None) => Truncation::Right,
    }
}

fn check_untrained(allow: Option<bool>, limits: &TextLimits) -> Result<bool, ApiError> {
    match (allow.unwrap_or(false), limits.untrained_dimensions) {
        (true, UntrainedDimensions::Forbidden) => {
            let message = "`allow_untrained_dimensions` is true, but only trained widths are served here";
            Err(ApiError::new(ErrorCode::Invalid, message).at_field("allow_untrained_dimensions"))
        }
        (allow, _) => Ok(allow),
    }
}

fn check_ttl(seconds: Option<u64>) -> Result<Option<Duration>, ApiError> {
    match seconds {
        Some(0) => Err(ApiError::new(ErrorCode::Invalid, "`cache_ttl_seconds` is 0, the least is 1")
            .at_field("cache_ttl_seconds")),
        other => Ok(other.map(Duration::from_secs)),
    }
}

fn check_texts(shape: Shape, texts: &[String], limits: &TextLimits) -> Result<(), ApiError> {
    let list = shape.list();
    if texts.is_empty() {
        return Err(required(list, &format!("`{list}` is empty: send at least one text")));
    }
    if texts.len() > limits.texts_max {
        let message = format!(
            "`{list}` holds {} texts, the limit of edition {} is {} a request",
            texts.len(),
            limits.edition,
            limits.texts_max
        );
        return Err(ApiError::new(ErrorCode::TooLarge, message).at_field(list));
    }
    texts.iter().enumerate().try_for_each(|(index, text)| {
        check_text(text, limits.text_bytes_max, &format_args!("{list}[{index}]"))
            .map_err(|error| error.at_text(list, index))
    })
}

/// Checks one text: not empty, no NUL, not over the limit of bytes. `name` is how the message calls it.
///
/// # Errors
/// [`ErrorCode::Malformed`] or [`ErrorCode::Invalid`] with one sentence.
pub fn check_text(text: &str, text_bytes_max: usize, name: &dyn fmt::Display) -> Result<(), ApiError> {
    if text.is_empty() {
        return Err(ApiError::new(
            ErrorCode::Malformed,
            format!("`{name}` is empty: a text has at least one character"),
        ));
    }
    if text.len() > text_bytes_max {
        let message = format!("`{name}` has {} bytes, the limit is {text_bytes_max} a text", text.len());
        return Err(ApiError::new(ErrorCode::Invalid, message));
    }
    if let Some(at) = text.bytes().position(|byte| byte == 0) {
        return Err(ApiError::new(
            ErrorCode::Malformed,
            format!("`{name}` holds a NUL character at byte {at}"),
        ));
    }
    Ok(())
}

/// The answer to [`Shape::Texts`].
#[derive(Debug, Serialize)]
pub struct TextsAnswer<'a, R> {
    /// One row for each text, in the order of the request: (texts, dimension).
    pub embeddings: &'a [R],
    /// Numbers in a row.
    pub dimension: usize,
    /// Id of the model that answered.
    pub model: &'a str,
    /// Milliseconds from the arrival of the request to this answer.
    pub processing_time_ms: f64,
    /// Texts that were answered from a cache.
    pub cached_count: usize,
    /// Name of the edition in force.
    pub edition: &'a str,
    /// Texts in the request.
    pub batch_size: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TextLimits = TextLimits {
        texts_max: 4,
        text_bytes_max: 32,
        edition: "simple",
        untrained_dimensions: UntrainedDimensions::OnRequest,
    };

    fn refusal(body: &[u8]) -> ApiError {
        parse(body, &LIMITS).expect_err("the body should be refused")
    }

    #[test]
    fn both_shapes_are_read() {
        let call = parse(br#"{"texts": ["a", "b"], "normalize": false}"#, &LIMITS).unwrap();
        assert_eq!((call.shape, call.texts.len(), call.normalize), (Shape::Texts, 2, false));
        let call =
            parse(br#"{"inputs": "a", "truncate": true, "truncation_direction": "Left"}"#, &LIMITS).unwrap();
        assert_eq!((call.shape, call.texts.as_slice()), (Shape::Inputs, ["a".to_owned()].as_slice()));
        assert_eq!(call.truncation, Truncation::Left);
    }

    #[test]
    fn wrong_element_is_named() {
        let error = refusal(br#"{"texts": ["a", 5]}"#);
        assert_eq!(error.field.as_deref(), Some("texts[1]"));
        assert!(error.message.contains("invalid type: integer `5`"), "{error}");
    }

    #[test]
    fn unknown_field_is_named_with_those_known() {
        let error = refusal(br#"{"texts": ["a"], "normalise": true}"#);
        assert!(error.message.contains("unknown field `normalise`"), "{error}");
        assert!(error.message.contains("`normalize`"), "{error}");
    }

    #[test]
    fn empty_list_empty_text_nul_and_too_long_text_are_refused_by_index() {
        assert_eq!(refusal(br#"{"inputs": []}"#).field.as_deref(), Some("inputs"));
        assert_eq!(refusal(br#"{"inputs": ["a", ""]}"#).text_index, Some(1));
        assert!(refusal(br#"{"inputs": ["a\u0000b"]}"#).message.contains("NUL character at byte 1"));
        let long = format!(r#"{{"texts": ["{}"]}}"#, "x".repeat(33));
        assert_eq!(refusal(long.as_bytes()).message, "`texts[0]` has 33 bytes, the limit is 32 a text");
    }

    #[test]
    fn too_many_texts_name_limit_and_edition() {
        let error = refusal(br#"{"texts": ["a","a","a","a","a"]}"#);
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert_eq!(error.message, "`texts` holds 5 texts, the limit of edition simple is 4 a request");
    }

    #[test]
    fn what_is_not_json_is_said_to_be_not_json() {
        for body in [
            &b"hello"[..],
            b"",
            b"{\"texts\": [\"\xff\"]}",
            br#"{"texts": ["\ud800"]}"#,
            b"{\"texts\": [\"a\"",
        ] {
            let error = refusal(body);
            assert_eq!(error.code, ErrorCode::Malformed);
            assert!(error.message.contains("JSON"), "{error}");
        }
        assert!(refusal(br#"{"texts": ["a"]} trailing"#).message.contains("goes on after"));
    }

    #[test]
    fn widths_that_were_not_trained_have_to_be_asked_for_and_may_be_forbidden() {
        let parse = |body: &[u8], untrained_dimensions| {
            parse(body, &TextLimits { untrained_dimensions, ..LIMITS })
                .map(|call| call.allow_untrained_dimensions)
        };
        let asking = br#"{"inputs": "a", "allow_untrained_dimensions": true}"#;
        assert_eq!(parse(asking, UntrainedDimensions::OnRequest), Ok(true));
        let error = parse(asking, UntrainedDimensions::Forbidden).unwrap_err();
        assert_eq!(
            (error.code, error.field.as_deref()),
            (ErrorCode::Invalid, Some("allow_untrained_dimensions"))
        );
        for policy in [UntrainedDimensions::OnRequest, UntrainedDimensions::Forbidden] {
            assert_eq!(parse(br#"{"inputs": "a"}"#, policy), Ok(false));
            assert_eq!(parse(br#"{"inputs": "a", "allow_untrained_dimensions": false}"#, policy), Ok(false));
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_recursing_into_it() {
        let body = format!(r#"{{"texts": {}"#, "[".repeat(100_000));
        assert_eq!(refusal(body.as_bytes()).code, ErrorCode::Malformed);
    }

    #[test]
    fn one_of_the_lists_is_required_and_not_both() {
        assert!(refusal(b"{}").message.contains("is required"));
        assert!(refusal(br#"{"texts": ["a"], "inputs": ["a"]}"#).message.contains("exclude each other"));
    }
}
