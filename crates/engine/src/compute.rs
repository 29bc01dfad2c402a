//! Which code computes a model: own kernels where the CPU has what they need, candle elsewhere.

use kernels::Tier;

use crate::batch::RaggedBatch;
use crate::config::Shape;
use crate::encoder::{Encoder, Packing, WeightType};
use crate::error::{EmbedError, LoadError};
use crate::model::BertEncoder;
use crate::weights::Weights;

const AMX_TIER: &str = "amx-bf16";
/// Own f32 kernels need it; without it candle's products are faster than portable code.
const AVX512_TIER: &str = "avx512";
const PORTABLE_TIER: &str = "portable";

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
    /// Products of int8 values with exact sums: weights scaled by output, tokens as they come. All else is as in bfloat16
    /// where there are AMX tiles, float32 elsewhere.
    Int8,
}

/// The instructions that may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isa {
    /// The fastest of this CPU.
    #[default]
    Auto,
    /// AMX tiles, and AVX-512 where tiles have nothing to offer. No other choice uses tiles.
    Amx,
    /// AVX-512, and VNNI for int8.
    Avx512,
    /// Plain Rust.
    Portable,
}

impl Isa {
    /// A word for it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Amx => "amx",
            Self::Avx512 => "avx512",
            Self::Portable => "portable",
        }
    }

    /// The tier that is asked for by name; none where any will do.
    fn tier(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Amx => Some(AMX_TIER),
            Self::Avx512 => Some(AVX512_TIER),
            Self::Portable => Some(PORTABLE_TIER),
        }
    }
}

impl Compute {
    /// All there are, whether this CPU has them or not.
    pub const ALL: [Self; 4] = [Self::Int8, Self::Bfloat16, Self::Float32, Self::Candle];

    /// A word for it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Candle => "candle",
            Self::Bfloat16 => "bfloat16",
            Self::Int8 => "int8",
        }
    }

    fn weight_type(self) -> WeightType {
        match self {
            Self::Float32 | Self::Candle | Self::Bfloat16 => WeightType::Float,
            Self::Int8 => WeightType::Int8,
        }
    }
}

/// A loaded model.
pub(crate) enum Model {
    Own(Encoder, Compute),
    Candle(BertEncoder),
}

impl Model {
    pub(crate) fn load(
        shape: &Shape,
        weights: &Weights,
        compute: Compute,
        isa: Isa,
    ) -> Result<Self, LoadError> {
        match tier(shape, compute, isa)? {
            Some(tier) => {
                let packing = Packing { tier, weights: compute.weight_type() };
                Ok(Self::Own(Encoder::load(shape, weights, packing)?, compute))
            }
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
            Self::Own(encoder, compute) => computes_with(encoder.tier(), *compute),
            Self::Candle(_) => CANDLE,
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

/// What a model is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The choice of the configuration, or candle where own kernels do not compute this model.
    pub compute: Compute,
    /// Its name: a tier of the kernels, or `candle`.
    pub computes_with: &'static str,
}

impl Plan {
    /// Of a model of this shape where `compute` was asked for.
    pub(crate) fn of(shape: &Shape, compute: Compute, isa: Isa) -> Result<Self, LoadError> {
        let own = |tier| Self { compute, computes_with: computes_with(tier, compute) };
        let candle = Self { compute: Compute::Candle, computes_with: CANDLE };
        Ok(tier(shape, compute, isa)?.map_or(candle, own))
    }
}

const CANDLE: &str = "candle";

fn computes_with(tier: Tier, compute: Compute) -> &'static str {
    match compute {
        Compute::Int8 => tier.int8_name(),
        Compute::Float32 | Compute::Candle | Compute::Bfloat16 => tier.name(),
    }
}

/// The tier of own kernels; none where candle computes.
fn tier(shape: &Shape, compute: Compute, isa: Isa) -> Result<Option<Tier>, LoadError> {
    let candle = BertEncoder::computes(shape);
    match (compute, isa) {
        (Compute::Candle, _) if candle => Ok(None),
        (Compute::Candle, _) => Ok(Some(Tier::force(PORTABLE_TIER)?)),
        (Compute::Float32, Isa::Auto) => match Tier::force(AVX512_TIER) {
            Err(_) if candle => Ok(None),
            Err(_) => Ok(Some(Tier::force(PORTABLE_TIER)?)),
            Ok(tier) => Ok(Some(tier)),
        },
        // Tiles do not multiply float32; a CPU that has them has AVX-512.
        (Compute::Float32, Isa::Amx) => {
            Tier::force(AMX_TIER).and_then(|_| Tier::force(AVX512_TIER)).map(Some).map_err(LoadError::from)
        }
        (Compute::Bfloat16, Isa::Avx512 | Isa::Portable) => {
            Err(LoadError::Isa { compute: compute.name(), needed: AMX_TIER, forced: isa.name() })
        }
        (Compute::Bfloat16, Isa::Auto | Isa::Amx) => Ok(Some(Tier::force(AMX_TIER)?)),
        (Compute::Float32 | Compute::Int8, _) => {
            Ok(Some(isa.tier().map_or_else(|| Ok(Tier::detect()), Tier::force)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier_of(compute: Compute, isa: Isa) -> Result<Option<&'static str>, LoadError> {
        let config = r#"{"model_type": "mpnet", "vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 1, "intermediate_size": 32, "hidden_act": "gelu", "max_position_embeddings": 9}"#;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, config).unwrap();
        let shape = Shape::read(&file).unwrap();
        tier(&shape, compute, isa).map(|tier| tier.map(Tier::name))
    }

    #[test]
    fn forced_avx512_and_portable_code_never_use_tiles() {
        for isa in [Isa::Avx512, Isa::Portable] {
            for compute in [Compute::Float32, Compute::Int8] {
                match tier_of(compute, isa) {
                    Ok(name) => assert_eq!(name, isa.tier(), "{compute:?}"),
                    Err(error) => assert!(error.to_string().contains("which have portable"), "{error}"),
                }
            }
            let error = tier_of(Compute::Bfloat16, isa).unwrap_err().to_string();
            assert!(error.contains("bfloat16 needs amx-bf16") && error.contains(isa.name()), "{error}");
        }
    }

    #[test]
    fn forced_tiles_are_those_of_bfloat16_and_int8_or_a_refusal_that_names_what_there_is() {
        for compute in [Compute::Bfloat16, Compute::Int8] {
            match tier_of(compute, Isa::Amx) {
                Ok(name) => assert_eq!(name, Some(AMX_TIER)),
                Err(error) => assert!(error.to_string().contains("which have"), "{error}"),
            }
        }
    }

    #[test]
    fn int8_runs_on_any_cpu() {
        assert_eq!(tier_of(Compute::Int8, Isa::Auto).unwrap(), Some(Tier::detect().name()));
    }
}
