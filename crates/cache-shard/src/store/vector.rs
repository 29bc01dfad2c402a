//! What the store keeps, and the keys it is found by.

use std::{fmt, time::Duration};

use bytes::Bytes;

/// Numbers in a vector.
pub const WIDTH_MAX: u32 = 16_384;
/// Characters of a text's beginning.
pub const TEXT_CHARACTERS_MAX: usize = 200;
/// Bytes of a text's beginning.
pub const TEXT_BYTES_MAX: usize = 4 * TEXT_CHARACTERS_MAX;
/// Bytes of a namespace.
pub const NAMESPACE_BYTES_MAX: usize = 64;
/// Time to live.
pub const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The digest a vector is found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

/// The vector space a vector belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity(pub [u8; 32]);

/// How the numbers of a vector are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Four bytes, little-endian.
    Float32,
    /// Two bytes, little-endian.
    Float16,
}

/// How a vector was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The highest class.
    Float32,
    /// As high as float16.
    Bfloat16,
    /// As high as bfloat16.
    Float16,
    /// The lowest class.
    Int8,
}

/// A vector and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// Identity of the model that computed it.
    pub identity: Identity,
    /// How `bytes` is to be read.
    pub element: Element,
    /// How it was computed.
    pub precision: Precision,
    /// Numbers in it.
    pub width: u32,
    /// Tokens of its text.
    pub tokens: u32,
    /// Whether its text was cut.
    pub truncated: bool,
    /// How its text begins, UTF-8: personal data, so empty unless it was asked for.
    pub text: Bytes,
    /// The numbers: `width` × [`Element::bytes`].
    pub bytes: Bytes,
}

/// Why a vector is not stored whatever the state of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Its width.
    #[error("`width` is {0}, the limits are 1 and {WIDTH_MAX}")]
    Width(u32),
    /// Its bytes do not match its width.
    #[error("`vector` holds {found} bytes, width and element type ask for {wanted}")]
    Bytes {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        wanted: usize,
    },
    /// A number is NaN or infinite.
    #[error("`vector` holds NaN or infinity")]
    NotFinite,
    /// The beginning of its text.
    #[error("`text` has {0} characters, the limit is {TEXT_CHARACTERS_MAX}")]
    Text(usize),
    /// Its time to live.
    #[error("`ttl_ms` is {0}, the limits are 1 and {max}", max = TTL_MAX.as_millis())]
    Ttl(u128),
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, formatter)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, formatter)
    }
}

/// The part of a key that the index and the contents of segments keep; a record repeats the whole key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prefix(pub(super) [u8; 16]);

impl Prefix {
    pub(super) fn of(key: &Key) -> Self {
        Self(std::array::from_fn(|index| key.0[index]))
    }
}

fn hex(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

impl Element {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 => 2,
        }
    }

    fn are_finite(self, bytes: &[u8]) -> bool {
        // NaN and infinity are the numbers whose exponent is all ones.
        match self {
            Self::Float32 => {
                bytes.as_chunks::<4>().0.iter().all(|number| f32::from_le_bytes(*number).is_finite())
            }
            Self::Float16 => {
                bytes.as_chunks::<2>().0.iter().all(|number| u16::from_le_bytes(*number) & 0x7c00 != 0x7c00)
            }
        }
    }
}

impl Precision {
    /// True where a record of this class makes way for one of class `next`.
    pub fn makes_way_for(self, next: Self) -> bool {
        next.rank() > self.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Self::Float32 => 2,
            Self::Bfloat16 | Self::Float16 => 1,
            Self::Int8 => 0,
        }
    }
}

impl Vector {
    /// Checks width, length and numbers.
    ///
    /// # Errors
    /// [`Invalid`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.width == 0 || self.width > WIDTH_MAX {
            return Err(Invalid::Width(self.width));
        }
        let wanted = self.width as usize * self.element.bytes();
        if self.bytes.len() != wanted {
            return Err(Invalid::Bytes { found: self.bytes.len(), wanted });
        }
        let characters = String::from_utf8_lossy(&self.text).chars().count();
        if characters > TEXT_CHARACTERS_MAX || self.text.len() > TEXT_BYTES_MAX {
            return Err(Invalid::Text(characters));
        }
        if self.element.are_finite(&self.bytes) { Ok(()) } else { Err(Invalid::NotFinite) }
    }
}

/// A vector on its way into the store.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// What it will be found by.
    pub key: Key,
    /// The vector.
    pub vector: Vector,
    /// How long to keep it; `None` for the store's default.
    pub ttl: Option<Duration>,
}

/// A vector that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The vector.
    pub vector: Vector,
    /// When it was stored, milliseconds since 1970.
    pub created_ms: u64,
    /// How long it will still be there; never zero.
    pub remaining: Duration,
    /// How long it was to be kept.
    pub ttl: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(element: Element, bytes: &[u8]) -> Vector {
        Vector {
            identity: Identity([0; 32]),
            element,
            precision: Precision::Float32,
            width: 2,
            tokens: 1,
            truncated: false,
            text: Bytes::new(),
            bytes: Bytes::copy_from_slice(bytes),
        }
    }

    #[test]
    fn length_must_match_width_and_type() {
        assert_eq!(vector(Element::Float32, &[0; 8]).check(), Ok(()));
        assert_eq!(vector(Element::Float16, &[0; 8]).check(), Err(Invalid::Bytes { found: 8, wanted: 4 }));
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_in_both_types() {
        let mut bytes = [0; 8];
        bytes[4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(vector(Element::Float32, &bytes).check(), Err(Invalid::NotFinite));
        assert_eq!(vector(Element::Float16, &[0, 0, 0, 0x7c]).check(), Err(Invalid::NotFinite));
        assert_eq!(vector(Element::Float16, &[0, 0, 0xff, 0x7b]).check(), Ok(()));
    }

    #[test]
    fn only_a_higher_class_replaces() {
        assert!(Precision::Int8.makes_way_for(Precision::Float16));
        assert!(!Precision::Float16.makes_way_for(Precision::Bfloat16));
        assert!(!Precision::Float32.makes_way_for(Precision::Float32));
    }
}
