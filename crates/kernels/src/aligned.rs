//! Memory that begins at a cache line.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// One cache line, which is also one row of a tile and one 512-bit register.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
struct Line([u8; 64]);

/// Numbers for which every pattern of bits is a value, and zero bits are zero.
///
/// # Safety
/// Only for types without padding, whose size divides 64 and whose alignment is at most 64.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: eight bits, each pattern a number.
unsafe impl Plain for u8 {}
// SAFETY: eight bits, each pattern a number.
unsafe impl Plain for i8 {}
// SAFETY: sixteen bits, each pattern a number.
unsafe impl Plain for u16 {}
// SAFETY: thirty-two bits, each pattern a number.
unsafe impl Plain for i32 {}
// SAFETY: thirty-two bits, each pattern a number or NaN.
unsafe impl Plain for f32 {}

/// A slice of numbers, zero at first, aligned to 64 bytes and a whole number of cache lines long.
#[derive(Debug, Clone)]
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    values: PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    const PER_LINE: usize = size_of::<Line>() / size_of::<T>();

    /// At least `count` zeros.
    pub(crate) fn zeros(count: usize) -> Self {
        Self { lines: vec![Line([0; 64]); count.div_ceil(Self::PER_LINE)], values: PhantomData }
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let count = self.lines.len() * Self::PER_LINE;
        // SAFETY: the lines are initialised, hold exactly `count` values, are aligned for them, and `Plain` says that
        // any bits are a value.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), count) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let count = self.lines.len() * Self::PER_LINE;
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_begin_at_a_cache_line_and_fill_whole_ones() {
        let values = Aligned::<f32>::zeros(17);
        assert_eq!(values.as_ptr() as usize % 64, 0);
        assert_eq!(values.len(), 32);
        assert!(values.iter().all(|value| *value == 0.0));
        assert!(Aligned::<u16>::zeros(0).is_empty());
    }
}
