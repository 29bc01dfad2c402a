//! Which instructions this CPU has.

mod int8;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use int8::Int8Kind;

/// A set of instructions that this CPU was found to have.
///
/// A value of this type is the proof that the kernels of the tier can run: it comes from [`Tier::detect`],
/// [`Tier::available`] or [`Tier::force`] and from nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier(Kind);

/// The tiers, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Products of bf16 in tile registers, sums f32, the rest AVX-512.
    AmxBf16,
    /// Products of bf16 in 512-bit registers, sums f32.
    Avx512Bf16,
    /// f32 in 512-bit registers.
    Avx512,
    /// Products of int16 in 256-bit registers, sums exact, the rest f32 in such registers.
    Avx2Int16,
    /// f32 in 256-bit registers.
    Avx2,
    /// f32, plain Rust.
    Portable,
}

/// The registers that multiply panels of f32. Only for what is made for a tier, which proves that the CPU has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PanelKind {
    /// 512 bits.
    Avx512,
    /// 256 bits, with FMA.
    Avx2,
}

/// What multiplies bf16 in 512-bit registers the fastest, where weights are not packed for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bf16Kind {
    /// The instruction for pairs of it.
    Pairs,
    /// The instruction for pairs of int16. Intel's CPUs begin four of these in the time of one for bf16 (measured on
    /// Sapphire Rapids: 1.2 and 4.5 thousand million a second).
    Whole,
}

/// A tier was asked for that there is not.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TierError {
    /// No tier has this name.
    #[error("instruction set `{name}` is unknown, known are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// This CPU, or its kernel, does not offer the tier.
    #[error("instruction set `{name}` is not offered by this CPU and its kernel, which have {available}")]
    Missing {
        /// What was asked for.
        name: String,
        /// The names of what there is.
        available: String,
    },
}

const KINDS: [Kind; 6] =
    [Kind::AmxBf16, Kind::Avx512Bf16, Kind::Avx512, Kind::Avx2Int16, Kind::Avx2, Kind::Portable];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::AmxBf16 => "amx-bf16",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512 => "avx512",
            Self::Avx2Int16 => "avx2-int16",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Self::AmxBf16 => x86::has_amx_bf16(),
            Self::Avx512Bf16 => x86::has_avx512_bf16(),
            Self::Avx512 => x86::has_avx512(),
            Self::Avx2Int16 | Self::Avx2 => x86::has_avx2(),
            Self::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Self::Portable
    }
}

impl Tier {
    /// The fastest tier of this CPU. The kernel is asked once for the use of tile registers; a refusal means one tier less.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().first().copied().unwrap_or(Self(Kind::Portable))
    }

    /// All tiers of this CPU, the fastest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        KINDS.into_iter().filter(|kind| kind.is_available()).map(Self).collect()
    }

    /// The tier called `name`: `amx-bf16`, `avx512-bf16`, `avx512`, `avx2-int16`, `avx2` or `portable`.
    ///
    /// # Errors
    /// If there is no such name, or this CPU or its kernel does not offer it; the error names what there is.
    pub fn force(name: &str) -> Result<Self, TierError> {
        let Some(kind) = KINDS.into_iter().find(|kind| kind.name() == name) else {
            return Err(TierError::Unknown { name: name.to_owned(), known: Self::names().join(", ") });
        };
        if kind.is_available() {
            return Ok(Self(kind));
        }
        let available: Vec<&str> = Self::available().into_iter().map(Self::name).collect();
        Err(TierError::Missing { name: name.to_owned(), available: available.join(", ") })
    }

    /// The names of all tiers, had here or not, the fastest first.
    #[must_use]
    pub fn names() -> [&'static str; 6] {
        KINDS.map(Kind::name)
    }

    /// What [`Tier::force`] takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether what passes from kernel to kernel is rounded to bfloat16.
    #[must_use]
    pub fn rounds_to_bfloat16(self) -> bool {
        match self.0 {
            Kind::AmxBf16 | Kind::Avx512Bf16 => true,
            Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 | Kind::Portable => false,
        }
    }

    /// Whether products that need no more than the precision of bfloat16 are of whole numbers of sixteen bits, rows and weights
    /// scaled.
    #[must_use]
    pub fn multiplies_whole_numbers(self) -> bool {
        self.0 == Kind::Avx2Int16 || self.bf16_kind() == Some(Bf16Kind::Whole)
    }

    /// How a tier with bf16 in 512-bit registers multiplies what is packed on the way. CPUID is slow in a virtual machine:
    /// ask once.
    pub(crate) fn bf16_kind(self) -> Option<Bf16Kind> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 if x86::is_intel() && x86::has_vnni() => Some(Bf16Kind::Whole),
            Kind::Avx512Bf16 => Some(Bf16Kind::Pairs),
            Kind::AmxBf16 | Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 | Kind::Portable => None,
        }
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_code_runs_anywhere_and_is_the_last_choice() {
        let available = Tier::available();
        assert_eq!(available.last().copied().map(Tier::name), Some("portable"));
        assert_eq!(available[0], Tier::detect());
    }

    #[test]
    fn forced_tier_is_given_or_the_error_says_what_there_is() {
        for name in Tier::names() {
            match Tier::force(name) {
                Ok(tier) => assert_eq!(tier.name(), name),
                Err(error) => assert!(error.to_string().contains("portable"), "{error}"),
            }
        }
    }

    #[test]
    fn unknown_tier_is_refused_with_the_names_of_all() {
        let error = Tier::force("sse9").unwrap_err().to_string();
        assert_eq!(
            error,
            "instruction set `sse9` is unknown, known are amx-bf16, avx512-bf16, avx512, avx2-int16, avx2, portable"
        );
    }
}
