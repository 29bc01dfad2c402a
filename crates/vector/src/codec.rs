//! Vectors as little-endian bytes, the form they travel and are stored in.

use half::f16;

/// A byte string that is not a whole number of float32 values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not a whole number of float32 values")]
pub struct NotFloat32 {
    /// Length of the byte string.
    pub bytes: usize,
}

/// Appends `values` to `bytes` as little-endian float32.
pub fn extend_float32(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.reserve(size_of_val(values));
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

/// Reads little-endian float32 values.
///
/// # Errors
/// [`NotFloat32`] if the length is not a multiple of four.
pub fn read_float32(bytes: &[u8]) -> Result<Vec<f32>, NotFloat32> {
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(NotFloat32 { bytes: bytes.len() });
    }
    Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// A byte string that is not a whole number of float16 values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not a whole number of float16 values")]
pub struct NotFloat16 {
    /// Length of the byte string.
    pub bytes: usize,
}

/// Appends `values` to `bytes` as little-endian float16, rounded to the nearest; what is too large becomes infinite.
pub fn extend_float16(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.reserve(values.len() * size_of::<f16>());
    for value in values {
        bytes.extend_from_slice(&f16::from_f32(*value).to_le_bytes());
    }
}

/// Reads little-endian float16 values.
///
/// # Errors
/// [`NotFloat16`] if the length is not even.
pub fn read_float16(bytes: &[u8]) -> Result<Vec<f32>, NotFloat16> {
    let (values, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(NotFloat16 { bytes: bytes.len() });
    }
    Ok(values.iter().map(|value| f16::from_le_bytes(*value).to_f32()).collect())
}

/// Gives each value the one it has after a way through float16.
pub fn round_to_float16(values: &mut [f32]) {
    for value in values {
        *value = f16::from_f32(*value).to_f32();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_torn_value_is_refused() {
        assert_eq!(read_float32(&[0; 7]), Err(NotFloat32 { bytes: 7 }));
        assert_eq!(read_float16(&[0; 3]), Err(NotFloat16 { bytes: 3 }));
    }

    proptest! {
        #[test]
        fn what_is_rounded_to_float16_is_read_bit_for_bit(values in proptest::collection::vec(any::<f32>(), 0..64)) {
            let mut rounded = values.clone();
            round_to_float16(&mut rounded);
            let mut bytes = Vec::new();
            extend_float16(&mut bytes, &values);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&read_float16(&bytes).unwrap()), bits(&rounded));
            for (value, rounded) in values.iter().zip(&rounded) {
                let error = (value - rounded).abs();
                // Half a unit in the last of 11 digits, or the least step near zero.
                prop_assert!(value.abs() >= 65_520.0 || error <= value.abs() / 2048.0 + 3.0e-8, "{} {}", value, rounded);
            }
        }

        #[test]
        fn what_is_written_is_read_bit_for_bit(bits in proptest::collection::vec(any::<u32>(), 0..64)) {
            let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let mut bytes = Vec::new();
            extend_float32(&mut bytes, &values);
            let read: Vec<u32> = read_float32(&bytes).unwrap().iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!(read, bits);
        }
    }
}
