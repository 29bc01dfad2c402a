//! Which instructions this CPU has.

mod int8;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use int8::Int8Kind;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::has_avx_vnni;

/// A set of instructions that this CPU was found to have.
///
/// A value of this type is the proof that the kernels of the tier can run: it comes from [`Tier::detect`],
/// [`Tier::available`] or [`Tier::force`] and from nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier(Kind);

/// The tiers, the fastest first: see [`Kind::all`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Products of bf16 in tile registers, sums f32, the rest AVX-512.
    AmxBf16,
    /// Products of bf16 in 512-bit registers, sums f32.
    Avx512Bf16,
    /// Products of int16 in 512-bit registers, sums exact. What passes from kernel to kernel is bf16, which needs no instruction
    /// of its own.
    Avx512Int16,
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

const KINDS: [Kind; 7] = [
    Kind::AmxBf16,
    Kind::Avx512Bf16,
    Kind::Avx512Int16,
    Kind::Avx512,
    Kind::Avx2Int16,
    Kind::Avx2,
    Kind::Portable,
];

impl Kind {
    /// All of them, the fastest first. Intel's CPUs begin four products of pairs of int16 in the time of one of bf16 (measured on
    /// Sapphire Rapids: 4.5 and 1.2 thousand million a second).
    fn all() -> [Self; 7] {
        let mut kinds = KINDS;
        #[cfg(target_arch = "x86_64")]
        if x86::is_intel() {
            kinds.swap(1, 2);
        }
        kinds
    }

    fn name(self) -> &'static str {
        match self {
            Self::AmxBf16 => "amx-bf16",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512Int16 => "avx512-int16",
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
            Self::Avx512Int16 => x86::has_avx512() && x86::has_vnni(),
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
        Kind::all().into_iter().filter(|kind| kind.is_available()).map(Self).collect()
    }

    /// The tier called `name`: `amx-bf16`, `avx512-bf16`, `avx512-int16`, `avx512`, `avx2-int16`, `avx2` or `portable`.
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

    /// The fastest tier that is called by one of `names`.
    ///
    /// # Errors
    /// As [`Tier::force`] of the last of them, if this CPU has none.
    ///
    /// # Panics
    /// If there is no name.
    pub fn fastest_of(names: &[&str]) -> Result<Self, TierError> {
        let available = Self::available().into_iter().find(|tier| names.contains(&tier.name()));
        available.map_or_else(|| Self::force(names[names.len() - 1]), Ok)
    }

    /// The names of all tiers, had here or not.
    #[must_use]
    pub fn names() -> [&'static str; 7] {
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
            Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512Int16 => true,
            Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 | Kind::Portable => false,
        }
    }

    /// Whether products that need no more than the precision of bfloat16 are of whole numbers of sixteen bits, rows and weights
    /// scaled.
    #[must_use]
    pub fn multiplies_whole_numbers(self) -> bool {
        matches!(self.0, Kind::Avx512Int16 | Kind::Avx2Int16)
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
            "instruction set `sse9` is unknown, known are amx-bf16, avx512-bf16, avx512-int16, avx512, avx2-int16, avx2, \
             portable"
        );
    }

    #[test]
    fn fastest_of_some_is_the_first_that_there_is() {
        let available = Tier::available();
        assert_eq!(Tier::fastest_of(&Tier::names()), Ok(available[0]));
        assert_eq!(Tier::fastest_of(&["portable", available[0].name()]), Ok(available[0]));
        assert_eq!(Tier::fastest_of(&["sse9", "portable"]).map(Tier::name), Ok("portable"));
        assert!(Tier::fastest_of(&["sse9"]).is_err());
    }
}
