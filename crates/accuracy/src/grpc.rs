//! ml-base over gRPC: pooled vectors at full width, finished here for every width as embedding-single would.

use anyhow::{Context, bail, ensure};
use hyper::Uri;
use protocol::inference::{
    ElementType, EmbedItem, EmbedRequest, EmbedResponse, InfoRequest, ItemStatus, ModelInfo, PrecisionClass,
    embed_item::Input, inference_client::InferenceClient,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use vector::{Finish, ModelWidths, Normalization, Widths, codec};

use crate::{
    http::ANSWER_TIMEOUT,
    prompts::Prompts,
    server::{Cut, Served, class_name, is_asked_for, widths},
};

/// A connection to ml-base.
#[derive(Debug)]
pub(crate) struct Grpc {
    client: InferenceClient<Channel>,
    model: ModelInfo,
}

impl Grpc {
    /// Connects, and asks for the model and the texts that one call may hold.
    ///
    /// # Errors
    /// Where nobody answers or the model is not served.
    pub(crate) async fn connect(base: &Uri, model: Option<&str>) -> anyhow::Result<(Self, Served, usize)> {
        let endpoint = Endpoint::from(base.clone()).timeout(ANSWER_TIMEOUT);
        let channel = endpoint.connect().await.context("connect for gRPC")?;
        let mut client = InferenceClient::new(channel).max_decoding_message_size(usize::MAX);
        let info = client.info(InfoRequest {}).await.map_err(|status| said("Info", &status))?.into_inner();
        let known: Vec<_> = info.models.iter().map(|found| found.id.as_str()).collect();
        let missing = format!("it serves {}, not `{}`", known.join(", "), model.unwrap_or_default());
        let found = info.models.into_iter().find(|found| is_asked_for(model, &found.id, &found.alias));
        let model = found.context(missing)?;
        let served = Served {
            id: model.id.clone(),
            identity: model.identity.clone(),
            precision: class_name(model.precision_class).to_owned(),
            widths: widths(model.width, model.trained_dimensions.clone()),
            prompts: Prompts::of_model(|name| model.prompts.get(name).map(String::as_str)),
        };
        let items_max = info.limits.map_or(1, |limits| limits.items_max as usize);
        Ok((Self { client, model }, served, items_max))
    }

    /// Appends the vectors of `texts` to each cut.
    ///
    /// # Errors
    /// Where the call or a text is refused, or the answer is not what was asked for.
    pub(crate) async fn embed(&mut self, texts: &[String], cuts: &mut [Cut]) -> anyhow::Result<()> {
        let item =
            |text: &String| EmbedItem { input: Some(Input::Text(text.clone())), ..EmbedItem::default() };
        let request = EmbedRequest {
            model: self.model.id.clone(),
            expected_identity: self.model.identity.clone(),
            items: texts.iter().map(item).collect(),
        };
        let answer = self.client.embed(request).await.map_err(|status| said("Embed", &status))?.into_inner();
        let numbers = self.read(&answer, texts)?;
        for cut in cuts {
            let Cut { width, rows } = cut;
            let model = &self.model;
            let widths = ModelWidths {
                full: model.width,
                trained: &model.trained_dimensions,
                layer_norm_before_cut: model.layer_norm_before_cut,
            };
            let finish = Finish::new(Some(*width), widths, Widths::Any, Normalization::Unit)?;
            rows.extend(numbers.chunks_exact(model.width as usize).map(|pooled| finish.apply(pooled)));
        }
        Ok(())
    }

    /// The pooled vectors of an answer in the form that clients get, one after another.
    fn read(&self, answer: &EmbedResponse, texts: &[String]) -> anyhow::Result<Vec<f32>> {
        let EmbedResponse { results, vectors, width, precision_class, .. } = answer;
        ensure!(results.len() == texts.len(), "{} results came for {} texts", results.len(), texts.len());
        if let Some((result, text)) =
            results.iter().zip(texts).find(|(result, _)| result.status() != ItemStatus::Ok)
        {
            bail!("it refuses a text: {}; the text is `{text}`", result.message);
        }
        let class = class_name(*precision_class);
        let announced = class_name(self.model.precision_class);
        ensure!(class == announced, "vectors of class {class} came, {announced} was announced");
        let mut numbers = match answer.element_type() {
            ElementType::Float32 => codec::read_float32(vectors)?,
            ElementType::Float16 => codec::read_float16(vectors)?,
            ElementType::Unspecified => bail!("the answer does not say how its numbers are written"),
        };
        let wanted = texts.len() * *width as usize;
        ensure!(
            *width == self.model.width && numbers.len() == wanted,
            "{} numbers came for {} texts of width {}",
            numbers.len(),
            texts.len(),
            self.model.width
        );
        // embedding-single keeps and answers every other class as float16.
        if answer.precision_class() != PrecisionClass::Float32 {
            codec::round_to_float16(&mut numbers);
        }
        Ok(numbers)
    }
}

fn said(call: &str, status: &Status) -> anyhow::Error {
    anyhow::anyhow!("{call} answered {:?}: {}", status.code(), status.message())
}
