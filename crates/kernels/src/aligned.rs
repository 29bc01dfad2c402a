//! Memory that begins at a cache line.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::pages::Part;

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

/// The bytes that numbers are made of.
pub(crate) fn bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` says that there is no padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// A slice of numbers, zero at first, aligned to 64 bytes and a whole number of cache lines long.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    memory: Memory,
    lines: usize,
    values: PhantomData<T>,
}

#[derive(Debug)]
enum Memory {
    Own(Vec<Line>),
    Shared(Part),
}

// SAFETY: a part of shared memory belongs to one slice, as a vector does.
unsafe impl<T: Plain + Send> Send for Aligned<T> {}
// SAFETY: as above.
unsafe impl<T: Plain + Sync> Sync for Aligned<T> {}

impl<T: Plain> Aligned<T> {
    const PER_LINE: usize = size_of::<Line>() / size_of::<T>();

    /// At least `count` zeros.
    pub(crate) fn zeros(count: usize) -> Self {
        let lines = count.div_ceil(Self::PER_LINE);
        Self { memory: Memory::Own(vec![Line([0; 64]); lines]), lines, values: PhantomData }
    }

    /// The same in the large pages of weights.
    pub(crate) fn weights(count: usize) -> Self {
        let lines = count.div_ceil(Self::PER_LINE);
        let memory = Memory::Shared(Part::zeros(lines * size_of::<Line>()));
        Self { memory, lines, values: PhantomData }
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let start = match &self.memory {
            Memory::Own(lines) => lines.as_ptr().cast(),
            Memory::Shared(part) => part.start.as_ptr().cast_const().cast(),
        };
        // SAFETY: the lines are initialised, hold exactly as many values, are aligned for them, and `Plain` says that any
        // bits are a value.
        unsafe { std::slice::from_raw_parts(start, self.lines * Self::PER_LINE) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let start = match &mut self.memory {
            Memory::Own(lines) => lines.as_mut_ptr().cast(),
            Memory::Shared(part) => part.start.as_ptr().cast(),
        };
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(start, self.lines * Self::PER_LINE) }
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
        let weights = Aligned::<u16>::weights(33);
        assert_eq!((weights.as_ptr() as usize % 64, weights.len()), (0, 64));
        assert!(weights.iter().all(|value| *value == 0));
    }
}
