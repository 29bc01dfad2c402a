//! The checksums of what ml-base answers; what they are over is said in `inference.proto`.
//!
//! ```text
//!  caller:  item ─▶ Asked ┐ as it was sent            ml-base:  item ─▶ Asked ┐ as it came
//!         answer ─────────┴─▶ checksum, compared               answer ────────┴─▶ checksum, sent
//! ```

use std::collections::BTreeMap;

use crate::inference::{
    EmbedItem, EmbedResponse, InfoResponse, ItemResult, Limits, ModelInfo, embed_item::Input,
};

/// The half of an item's checksum that is over what is asked: its caller and its server each have their own.
#[derive(Debug)]
pub struct Asked(Sum);

impl Asked {
    /// The half of `item`.
    pub fn of(item: &EmbedItem) -> Self {
        let EmbedItem { input, prompt, truncation, timeout_ms } = item;
        let mut sum = Sum::default();
        match input {
            None => sum.number(0),
            Some(Input::Text(text)) => {
                sum.number(1);
                sum.text(text);
            }
            Some(Input::TokenIds(tokens)) => {
                sum.number(2);
                sum.numbers(&tokens.ids);
            }
        }
        sum.text(prompt);
        sum.signed(*truncation);
        sum.number(*timeout_ms);
        Self(sum)
    }

    /// CRC-32 of the item where it is answered with `result`, these bytes of a vector, and what `answer` says of all its
    /// items; see `ItemResult.checksum`.
    pub fn answered(self, answer: &EmbedResponse, result: &ItemResult, vector: &[u8]) -> u32 {
        let EmbedResponse { identity, width, element_type, precision_class, .. } = answer;
        let ItemResult { status, message, tokens, truncated, checksum: _ } = result;
        let Self(mut sum) = self;
        sum.text(identity);
        sum.number(*width);
        sum.signed(*element_type);
        sum.signed(*precision_class);
        sum.signed(*status);
        sum.text(message);
        sum.number(*tokens);
        sum.number((*truncated).into());
        sum.bytes(vector);
        sum.finish()
    }
}

/// CRC-32 of what ml-base says of its models; see `InfoResponse.checksum`.
pub fn of_info(info: &InfoResponse) -> u32 {
    let mut sum = Sum::default();
    sum.count(info.models.len());
    info.models.iter().for_each(|model| sum.model(model));
    if let Some(Limits { items_max, text_bytes_max, message_bytes_max, calls_max }) = &info.limits {
        [items_max, text_bytes_max, message_bytes_max, calls_max]
            .iter()
            .for_each(|limit| sum.number(**limit));
    }
    sum.finish()
}

/// A checksum in the making. What has no length of its own has its length in front: "ab", "c" is not "a", "bc".
#[derive(Debug, Default)]
struct Sum(crc32fast::Hasher);

