//! Vectors as little-endian bytes, the form they travel and are stored in.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_torn_value_is_refused() {
        assert_eq!(read_float32(&[0; 7]), Err(NotFloat32 { bytes: 7 }));
    }

    proptest! {
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
