//! What a model is computed with, and which instructions that means on this CPU.

use kernels::{Tier, TierError};

use crate::config::Shape;
use crate::error::LoadError;

const BFLOAT16_TIER: &str = "amx-bf16";
const FLOAT32_TIER: &str = "avx512";
const PORTABLE_TIER: &str = "portable";

/// What a model is computed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compute {
    /// float32, by the fastest code for this CPU.
    #[default]
    Float32,
    /// float32, by code that runs on every CPU.
    Portable,
    /// Products of bfloat16 values with float32 sums, on AMX tiles; all else is float32.
    Bfloat16,
}

impl Compute {
    /// All there are, whether this CPU has them or not.
    pub const ALL: [Self; 3] = [Self::Bfloat16, Self::Float32, Self::Portable];

    /// A word for it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Portable => "portable",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// The instructions it means.
    pub(crate) fn tier(self) -> Result<Tier, TierError> {
        match self {
            Self::Float32 => Tier::force(FLOAT32_TIER).or_else(|_| Tier::force(PORTABLE_TIER)),
            Self::Portable => Tier::force(PORTABLE_TIER),
            Self::Bfloat16 => Tier::force(BFLOAT16_TIER),
        }
    }
}

/// What a model would be if it were loaded, told without reading its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What it is computed with.
    pub compute: Compute,
    /// Values per vector.
    pub width: usize,
    /// Most tokens of one text.
    pub tokens_max: usize,
}

impl Plan {
    pub(crate) fn new(shape: &Shape, compute: Compute) -> Result<Self, LoadError> {
        compute.tier()?;
        Ok(Self { compute, width: shape.hidden, tokens_max: shape.tokens_max })
    }
}