impl Sum {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn number(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    fn signed(&mut self, number: i32) {
        self.bytes(&number.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.bytes(&(count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }

    fn numbers(&mut self, numbers: &[u32]) {
        self.count(numbers.len());
        numbers.iter().for_each(|number| self.number(*number));
    }

    fn texts_by_name(&mut self, texts: &BTreeMap<String, String>) {
        self.count(texts.len());
        for (name, text) in texts {
            self.text(name);
            self.text(text);
        }
    }

    /// All fields, named: a new one has to be thought of here.
    fn model(&mut self, model: &ModelInfo) {
        let ModelInfo {
            id,
            alias,
            identity,
            width,
            trained_dimensions,
            tokens_max,
            precision_class,
            pooling,
            layer_norm_before_cut,
            prompts,
            default_prompt_name,
        } = model;
        [id, alias, identity].iter().for_each(|text| self.text(text));
        self.number(*width);
        self.numbers(trained_dimensions);
        self.number(*tokens_max);
        self.signed(*precision_class);
        self.text(pooling);
        self.number((*layer_norm_before_cut).into());
        self.texts_by_name(prompts);
        self.text(default_prompt_name);
    }

    fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::TokenIds;

    const VECTOR: [u8; 4] = [1, 2, 3, 4];

    fn item() -> EmbedItem {
        let input = Some(Input::Text("text".to_owned()));
        EmbedItem { input, prompt: "in front: ".to_owned(), truncation: 1, timeout_ms: 30_000 }
    }

    fn of_ids(ids: &[u32]) -> EmbedItem {
        EmbedItem { input: Some(Input::TokenIds(TokenIds { ids: ids.to_vec() })), ..item() }
    }

    fn answer() -> EmbedResponse {
        EmbedResponse {
            width: 1,
            element_type: 1,
            identity: "ab".repeat(32),
            precision_class: 1,
            ..EmbedResponse::default()
        }
    }

    fn result() -> ItemResult {
        ItemResult { status: 1, message: "why".to_owned(), tokens: 7, truncated: true, checksum: 0 }
    }

    fn info() -> InfoResponse {
        let model = ModelInfo {
            id: "model".to_owned(),
            alias: "alias".to_owned(),
            identity: "ab".repeat(32),
            width: 768,
            trained_dimensions: vec![768, 256],
            tokens_max: 512,
            precision_class: 1,
            pooling: "mean".to_owned(),
            layer_norm_before_cut: true,
            prompts: [("query".to_owned(), "query: ".to_owned())].into(),
            default_prompt_name: "query".to_owned(),
        };
        let limits = Limits { items_max: 128, text_bytes_max: 9, message_bytes_max: 10, calls_max: 11 };
        InfoResponse { models: vec![model], limits: Some(limits), ..InfoResponse::default() }
    }

    #[test]
    fn the_numbers_are_those_of_every_build() {
        let of_text = Asked::of(&item()).answered(&answer(), &result(), &VECTOR);
        let of_tokens = Asked::of(&of_ids(&[101, 102])).answered(&answer(), &result(), &VECTOR);
        assert_eq!([of_text, of_tokens, of_info(&info())], PINNED);
    }

    /// By zlib, of the same bytes.
    const PINNED: [u32; 3] = [1_887_805_792, 4_134_132_102, 2_487_584_800];

    #[test]
    fn whatever_changes_in_what_is_asked_is_noticed() {
        let sum = |item: &EmbedItem| Asked::of(item).answered(&answer(), &result(), &VECTOR);
        let others = [
            EmbedItem { input: Some(Input::Text("texT".to_owned())), ..item() },
            EmbedItem { input: None, ..item() },
            EmbedItem { prompt: "in front:".to_owned(), ..item() },
            EmbedItem {
                input: Some(Input::Text("tex".to_owned())),
                prompt: "tin front: ".to_owned(),
                ..item()
            },
            EmbedItem { truncation: 2, ..item() },
            EmbedItem { timeout_ms: 1, ..item() },
            of_ids(&[101, 102]),
            of_ids(&[101, 103]),
            of_ids(&[]),
        ];
        let others = others.each_ref().map(sum);
        assert!(!others.contains(&sum(&item())));
        assert_ne!(others[6], others[7]);
    }

    #[test]
    fn whatever_changes_in_what_is_answered_is_noticed() {
        let sum = |answer: EmbedResponse, result: ItemResult, vector: &[u8]| {
            Asked::of(&item()).answered(&answer, &result, vector)
        };
        let others = [
            sum(EmbedResponse { identity: "cd".repeat(32), ..answer() }, result(), &VECTOR),
            sum(EmbedResponse { width: 2, ..answer() }, result(), &VECTOR),
            sum(EmbedResponse { element_type: 2, ..answer() }, result(), &VECTOR),
            sum(EmbedResponse { precision_class: 2, ..answer() }, result(), &VECTOR),
            sum(answer(), ItemResult { status: 2, ..result() }, &VECTOR),
            sum(answer(), ItemResult { message: "who".to_owned(), ..result() }, &VECTOR),
            sum(answer(), ItemResult { tokens: 8, ..result() }, &VECTOR),
            sum(answer(), ItemResult { truncated: false, ..result() }, &VECTOR),
            sum(answer(), result(), &[1, 2, 3, 5]),
            sum(answer(), result(), &[]),
        ];
        assert!(!others.contains(&sum(answer(), result(), &VECTOR)));
    }

    #[test]
    fn whatever_changes_in_what_is_said_of_a_model_is_noticed() {
        let changes: [fn(&mut ModelInfo); 12] = [
            |model| model.id.push('s'),
            |model| model.alias.clear(),
            |model| model.identity.replace_range(..1, "b"),
            |model| model.width = 384,
            |model| model.trained_dimensions[1] = 257,
            |model| model.tokens_max = 513,
            |model| model.precision_class = 2,
            |model| model.pooling.clear(),
            |model| model.layer_norm_before_cut = false,
            |model| model.prompts = [("query".to_owned(), "quesy: ".to_owned())].into(),
            |model| model.prompts = [("quesy".to_owned(), "query: ".to_owned())].into(),
            |model| model.default_prompt_name.clear(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = info();
            change(&mut changed.models[0]);
            assert_ne!(of_info(&changed), of_info(&info()), "change {number}");
        }
        let without_limits = InfoResponse { limits: None, ..info() };
        let without_models = InfoResponse { models: Vec::new(), ..info() };
        for changed in [without_limits, without_models] {
            assert_ne!(of_info(&changed), of_info(&info()), "{changed:?}");
        }
    }
}
