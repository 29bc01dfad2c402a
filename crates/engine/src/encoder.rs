//! Which code computes a model: own kernels where the CPU has what they need, candle elsewhere.

use kernels::Tier;

use crate::batch::RaggedBatch;
use crate::config::BertConfig;
use crate::error::{EmbedError, LoadError};
use crate::model::BertEncoder;
use crate::packed::PackedEncoder;
use crate::weights::Weights;

/// Own f32 kernels need it; without it candle's products are faster than portable code.
const FLOAT32_TIER: &str = "avx512";
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

/// A loaded encoder.
pub(crate) enum Encoder {
    Packed(PackedEncoder, Compute),
    Candle(BertEncoder),
}

impl Encoder {
    pub(crate) fn load(config: &BertConfig, weights: &Weights, compute: Compute) -> Result<Self, LoadError> {
        match tier(config, compute)? {
            Some(tier) => Ok(Self::Packed(PackedEncoder::load(config, weights, tier)?, compute)),
            None => Ok(Self::Candle(BertEncoder::load(config, weights)?)),
        }
    }

    /// Values per hidden state.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Packed(encoder, _) => encoder.width(),
            Self::Candle(encoder) => encoder.width(),
        }
    }

    pub(crate) fn compute(&self) -> Compute {
        match self {
            Self::Packed(_, compute) => *compute,
            Self::Candle(_) => Compute::Candle,
        }
    }

    /// The name of what it computes with.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Packed(encoder, _) => encoder.tier().name(),
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
            Self::Packed(encoder, _) => Ok(encoder.forward(batch, pool)),
            Self::Candle(encoder) => Ok(crate::model::read(&encoder.forward(batch)?, pool)?),
        }
    }
}

/// What a model of this shape is computed with where `compute` was asked for.
pub(crate) fn plan(config: &BertConfig, compute: Compute) -> Result<Compute, LoadError> {
    Ok(tier(config, compute)?.map_or(Compute::Candle, |_| compute))
}

/// The tier of own kernels; none where candle computes.
fn tier(config: &BertConfig, compute: Compute) -> Result<Option<Tier>, LoadError> {
    match compute {
        Compute::Candle => Ok(None),
        Compute::Float32 => Ok(Tier::force(FLOAT32_TIER).ok().filter(|_| PackedEncoder::computes(config))),
        Compute::Bfloat16 if !PackedEncoder::computes(config) => {
            Err(LoadError::HeadWidth { found: config.hidden / config.heads })
        }
        Compute::Bfloat16 => Ok(Some(Tier::force(BFLOAT16_TIER)?)),
    }
}
