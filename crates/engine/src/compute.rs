//! Which code computes a model: own kernels where the CPU has what they need, candle elsewhere.

use kernels::Tier;

use crate::batch::RaggedBatch;
use crate::config::Shape;
use crate::encoder::Encoder;
use crate::error::{EmbedError, LoadError};
use crate::model::BertEncoder;
use crate::weights::Weights;

/// Own f32 kernels need it; without it candle's products are faster than portable code.
const FLOAT32_TIER: &str = "avx512";
const PORTABLE_TIER: &str = "portable";
const BFLOAT16_TIER: &str = "amx-bf16";

/// What a model is computed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compute {
    /// float32, by the fastest code for this CPU.
    #[default]
    Float32,
    /// float32, by candle's products.
    Candle,
    /// Products of bfloat16 values with float32 sums, on AMX tiles; all else is float32.
    Bfloat16,
}

impl Compute {
    /// All there are, whether this CPU has them or not.
    pub const ALL: [Self; 3] = [Self::Bfloat16, Self::Float32, Self::Candle];

    /// A word for it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Candle => "candle",
            Self::Bfloat16 => "bfloat16",
        }
    }
}

/// What a model would be if it were loaded, told without reading its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What it is computed with: the choice that was asked for, or candle where own kernels do not compute this model.
    pub compute: Compute,
    /// Values per vector.
    pub width: usize,
    /// Most tokens of one text.
    pub tokens_max: usize,
}

impl Plan {
    pub(crate) fn new(shape: &Shape, compute: Compute) -> Result<Self, LoadError> {
        let compute = tier(shape, compute)?.map_or(Compute::Candle, |_| compute);
        Ok(Self { compute, width: shape.hidden, tokens_max: shape.tokens_max })
    }
}

/// A loaded model.
pub(crate) enum Model {
    Own(Encoder, Compute),
    Candle(BertEncoder),
}

impl Model {
    pub(crate) fn load(shape: &Shape, weights: &Weights, compute: Compute) -> Result<Self, LoadError> {
        match tier(shape, compute)? {
            Some(tier) => Ok(Self::Own(Encoder::load(shape, weights, tier)?, compute)),
            None => Ok(Self::Candle(BertEncoder::load(shape, weights)?)),
        }
    }

    /// Values per hidden state.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Own(encoder, _) => encoder.width(),
            Self::Candle(encoder) => encoder.width(),
        }
    }

    pub(crate) fn compute(&self) -> Compute {
        match self {
            Self::Own(_, compute) => *compute,
            Self::Candle(_) => Compute::Candle,
        }
    }

    /// The name of what it computes with.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Own(encoder, _) => encoder.tier().name(),
            Self::Candle(_) => "candle",
        }
    }

    /// Calls `pool` with the hidden states `(tokens, hidden)` of the last layer.
    pub(crate) fn forward<R>(
        &self,
        batch: &RaggedBatch,
        pool: impl FnOnce(&[f32]) -> R,
    ) -> Result<R, EmbedError> {
        match self {
            Self::Own(encoder, _) => Ok(encoder.forward(batch, pool)),
            Self::Candle(encoder) => Ok(crate::model::read(&encoder.forward(batch)?, pool)?),
        }
    }
}

/// The tier of own kernels; none where candle computes.
fn tier(shape: &Shape, compute: Compute) -> Result<Option<Tier>, LoadError> {
    let candle = BertEncoder::computes(shape);
    match compute {
        Compute::Candle if candle => Ok(None),
        Compute::Candle => Ok(Some(Tier::force(PORTABLE_TIER)?)),
        Compute::Float32 => match Tier::force(FLOAT32_TIER) {
            Err(_) if candle => Ok(None),
            Err(_) => Ok(Some(Tier::force(PORTABLE_TIER)?)),
            Ok(tier) => Ok(Some(tier)),
        },
        Compute::Bfloat16 => Ok(Some(Tier::force(BFLOAT16_TIER)?)),
    }
}
