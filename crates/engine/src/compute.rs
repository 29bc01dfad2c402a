//! What a model is computed with, and which instructions that means on this CPU.

use kernels::Tier;

use crate::config::Shape;
use crate::encoder::{Packing, WeightType};
use crate::error::LoadError;

const AMX_TIER: &str = "amx-bf16";
const AVX512_BF16_TIER: &str = "avx512-bf16";
const AVX512_INT16_TIER: &str = "avx512-int16";
const AVX512_TIER: &str = "avx512";
const AVX2_INT16_TIER: &str = "avx2-int16";
const AVX2_TIER: &str = "avx2";
const PORTABLE_TIER: &str = "portable";

/// What a model is computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compute {
    /// float32 throughout.
    #[default]
    Float32,
    /// Products of bfloat16 values with float32 sums, on AMX tiles or AVX-512's bfloat16, or of sixteen-bit whole numbers with
    /// exact sums where the CPU multiplies those faster, or has no other; all else is float32.
    Bfloat16,
    /// Products of int8 values with exact sums: weights scaled by output, tokens as they come. All else is as in bfloat16
    /// where that is what the CPU is fastest with, float32 elsewhere.
    Int8,
}

impl Compute {
    /// All there are, whether this CPU has them or not.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Bfloat16, Self::Float32];

    /// bfloat16 where this CPU, using `isa` only, has faster instructions for it than for float32; else float32.
    #[must_use]
    pub fn automatic(isa: Isa) -> Self {
        let place = |compute: Self| {
            let tier = compute.tier(isa).ok()?;
            Tier::available().iter().position(|available| *available == tier)
        };
        match (place(Self::Bfloat16), place(Self::Float32)) {
            (Some(bfloat16), float32) if float32.is_none_or(|float32| bfloat16 < float32) => Self::Bfloat16,
            _ => Self::Float32,
        }
    }

    /// A word for it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Int8 => "int8",
        }
    }

    /// How its weights are packed where only the instructions `isa` may be used.
    pub(crate) fn packing(self, isa: Isa) -> Result<Packing, LoadError> {
        let weights = match self {
            Self::Float32 | Self::Bfloat16 => WeightType::Float,
            Self::Int8 => WeightType::Int8,
        };
        Ok(Packing { tier: self.tier(isa)?, weights })
    }

    /// The name of the instructions that multiply weights of `packing`.
    pub(crate) fn instructions(packing: Packing) -> &'static str {
        match packing.weights {
            WeightType::Float => packing.tier.name(),
            WeightType::Int8 => packing.tier.int8_name(),
        }
    }

    /// The fastest tier for it of those that use `isa` only.
    fn tier(self, isa: Isa) -> Result<Tier, LoadError> {
        let names: &[&str] = match (self, isa) {
            (Self::Bfloat16, Isa::Auto) => &[AMX_TIER, AVX512_BF16_TIER, AVX512_INT16_TIER, AVX2_INT16_TIER],
            (Self::Bfloat16 | Self::Int8, Isa::Amx) => &[AMX_TIER],
            (Self::Bfloat16, Isa::Avx512) => &[AVX512_BF16_TIER, AVX512_INT16_TIER],
            (Self::Bfloat16 | Self::Int8, Isa::Avx2) => &[AVX2_INT16_TIER],
            (Self::Bfloat16, Isa::Portable) => {
                let needed = AVX2_INT16_TIER;
                return Err(LoadError::Isa { compute: self.name(), needed, forced: isa.name() });
            }
            (Self::Float32, Isa::Auto) => &[AVX512_TIER, AVX2_TIER, PORTABLE_TIER],
            // Tiles do not multiply float32; a CPU that has them has AVX-512.
            (Self::Float32, Isa::Amx) => {
                Tier::force(AMX_TIER)?;
                &[AVX512_TIER]
            }
            (Self::Float32, Isa::Avx512) => &[AVX512_TIER],
            (Self::Float32, Isa::Avx2) => &[AVX2_TIER],
            (Self::Int8, Isa::Auto) => return Ok(Tier::detect()),
            (Self::Int8, Isa::Avx512) => &[AVX512_BF16_TIER, AVX512_INT16_TIER, AVX512_TIER],
            (Self::Float32 | Self::Int8, Isa::Portable) => &[PORTABLE_TIER],
        };
        Ok(Tier::fastest_of(names)?)
    }
}

