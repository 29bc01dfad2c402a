//! Brings one chunk to the server and comes back with a vector or a sentence for each line.
//!
//! | the server says | the courier |
//! |---|---|
//! | 200 | takes the vectors |
//! | an error that names one text | fails that text, sends the others again |
//! | an error that names none | halves the request until the culprits are alone |
//! | 429, 503 and the like, or nothing | waits and asks again until its patience ends |
//! | no text could ever pass (key, model, dimensions) | ends the run |
//!
//! Invariant: each loop ends: a request either shrinks or uses up a bounded patience.

use std::{num::NonZeroU32, sync::Arc};

use hyper::StatusCode;

use crate::{
    chunk::Chunk,
    client::{EmbedBody, Refusal, Vectors},
    patience::{Failure, PatientClient},
};

/// What to ask of the server for every text.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Id or alias of a model.
    pub(crate) model: Option<String>,
    /// Width of the vectors.
    pub(crate) dimensions: Option<NonZeroU32>,
    /// Scale to unit norm.
    pub(crate) normalize: bool,
}

/// A vector and the identity of the model that made it.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// (dimensions)
    pub(crate) values: Vec<f32>,
    /// Equal for all vectors that may be compared.
    pub(crate) identity: Option<Arc<str>>,
}

/// A line on its way back.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// Counted from 1.
    pub(crate) number: u64,
    /// The vector, or one sentence on why there is none.
    pub(crate) outcome: Result<Embedding, String>,
}

/// A chunk on its way back, in the order it left.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// One for each line of the chunk.
    pub(crate) lines: Vec<Delivered>,
    /// Texts that came out of a cache.
    pub(crate) hits: u64,
}

/// No text of this run can pass: one sentence on why.
#[derive(Debug)]
pub(crate) struct Hopeless(pub(crate) String);

/// Carries chunks; shared by all that are on their way.
#[derive(Debug)]
pub(crate) struct Courier {
    client: PatientClient,
    wish: Wish,
}

impl Courier {
    /// Asks for `wish` through `client`.
    pub(crate) fn new(client: PatientClient, wish: Wish) -> Self {
        Self { client, wish }
    }

    /// Brings `chunk` to the server.
    ///
    /// # Errors
    /// [`Hopeless`] where no other text could pass either.
    pub(crate) async fn deliver(&self, chunk: Chunk) -> Result<Delivery, Hopeless> {
        let mut delivery = Delivery { lines: Vec::with_capacity(chunk.len()), hits: 0 };
        let mut texts = Vec::with_capacity(chunk.len());
        let mut first = Vec::new();
        for line in chunk {
            let (text, outcome) = match line.text {
                Ok(text) => {
                    first.push(texts.len());
                    (text, Err(String::new()))
                }
                Err(sentence) => (String::new(), Err(sentence)),
            };
            texts.push(text);
            delivery.lines.push(Delivered { number: line.number, outcome });
        }
        let mut waiting = vec![first];
        while let Some(part) = waiting.pop().filter(|part| !part.is_empty()) {
            let inputs: Vec<&str> = part.iter().map(|&at| texts[at].as_str()).collect();
            match self.call(&inputs).await {
                Ok(vectors) => accept(vectors, &part, &mut delivery),
                Err(Failure::OutOfPatience(sentence)) => fail(&part, &sentence, &mut delivery),
                Err(Failure::Refused(refusal)) if is_hopeless(&refusal) => {
                    return Err(Hopeless(refusal.message));
                }
                Err(Failure::Refused(refusal)) => waiting.extend(shrink(part, &refusal, &mut delivery)),
            }
        }
        Ok(delivery)
    }

    async fn call(&self, inputs: &[&str]) -> Result<Vectors, Failure> {
        let Wish { model, dimensions, normalize } = &self.wish;
        let body = EmbedBody {
            inputs,
            truncate: true,
            normalize: *normalize,
            dimensions: *dimensions,
            model: model.as_deref(),
        };
        let body = serde_json::to_vec(&body).map_err(|error| Failure::OutOfPatience(error.to_string()))?;
        let vectors = self.client.embed(body.into()).await?;
        check_rows(&vectors.rows, inputs.len())
            .map_err(|message| Failure::Refused(Refusal { message, ..Refusal::default() }))?;
        Ok(vectors)
    }
}

/// True where the fault is in what all requests share: the key, the address, the model, the dimensions.
fn is_hopeless(refusal: &Refusal) -> bool {
    let about_the_texts = refusal.text_index.is_some()
        || refusal.field.as_ref().is_none_or(|field| field.is_empty() || field.starts_with("inputs"));
    match refusal.status {
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::UNSUPPORTED_MEDIA_TYPE => true,
        status => status.is_client_error() && !about_the_texts,
    }
}

/// The requests to send in place of the one refused: without the text at fault, or in two halves.
fn shrink(mut part: Vec<usize>, refusal: &Refusal, delivery: &mut Delivery) -> Vec<Vec<usize>> {
    if let Some(index) = refusal.text_index.filter(|&index| index < part.len()) {
        let at = part.remove(index);
        fail(&[at], &about_one_text(refusal), delivery);
        return if part.is_empty() { vec![] } else { vec![part] };
    }
    if part.len() == 1 {
        fail(&part, &about_one_text(refusal), delivery);
        return vec![];
    }
    let rest = part.split_off(part.len() / 2);
    vec![rest, part]
}

/// The server's sentence, with "the text" for the place in a request that the reader never saw.
fn about_one_text(refusal: &Refusal) -> String {
    match &refusal.field {
        Some(field) => refusal.message.replace(&format!("`{field}`"), "the text"),
        None => refusal.message.clone(),
    }
}

fn check_rows(rows: &[Vec<f32>], texts: usize) -> Result<(), String> {
    if rows.len() != texts {
        return Err(format!("the server answered {} vectors for {texts} texts", rows.len()));
    }
    if rows.iter().flatten().any(|value| !value.is_finite()) {
        return Err("the server answered a number that float32 cannot hold".to_owned());
    }
    if rows.iter().any(Vec::is_empty) {
        return Err("the server answered an empty vector".to_owned());
    }
    Ok(())
}

fn accept(vectors: Vectors, part: &[usize], delivery: &mut Delivery) {
    delivery.hits += vectors.hits;
    let identity: Option<Arc<str>> = vectors.identity.map(Arc::from);
    for (&at, values) in part.iter().zip(vectors.rows) {
        delivery.lines[at].outcome = Ok(Embedding { values, identity: identity.clone() });
    }
}

fn fail(part: &[usize], sentence: &str, delivery: &mut Delivery) {
    for &at in part {
        delivery.lines[at].outcome = Err(sentence.to_owned());
    }
}
