//! Which instructions a tier multiplies int8 with.

use super::{Kind, Tier};

/// The ways to multiply int8, the fastest first. All give the same sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int8Kind {
    /// Tile registers, only in a tier that uses them for bf16 as well.
    Amx,
    /// 512-bit registers, unsigned times signed.
    Vnni,
    /// 256-bit registers, unsigned times signed: only in the tiers of those registers.
    AvxVnni,
    /// 256-bit registers, pairs of sixteen bits; the tier that runs everywhere may use them as well: gemm does.
    Avx2,
    /// Plain Rust.
    Portable,
}

impl Int8Kind {
    /// All of them, the fastest first.
    pub(crate) const ALL: [Self; 5] = [Self::Amx, Self::Vnni, Self::AvxVnni, Self::Avx2, Self::Portable];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx-int8",
            Self::Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2-int8",
            Self::Portable => "portable-int8",
        }
    }

    /// Whether a tier may use it: never registers, or tiles, that it does not use for floats.
    fn suits(self, tier: Kind) -> bool {
        match self {
            Self::Amx => tier == Kind::AmxBf16,
            Self::Vnni => {
                matches!(tier, Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512Int16 | Kind::Avx512)
            }
            Self::AvxVnni => matches!(tier, Kind::Avx2Int16 | Kind::Avx2),
            // No CPU is known that multiplies bf16 and has no VNNI.
            Self::Avx2 => matches!(tier, Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 | Kind::Portable),
            Self::Portable => true,
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Amx => super::x86::has_amx_bf16() && super::x86::has_amx_int8(),
            Self::Vnni => super::x86::has_avx512() && super::x86::has_vnni(),
            Self::AvxVnni => super::x86::has_avx_vnni(),
            Self::Avx2 => super::x86::has_avx2(),
            Self::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn is_available(self) -> bool {
        self == Self::Portable
    }
}

impl Tier {
    /// What int8 weights of this tier are multiplied with: `amx-int8`, `avx512-vnni`, `avx-vnni`, `avx2-int8` or
    /// `portable-int8`.
    #[must_use]
    pub fn int8_name(self) -> &'static str {
        self.int8_kind().name()
    }

    /// The fastest that suits the tier. CPUID is slow in a virtual machine: ask once.
    pub(crate) fn int8_kind(self) -> Int8Kind {
        let mut kinds = Int8Kind::ALL.into_iter();
        kinds.find(|kind| kind.suits(self.0) && kind.is_available()).unwrap_or(Int8Kind::Portable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tier_with_tiles_multiplies_int8_in_tiles() {
        for tier in Tier::available() {
            assert!(tier.int8_name() != "amx-int8" || tier.name() == "amx-bf16");
            assert!(
                tier.int8_name() != "avx512-vnni"
                    || !["avx2-int16", "avx2", "portable"].contains(&tier.name())
            );
            assert!(tier.int8_name() != "avx-vnni" || tier.name().starts_with("avx2"));
            assert!(tier.int8_name() != "portable-int8" || tier.name() == "portable");
        }
    }
}
