//! Self-attention: queries, keys and values as one product, then what each token gathers from its own text.

use kernels::{Heads, Output, PackedLinear, RelativeBias, Rotation, Team, attention};

use super::buffers::Buffers;
use super::columns;
use super::stacked::{Packing, Stacked};
use crate::config::{RelativeBuckets, Shape};
use crate::error::LoadError;
use crate::weights::Weights;

/// How scores are made, the same in all layers.
pub(super) struct Scoring {
    heads: usize,
    /// Columns of a head, padding included.
    width: usize,
    scale: f32,
    bias: Option<RelativeBias>,
}

impl Scoring {
    pub(super) fn new(shape: &Shape, bias: Option<RelativeBias>) -> Self {
        let width = columns::padded(shape.head_width());
        Self { heads: shape.heads, width, scale: scale(shape), bias }
    }

    fn heads(&self, window: Option<usize>) -> Heads<'_> {
        Heads { count: self.heads, width: self.width, scale: self.scale, window, bias: self.bias.as_ref() }
    }
}

fn scale(shape: &Shape) -> f32 {
    1.0 / (shape.head_width() as f32).sqrt()
}

/// Weights of one layer.
pub(super) struct Attention {
    qkv: PackedLinear,
    out: PackedLinear,
    /// Which angles turn queries and keys.
    rotary: Option<usize>,
    window: Option<usize>,
}

impl Attention {
    pub(super) fn load(
        shape: &Shape,
        weights: &Weights,
        packing: Packing,
        index: usize,
    ) -> Result<Self, LoadError> {
        let (names, hidden, layer) = (shape.names, shape.hidden, shape.layers[index]);
        let name = |part: &&str| format!("{}{index}.{part}", names.layer);
        let qkv: Vec<String> = names.qkv.iter().map(name).collect();
        let qkv = Stacked::read(weights, &qkv, (3 * hidden, hidden), shape.biases.attention)?;
        let out = [name(&names.attention_out)];
        let out = Stacked::read(weights, &out, (hidden, hidden), shape.biases.attention)?;
        Ok(Self {
            qkv: qkv.with_outputs(&qkv_order(shape, layer.rotary)).pack(packing),
            out: out.with_inputs(&heads_order(shape, &columns::in_order(shape.head_width()))).pack(packing),
            rotary: layer.rotary,
            window: layer.window,
        })
    }

    /// Adds what the tokens gather to the residual stream.
    pub(super) fn forward(&self, scoring: &Scoring, buffers: &mut Buffers, team: &mut Team<'_>) {
        let Buffers { rows, lengths, angles, normed, qkv, context, .. } = buffers;
        let heads = scoring.heads(self.window);
        let output = match self.rotary {
            None => Output::Activations(qkv),
            Some(rotary) => {
                let columns = 2 * heads.count * heads.width;
                Output::Rotated(qkv, Rotation { angles: &angles[rotary], width: heads.width, columns })
            }
        };
        self.qkv.apply(normed, output, &mut *team);
        attention(qkv, lengths, heads, context, &mut *team);
        self.out.apply(context, Output::AddTo(rows), team);
    }
}

/// Where each output of the packed product is in the file: queries and keys in pairs where they are turned.
fn qkv_order(shape: &Shape, rotary: Option<usize>) -> Vec<Option<usize>> {
    let plain = columns::in_order(shape.head_width());
    let turned = rotary.map(|rotary| columns::in_pairs(shape.head_width(), shape.rotaries[rotary].pairs));
    let queries_and_keys = turned.as_ref().unwrap_or(&plain);
    let parts = [queries_and_keys, queries_and_keys, &plain].into_iter().enumerate();
    parts
        .flat_map(|(part, columns)| {
            let columns = heads_order(shape, columns);
            columns.into_iter().map(move |column| column.map(|column| part * shape.hidden + column))
        })
        .collect()
}

/// The columns of all heads, each in the order `columns`.
fn heads_order(shape: &Shape, columns: &[Option<usize>]) -> Vec<Option<usize>> {
    let width = shape.head_width();
    let head = |head: usize| columns.iter().map(move |column| column.map(|column| head * width + column));
    (0..shape.heads).flat_map(head).collect()
}

/// The bias of scores by distance, from its table `(buckets, heads)`.
pub(super) fn relative_bias(
    shape: &Shape,
    buckets: RelativeBuckets,
    weights: &Weights,
) -> Result<RelativeBias, LoadError> {
    let name = format!("{}.weight", shape.names.relative);
    let table = weights.values(&name, &[buckets.buckets, shape.heads])?;
    let of = |head: usize, distance: isize| table[bucket(buckets, distance) * shape.heads + head];
    Ok(RelativeBias::new(shape.heads, shape.tokens_max, scale(shape), of))
}

/// The bucket of a key that is `distance` ahead of its query: half of the buckets for either side, of those half for
/// near distances one by one and half for the others by their logarithm. (T5, Raffel et al. 2020, as MPNet has it.)
fn bucket(RelativeBuckets { buckets, distance_max }: RelativeBuckets, distance: isize) -> usize {
    let side = buckets / 2;
    let near = side / 2;
    let first = if distance > 0 { side } else { 0 };
    let far = distance.unsigned_abs();
    if far < near {
        return first + far;
    }
    // In f32, as the model's own code has it: the last bit decides at the border of a bucket.
    let ratio = (far as f32 / near as f32).ln() / (distance_max as f32 / near as f32).ln();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 0, cut off as there"
    )]
    let step = (ratio * (side - near) as f32) as usize;
    first + (near + step).min(side - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_model_s_own_code() {
        // `MPNetEncoder.relative_position_bucket` of transformers 5.23.
        let buckets = RelativeBuckets { buckets: 32, distance_max: 128 };
        let found: Vec<usize> = [0, -1, 1, -7, 8, -9, 16, -32, 64, -100, 127, 128, -511, 511]
            .into_iter()
            .map(|distance| bucket(buckets, distance))
            .collect();
        assert_eq!(found, [0, 1, 17, 7, 24, 8, 26, 12, 30, 15, 31, 31, 15, 31]);
    }
}