/// The instructions that may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isa {
    /// The fastest of this CPU.
    #[default]
    Auto,
    /// AMX tiles, and AVX-512 where tiles have nothing to offer. No other choice than this and `Auto` uses tiles.
    Amx,
    /// AVX-512, with VNNI for int8 and int16, and its bfloat16, where the CPU has them.
    Avx512,
    /// AVX2 and FMA, in 256-bit registers.
    Avx2,
    /// What every CPU has.
    Portable,
}

impl Isa {
    /// All there are, whether this CPU has them or not.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Amx, Self::Avx512, Self::Avx2, Self::Portable];

    /// A word for it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Amx => "amx",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

/// What a model would be if it were loaded, told without reading its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What it is computed in.
    pub compute: Compute,
    /// The name of the instructions for it.
    pub computes_with: &'static str,
    /// Values per vector.
    pub width: usize,
    /// Most tokens of one text.
    pub tokens_max: usize,
}

impl Plan {
    pub(crate) fn new(shape: &Shape, compute: Compute, isa: Isa) -> Result<Self, LoadError> {
        let computes_with = Compute::instructions(compute.packing(isa)?);
        Ok(Self { compute, computes_with, width: shape.hidden, tokens_max: shape.tokens_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instructions(compute: Compute, isa: Isa) -> Result<&'static str, String> {
        compute.packing(isa).map(Compute::instructions).map_err(|error| error.to_string())
    }

    #[test]
    fn forced_instructions_are_used_and_no_others() {
        for (isa, names) in [
            (Isa::Avx512, ["avx512", "avx512-vnni"]),
            (Isa::Avx2, ["avx2", "avx-vnni"]),
            (Isa::Portable, ["portable", "avx2-int8"]),
        ] {
            for (compute, name) in [Compute::Float32, Compute::Int8].into_iter().zip(names) {
                match instructions(compute, isa) {
                    // Not every CPU has VNNI of this width, or AVX2.
                    Ok(found) => {
                        let slower =
                            compute == Compute::Int8 && ["avx2-int8", "portable-int8"].contains(&found);
                        assert!(found == name || slower, "{compute:?}: {found}");
                    }
                    Err(error) => assert!(error.contains("not offered by this CPU"), "{error}"),
                }
            }
        }
        let error = instructions(Compute::Bfloat16, Isa::Portable).unwrap_err();
        assert!(error.contains("bfloat16 needs avx2-int16") && error.contains("portable"), "{error}");
        match instructions(Compute::Bfloat16, Isa::Avx512) {
            Ok(found) => assert!(["avx512-bf16", "avx512-int16"].contains(&found), "{found}"),
            Err(error) => assert!(error.contains("which have"), "{error}"),
        }
        match instructions(Compute::Bfloat16, Isa::Avx2) {
            Ok(found) => assert_eq!(found, "avx2-int16"),
            Err(error) => assert!(error.contains("which have"), "{error}"),
        }
    }

    #[test]
    fn forced_tiles_are_those_of_bfloat16_and_int8_or_a_refusal_that_names_what_there_is() {
        for compute in [Compute::Bfloat16, Compute::Int8] {
            match instructions(compute, Isa::Amx) {
                Ok(name) => assert!(name != "avx2-int8" && name != "portable-int8", "{name}"),
                Err(error) => assert!(error.contains("which have"), "{error}"),
            }
        }
    }

    #[test]
    fn automatic_is_bfloat16_where_it_is_faster_than_float32() {
        assert_eq!(Compute::automatic(Isa::Portable), Compute::Float32);
        for isa in Isa::ALL {
            // Only floats of 512 bits are faster than whole numbers of sixteen in 256.
            let both = [Compute::Bfloat16, Compute::Float32].map(|compute| instructions(compute, isa));
            let is_faster = both[0].is_ok() && both != [Ok("avx2-int16"), Ok("avx512")];
            assert_eq!(Compute::automatic(isa) == Compute::Bfloat16, is_faster, "{isa:?}");
        }
    }

    #[test]
    fn float32_and_int8_run_on_any_cpu() {
        for compute in [Compute::Float32, Compute::Int8] {
            assert!(instructions(compute, Isa::Auto).is_ok() && instructions(compute, Isa::Portable).is_ok());
        }
    }
}
