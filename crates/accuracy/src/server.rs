//! A server that answers, whichever kind it is: what it serves, and its vectors of every width it was trained for.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use hyper::{StatusCode, Uri, header::HeaderValue};
use protocol::inference::PrecisionClass;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    grpc::Grpc,
    http::{Http, refusal},
    progress::Progress,
    prompts::Prompts,
};

/// Texts of one call.
const CALL_TEXTS_MAX: usize = 32;

/// The model that answered, as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Served {
    /// Its name on the hub, or a directory's.
    pub(crate) id: String,
    /// Identity of its vector space.
    pub(crate) identity: String,
    /// How its vectors are computed.
    pub(crate) precision: String,
    /// Widths it was trained for, the full one first.
    pub(crate) widths: Vec<u32>,
    /// What goes in front of queries and texts.
    pub(crate) prompts: Prompts,
}

impl Served {
    /// The full width and those asked for, descending; all it was trained for where none is.
    ///
    /// # Errors
    /// If one is beyond the model.
    pub(crate) fn chosen(&self, asked: &[u32]) -> anyhow::Result<Vec<u32>> {
        let Some(full) = self.widths.first() else { bail!("the model has no width") };
        let wide = asked.iter().find(|width| *width > full);
        ensure!(wide.is_none(), "`--widths` has {}, the model has {full}", wide.unwrap_or(full));
        Ok(if asked.is_empty() { self.widths.clone() } else { widths(*full, asked.to_vec()) })
    }
}

/// All vectors of one width: unit norm, (texts, width).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cut {
    pub(crate) width: u32,
    pub(crate) rows: Vec<Vec<f32>>,
}

/// A server, and the model that is asked for.
#[derive(Debug)]
pub(crate) struct Server {
    served: Served,
    call_texts_max: usize,
    door: Door,
}

#[derive(Debug)]
enum Door {
    /// ml-base: raw vectors once, finished here for every width.
    Grpc(Grpc),
    /// embedding-single: asked once for every width.
    Http(Http, Option<String>),
}

impl Server {
    /// Asks the server what it serves. `model` is its default one where none is named.
    ///
    /// # Errors
    /// Where it does not answer or has no such model.
    pub(crate) async fn connect(
        base: &Uri,
        model: Option<&str>,
        bearer: Option<HeaderValue>,
    ) -> anyhow::Result<Self> {
        let http = Http::new(base.clone(), bearer);
        let info = match http.get("/info").await? {
            (StatusCode::OK, info) => info,
            (status, body) => bail!("GET /info answered {}", refusal(status, &body)),
        };
        if info["service"] == "ml-base" {
            let (grpc, served, items_max) = Grpc::connect(base, model).await?;
            return Ok(Self::new(served, items_max, Door::Grpc(grpc)));
        }
        let served = over_http(&info, model)?;
        let texts_max = info["limits"]["texts_max"].as_u64().and_then(|count| count.try_into().ok());
        Ok(Self::new(served, texts_max.unwrap_or(CALL_TEXTS_MAX), Door::Http(http, model.map(str::to_owned))))
    }

    fn new(served: Served, texts_max: usize, door: Door) -> Self {
        Self { served, call_texts_max: texts_max.clamp(1, CALL_TEXTS_MAX), door }
    }

    /// The model that answers.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// The vectors of `texts`, a cut for each of `widths`.
    ///
    /// # Errors
    /// Where a call or a text is refused, or an answer is not what was asked for.
    pub(crate) async fn embed(
        &mut self,
        texts: &[String],
        widths: &[u32],
        progress: &Progress,
    ) -> anyhow::Result<Vec<Cut>> {
        let mut cuts: Vec<Cut> = widths.iter().map(|width| Cut { width: *width, rows: Vec::new() }).collect();
        for chunk in texts.chunks(self.call_texts_max) {
            match &mut self.door {
                Door::Grpc(grpc) => grpc.embed(chunk, &mut cuts).await?,
                Door::Http(http, model) => {
                    for cut in &mut cuts {
                        let rows = ask(http, model.as_deref(), &self.served, chunk, cut.width);
                        cut.rows.extend(rows.await.with_context(|| format!("width {}", cut.width))?);
                    }
                }
            }
            progress.add(chunk.len());
        }
        let is_finite =
            cuts.iter().flat_map(|cut| cut.rows.iter().flatten()).all(|number| number.is_finite());
        ensure!(is_finite, "a vector holds a number that is none");
        Ok(cuts)
    }
}

