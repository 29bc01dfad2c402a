//! Precision classes: which a proxy takes, and the form in which vectors of each are kept.
//!
//! float32 is kept as float32, every other class as float16: it has more digits than the class itself. What was computed
//! is brought to its kept form before anybody sees it, so that the first answer and every later hit are bit-equal.

use protocol::{cache, inference::PrecisionClass};
use vector::codec;

/// Classes that a proxy takes, from ml-base and from the shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classes(Vec<PrecisionClass>);

impl Classes {
    /// These classes and no others.
    pub(crate) fn new(classes: impl IntoIterator<Item = PrecisionClass>) -> Self {
        Self(classes.into_iter().collect())
    }

    /// True for a class that is taken.
    pub(crate) fn take(&self, class: PrecisionClass) -> bool {
        self.0.contains(&class)
    }
}

/// The lowest of the classes; float32 of none.
pub(crate) fn lowest(classes: impl IntoIterator<Item = PrecisionClass>) -> PrecisionClass {
    classes.into_iter().max_by_key(|class| rank(*class)).unwrap_or(PrecisionClass::Float32)
}

/// 0 is the highest.
fn rank(class: PrecisionClass) -> u8 {
    match class {
        PrecisionClass::Float32 => 0,
        PrecisionClass::Bfloat16 | PrecisionClass::Float16 => 1,
        PrecisionClass::Int8 => 2,
        PrecisionClass::Unspecified => 3,
    }
}

/// Brings values to the form they are kept in.
pub(crate) fn to_kept_form(class: PrecisionClass, values: &mut [f32]) {
    if element_type(class) == cache::ElementType::Float16 {
        codec::round_to_float16(values);
    }
}

/// How the numbers of this class are written in the shard.
pub(crate) fn element_type(class: PrecisionClass) -> cache::ElementType {
    match class {
        PrecisionClass::Float32 => cache::ElementType::Float32,
        PrecisionClass::Bfloat16 | PrecisionClass::Float16 | PrecisionClass::Int8 => {
            cache::ElementType::Float16
        }
        PrecisionClass::Unspecified => cache::ElementType::Unspecified,
    }
}

/// Values of this class as the shard keeps them.
pub(crate) fn encode(class: PrecisionClass, values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match element_type(class) {
        cache::ElementType::Float16 => codec::extend_float16(&mut bytes, values),
        cache::ElementType::Float32 | cache::ElementType::Unspecified => {
            codec::extend_float32(&mut bytes, values);
        }
    }
    bytes
}

/// The values again; none where the bytes are no whole number of them.
pub(crate) fn decode(class: PrecisionClass, bytes: &[u8]) -> Option<Vec<f32>> {
    match element_type(class) {
        cache::ElementType::Float32 => codec::read_float32(bytes).ok(),
        cache::ElementType::Float16 => codec::read_float16(bytes).ok(),
        cache::ElementType::Unspecified => None,
    }
}

/// The class as the shard names it.
pub(crate) fn to_stored(class: PrecisionClass) -> cache::PrecisionClass {
    match class {
        PrecisionClass::Unspecified => cache::PrecisionClass::Unspecified,
        PrecisionClass::Float32 => cache::PrecisionClass::Float32,
        PrecisionClass::Bfloat16 => cache::PrecisionClass::Bfloat16,
        PrecisionClass::Float16 => cache::PrecisionClass::Float16,
        PrecisionClass::Int8 => cache::PrecisionClass::Int8,
    }
}

/// The class that the shard names.
pub(crate) fn from_stored(class: cache::PrecisionClass) -> PrecisionClass {
    match class {
        cache::PrecisionClass::Unspecified => PrecisionClass::Unspecified,
        cache::PrecisionClass::Float32 => PrecisionClass::Float32,
        cache::PrecisionClass::Bfloat16 => PrecisionClass::Bfloat16,
        cache::PrecisionClass::Float16 => PrecisionClass::Float16,
        cache::PrecisionClass::Int8 => PrecisionClass::Int8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_form_survives_the_shard_bit_for_bit() {
        let values = [0.1, -2.5, 1e-4, 3.000_1];
        for class in [PrecisionClass::Float32, PrecisionClass::Bfloat16, PrecisionClass::Int8] {
            let mut kept = values;
            to_kept_form(class, &mut kept);
            assert_eq!(decode(class, &encode(class, &kept)).unwrap(), kept, "{class:?}");
            assert_eq!(kept == values, class == PrecisionClass::Float32, "{class:?}");
            assert_eq!(from_stored(to_stored(class)), class);
        }
    }

    #[test]
    fn an_answer_is_as_precise_as_its_worst_vector() {
        use PrecisionClass::{Bfloat16, Float32, Int8};
        assert_eq!(lowest([Float32, Int8, Bfloat16]), Int8);
        assert_eq!(lowest([Float32, Bfloat16]), Bfloat16);
        assert_eq!(lowest([]), Float32);
    }
}
