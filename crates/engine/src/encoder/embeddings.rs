//! The sum of word, position and token-type embeddings, then a norm.

use half::bf16;
use kernels::{Team, Tier};

use super::buffers::Buffers;
use super::norm::Norm;
use crate::batch::RaggedBatch;
use crate::config::{Counting, NormPlace, PositionTable, Shape};
use crate::error::LoadError;
use crate::weights::Weights;

/// Embedding tables. Every text is of token type 0, so that row is added in at load: to the positions, or to the words
/// where there are no learned positions.
pub(super) struct Embeddings {
    words: Table,
    positions: Option<Positions>,
    norm: Norm,
    hidden: usize,
}

/// `(vocabulary, hidden)`
enum Table {
    Float32(Vec<f32>),
    /// Where products round their inputs to bfloat16 as well.
    Bfloat16(Vec<bf16>),
}

struct Positions {
    /// `(rows, hidden)`
    rows: Vec<f32>,
    counting: Counting,
}

impl Embeddings {
    pub(super) fn load(shape: &Shape, weights: &Weights, tier: Tier) -> Result<Self, LoadError> {
        let (names, hidden) = (shape.names, shape.hidden);
        let table = |name: &str, rows| weights.values(&format!("{name}.weight"), &[rows, hidden]);
        let first_type = match shape.token_types {
            0 => vec![0.0; hidden],
            rows => table(names.token_types, rows)?[..hidden].to_vec(),
        };
        let mut words = table(names.words, shape.vocabulary)?;
        let positions = match shape.positions {
            None => {
                add_to_rows(&mut words, &first_type);
                None
            }
            Some(PositionTable { rows, counting }) => {
                let mut rows = table(names.positions, rows)?;
                add_to_rows(&mut rows, &first_type);
                Some(Positions { rows, counting })
            }
        };
        Ok(Self {
            words: Table::new(words, tier),
            positions,
            norm: Norm::load(shape, weights, names.embedding_norm, NormPlace::AfterBlock)?,
            hidden,
        })
    }

    /// Embeds packed ids into the residual stream, normed.
    pub(super) fn forward(&self, batch: &RaggedBatch, buffers: &mut Buffers, team: &mut Team<'_>) {
        let Buffers { rows, lengths, normed, .. } = buffers;
        rows.clear();
        lengths.clear();
        for range in batch.ranges() {
            lengths.push(range.len());
            let ids = &batch.ids()[range];
            let start = rows.len();
            ids.iter().for_each(|id| self.words.append(*id, self.hidden, rows));
            if let Some(positions) = &self.positions {
                positions.add(ids, &mut rows[start..]);
            }
        }
        self.norm.apply(rows, normed, team);
    }
}

impl Table {
    fn new(values: Vec<f32>, tier: Tier) -> Self {
        if tier.rounds_to_bfloat16() {
            Self::Bfloat16(values.into_iter().map(bf16::from_f32).collect())
        } else {
            Self::Float32(values)
        }
    }

    fn append(&self, id: u32, width: usize, rows: &mut Vec<f32>) {
        let range = id as usize * width..(id as usize + 1) * width;
        match self {
            Self::Float32(values) => rows.extend_from_slice(&values[range]),
            Self::Bfloat16(values) => rows.extend(values[range].iter().map(|value| value.to_f32())),
        }
    }
}

impl Positions {
    /// Adds the positions of one text to its rows.
    fn add(&self, ids: &[u32], rows: &mut [f32]) {
        let width = rows.len() / ids.len();
        let mut others = 0;
        for (place, (id, row)) in ids.iter().zip(rows.chunks_exact_mut(width)).enumerate() {
            let position = match self.counting {
                Counting::FromZero => place,
                Counting::FromPadding(padding) if *id == padding => padding as usize,
                Counting::FromPadding(padding) => {
                    others += 1;
                    padding as usize + others
                }
            };
            let position = &self.rows[position * width..][..width];
            row.iter_mut().zip(position).for_each(|(value, position)| *value += position);
        }
    }
}

fn add_to_rows(rows: &mut [f32], row: &[f32]) {
    for values in rows.chunks_exact_mut(row.len()) {
        values.iter_mut().zip(row).for_each(|(value, other)| *value += other);
    }
}