/// What embedding-single says of its model.
fn over_http(info: &Value, model: Option<&str>) -> anyhow::Result<Served> {
    let models =
        info["models"].as_array().context("GET /info lists no models: is it embedding-single or ml-base?")?;
    let text_of = |found: &Value, field: &str| found[field].as_str().unwrap_or_default().to_owned();
    let known: Vec<_> = models.iter().map(|found| text_of(found, "id")).collect();
    let missing = || format!("it serves {}, not `{}`", known.join(", "), model.unwrap_or_default());
    let is_found = |found: &&Value| is_asked_for(model, &text_of(found, "id"), &text_of(found, "alias"));
    let found = models.iter().find(is_found).with_context(missing)?;
    let text = |field: &str| text_of(found, field);
    let number = |value: &Value| value.as_u64().and_then(|width| width.try_into().ok());
    let width = number(&found["width"]).context("GET /info names no width")?;
    let trained = found["trained_dimensions"].as_array().into_iter().flatten().filter_map(number);
    Ok(Served {
        id: text("id"),
        identity: text("identity"),
        precision: text("precision"),
        widths: widths(width, trained.collect()),
        prompts: Prompts::of_model(|name| found["prompts"][name].as_str()),
    })
}

/// Whether a served model is the one that was named: by id or alias, or as the directory it was loaded from.
pub(crate) fn is_asked_for(model: Option<&str>, id: &str, alias: &str) -> bool {
    let is_named = |model| model == id || model == alias || Path::new(model).file_name() == Some(id.as_ref());
    model.is_none_or(is_named)
}

/// The widths to compare: those the model was trained for, or its own where it names none.
pub(crate) fn widths(width: u32, mut trained: Vec<u32>) -> Vec<u32> {
    trained.push(width);
    trained.sort_unstable_by(|left, right| right.cmp(left));
    trained.dedup();
    trained
}

async fn ask(
    http: &Http,
    model: Option<&str>,
    served: &Served,
    texts: &[String],
    width: u32,
) -> anyhow::Result<Vec<Vec<f32>>> {
    // The prompts stand in the texts already, so the model's default one is not wanted.
    let mut body = json!({"inputs": texts, "normalize": true, "dimensions": width, "prompt_name": ""});
    if let Some(model) = model {
        body["model"] = model.into();
    }
    if !served.widths.contains(&width) {
        body["allow_untrained_dimensions"] = true.into();
    }
    let (headers, answer) = http.post("/embed", &body).await?;
    let class = headers.get("x-precision").and_then(|class| class.to_str().ok());
    ensure!(
        class.is_none_or(|class| class == served.precision),
        "vectors of class {} came, {} was announced",
        class.unwrap_or_default(),
        served.precision
    );
    let rows: Vec<Vec<f32>> = serde_json::from_value(answer).context("read the matrix of vectors")?;
    ensure!(rows.len() == texts.len(), "{} vectors came for {} texts", rows.len(), texts.len());
    let is_wide = |row: &Vec<f32>| u32::try_from(row.len()) == Ok(width);
    ensure!(rows.iter().all(is_wide), "a vector came in another width");
    Ok(rows)
}

/// The name of a class, or what stands for it.
pub(crate) fn class_name(number: i32) -> &'static str {
    PrecisionClass::try_from(number).map_or("unknown", PrecisionClass::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_trained_ones_and_the_full_one_once_descending() {
        assert_eq!(widths(384, vec![]), [384]);
        assert_eq!(widths(384, vec![384]), [384]);
        assert_eq!(widths(768, vec![64, 768, 256]), [768, 256, 64]);
    }

    #[test]
    fn full_width_is_always_among_the_chosen_and_none_is_beyond_it() {
        let served = Served {
            id: String::new(),
            identity: String::new(),
            precision: String::new(),
            widths: vec![768, 256],
            prompts: Prompts::default(),
        };
        assert_eq!(served.chosen(&[]).unwrap(), [768, 256]);
        assert_eq!(served.chosen(&[100, 300, 100]).unwrap(), [768, 300, 100]);
        assert_eq!(served.chosen(&[769]).unwrap_err().to_string(), "`--widths` has 769, the model has 768");
    }

    #[test]
    fn model_is_known_by_id_alias_and_directory() {
        for (model, expected) in
            [(None, true), (Some("a/b"), true), (Some("medium"), true), (Some("b"), false), (Some(""), false)]
        {
            assert_eq!(is_asked_for(model, "a/b", "medium"), expected, "{model:?}");
        }
        assert!(is_asked_for(Some("./models/tiny/"), "tiny", ""));
    }

    #[test]
    fn model_of_embedding_single_is_the_first_or_the_named_one() {
        let model = |id: &str| {
            json!({"id": id, "alias": "", "identity": "f0", "precision": "bfloat16", "width": 8,
                   "trained_dimensions": [8, 4], "prompts": {"query": "q: "}})
        };
        let info = json!({"models": [model("a/b"), model("c/d")]});
        assert_eq!(over_http(&info, None).unwrap().id, "a/b");
        let served = over_http(&info, Some("c/d")).unwrap();
        assert_eq!((served.id.as_str(), served.widths.as_slice()), ("c/d", [8, 4].as_slice()));
        assert_eq!((served.prompts.query.as_str(), served.prompts.text.as_str()), ("q: ", ""));
        assert_eq!(over_http(&info, Some("e")).unwrap_err().to_string(), "it serves a/b, c/d, not `e`");
    }
}
