//! The BERT encoder on own kernels: weights packed once, every pass in buffers that are used again.
//!
//! ```text
//!  ids ─▶ rows (tokens, hidden) f32, the residual stream ◀────────── + ────────── + ◀─┐
//!           │ norm                                                    ▲            ▲   │ × layers
//!           └─▶ activations ─▶ qkv ─▶ attention per text ─▶ linear ───┘─▶ norm ─▶ gelu ─▶ linear
//! ```

use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use kernels::{Activations, Heads, LayerNorm, Output, PackedLinear, Scratch, Tier, attention};

use crate::batch::RaggedBatch;
use crate::config::BertConfig;
use crate::error::LoadError;
use crate::weights::Weights;

/// Buffers are made for a multiple of so many tokens.
const TOKENS_STEP: usize = 64;
/// Heads of another width are computed by candle.
const HEAD_WIDTH_MULTIPLE: usize = 32;

/// A loaded encoder; any number of threads may run it at once, each with buffers of its own.
pub(crate) struct PackedEncoder {
    tier: Tier,
    heads: Heads<'static>,
    hidden: usize,
    intermediate: usize,
    /// `(vocabulary, hidden)`
    words: Vec<f32>,
    /// `(positions, hidden)`. Every text is of token type 0, so that row is added in at load.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    /// Buffers that no pass uses now.
    buffers: Mutex<Vec<Buffers>>,
}

/// Weights of one layer.
struct Layer {
    qkv: PackedLinear,
    attention_out: PackedLinear,
    attention_norm: LayerNorm,
    up: PackedLinear,
    down: PackedLinear,
    down_norm: LayerNorm,
}

/// What one pass writes to. It grows to the largest pass it has seen.
struct Buffers {
    tokens_max: usize,
    /// `(tokens, hidden)`
    rows: Vec<f32>,
    lengths: Vec<usize>,
    normed: Activations,
    qkv: Activations,
    context: Activations,
    raised: Activations,
    scratch: Scratch,
}

impl PackedEncoder {
    /// True for a shape that the kernels compute.
    pub(crate) fn computes(config: &BertConfig) -> bool {
        (config.hidden / config.heads).is_multiple_of(HEAD_WIDTH_MULTIPLE)
    }

    /// Packs the weights for `tier`.
    pub(crate) fn load(config: &BertConfig, weights: &Weights, tier: Tier) -> Result<Self, LoadError> {
        let hidden = config.hidden;
        let table = |name: &str, rows| {
            weights.tensor(&format!("embeddings.{name}_embeddings.weight"), &[rows, hidden])
        };
        let first_type = table("token_type", config.token_types)?.narrow(0, 0, 1)?;
        let layers = (0..config.layers).map(|index| Layer::load(config, weights, tier, index));
        Ok(Self {
            tier,
            heads: Heads::new(config.heads, hidden / config.heads),
            hidden,
            intermediate: config.intermediate,
            words: values(&table("word", config.vocabulary)?)?,
            positions: values(&table("position", config.positions)?.broadcast_add(&first_type)?)?,
            norm: norm(config, weights, "embeddings.LayerNorm")?,
            layers: layers.collect::<Result<_, _>>()?,
            buffers: Mutex::default(),
        })
    }

    /// Values per hidden state.
    pub(crate) fn width(&self) -> usize {
        self.hidden
    }

    /// The instructions it computes with.
    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    /// Calls `pool` with the hidden states `(tokens, hidden)` of the last layer. Ids are within the vocabulary, texts
    /// within the positions.
    pub(crate) fn forward<R>(&self, batch: &RaggedBatch, pool: impl FnOnce(&[f32]) -> R) -> R {
        let mut buffers = self.take_buffers(batch.tokens());
        self.embed(batch, &mut buffers);
        self.norm.apply(&mut buffers.rows, &mut buffers.normed);
        for layer in &self.layers {
            layer.forward(self.heads, &mut buffers);
        }
        let pooled = pool(&buffers.rows);
        // A pass that panics does not give its buffers back.
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        pooled
    }

