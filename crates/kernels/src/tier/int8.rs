//! Which instructions a tier multiplies int8 with.

use super::{Kind, Tier};

/// The ways to multiply int8, the fastest first. All give the same sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int8Kind {
    /// Tile registers, only in a tier that uses them for bf16 as well.
    Amx,
    /// 512-bit registers, unsigned times signed.
    Vnni,
    /// 256-bit registers, pairs of sixteen bits; the tier that runs everywhere may use them as well: gemm does.
    Avx2,
    /// Plain Rust.
    Portable,
}

impl Tier {
    /// What int8 weights of this tier are multiplied with: `amx-int8`, `avx512-vnni`, `avx2-int8` or `portable-int8`.
    #[must_use]
    pub fn int8_name(self) -> &'static str {
        match self.int8_kind() {
            Int8Kind::Amx => "amx-int8",
            Int8Kind::Vnni => "avx512-vnni",
            Int8Kind::Avx2 => "avx2-int8",
            Int8Kind::Portable => "portable-int8",
        }
    }

    /// A tier never uses tiles for int8 that it does not use for floats. CPUID is slow in a virtual machine: ask once.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn int8_kind(self) -> Int8Kind {
        match self.0 {
            Kind::AmxBf16 if super::x86::has_amx_int8() => Int8Kind::Amx,
            Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512 if super::x86::has_vnni() => Int8Kind::Vnni,
            Kind::Avx512 | Kind::Avx2 | Kind::Portable if super::x86::has_avx2() => Int8Kind::Avx2,
            // No CPU is known that multiplies bf16 and has no VNNI.
            Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512 | Kind::Avx2 | Kind::Portable => {
                Int8Kind::Portable
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn int8_kind(self) -> Int8Kind {
        Int8Kind::Portable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tier_with_tiles_multiplies_int8_in_tiles() {
        for tier in Tier::available() {
            assert!(tier.int8_name() != "amx-int8" || tier.name() == "amx-bf16");
            assert!(tier.int8_name() != "avx512-vnni" || !["avx2", "portable"].contains(&tier.name()));
            assert!(tier.int8_name() != "portable-int8" || tier.name() == "portable");
        }
    }
}