    fn take_buffers(&self, tokens: usize) -> Buffers {
        let taken = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fitting = taken.filter(|buffers| buffers.tokens_max >= tokens);
        // Rounded up, so that passes of a few more tokens need no new ones.
        fitting.unwrap_or_else(|| Buffers::new(self, tokens.next_multiple_of(TOKENS_STEP)))
    }

    fn embed(&self, batch: &RaggedBatch, buffers: &mut Buffers) {
        let width = self.hidden;
        buffers.rows.clear();
        buffers.lengths.clear();
        for range in batch.ranges() {
            buffers.lengths.push(range.len());
            for (&id, position) in batch.ids()[range].iter().zip(self.positions.chunks_exact(width)) {
                let word = &self.words[id as usize * width..][..width];
                buffers.rows.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
    }
}

impl Layer {
    fn load(config: &BertConfig, weights: &Weights, tier: Tier, index: usize) -> Result<Self, LoadError> {
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |part: &str, inputs, outputs| linear(weights, tier, &[&name(part)], inputs, outputs);
        let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Self {
            qkv: self::linear(weights, tier, &qkv.each_ref().map(String::as_str), hidden, hidden)?,
            attention_out: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: norm(config, weights, &name("attention.output.LayerNorm"))?,
            up: linear("intermediate.dense", hidden, intermediate)?,
            down: linear("output.dense", intermediate, hidden)?,
            down_norm: norm(config, weights, &name("output.LayerNorm"))?,
        })
    }

    /// From the normed rows of the layer before to those of this one.
    fn forward(&self, heads: Heads<'_>, buffers: &mut Buffers) {
        let Buffers { rows, lengths, normed, qkv, context, raised, scratch, .. } = buffers;
        self.qkv.apply(normed, Output::Activations(qkv), scratch);
        attention(qkv, lengths, heads, context, scratch);
        self.attention_out.apply(context, Output::AddTo(rows), scratch);
        self.attention_norm.apply(rows, normed);
        self.up.apply(normed, Output::Gelu(raised), scratch);
        self.down.apply(raised, Output::AddTo(rows), scratch);
        self.down_norm.apply(rows, normed);
    }
}

impl Buffers {
    fn new(encoder: &PackedEncoder, tokens_max: usize) -> Self {
        let (tier, hidden) = (encoder.tier, encoder.hidden);
        let activations = |width| Activations::new(tier, tokens_max, width);
        Self {
            tokens_max,
            rows: Vec::with_capacity(tokens_max * hidden),
            lengths: Vec::new(),
            normed: activations(hidden),
            qkv: activations(3 * hidden),
            context: activations(hidden),
            raised: activations(encoder.intermediate),
            scratch: Scratch::new(tier, tokens_max, encoder.heads.width),
        }
    }
}

/// The layers `names` of `outputs` each as one layer with their outputs side by side.
fn linear(
    weights: &Weights,
    tier: Tier,
    names: &[&str],
    inputs: usize,
    outputs: usize,
) -> Result<PackedLinear, LoadError> {
    let mut stacked = Vec::with_capacity(names.len() * outputs * inputs);
    let mut bias = Vec::with_capacity(names.len() * outputs);
    for name in names {
        stacked.extend(values(&weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?)?);
        bias.extend(weights.row(&format!("{name}.bias"), outputs)?);
    }
    Ok(PackedLinear::new(tier, &stacked, inputs, &bias))
}

fn norm(config: &BertConfig, weights: &Weights, name: &str) -> Result<LayerNorm, LoadError> {
    let row = |newer: &str, older: &str| {
        weights.row_of_either(&format!("{name}.{newer}"), &format!("{name}.{older}"), config.hidden)
    };
    Ok(LayerNorm::new(&row("weight", "gamma")?, &row("bias", "beta")?, config.norm_epsilon))
}

fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
