//! Memory that several threads write to at once, each to places of its own.

use std::marker::PhantomData;
use std::ops::Range;

/// A slice that was borrowed for writing and is handed to several threads.
#[derive(Debug)]
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    length: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

impl<T> Clone for SharedSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedSlice<'_, T> {}

// SAFETY: it is a slice borrowed for writing, which may go to another thread; that two threads do not take the same part
// is what the caller of `part` says.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), borrowed: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The values in `range`.
    ///
    /// # Safety
    /// Nobody else uses these values while the result is in use.
    ///
    /// # Panics
    /// If the slice is shorter.
    #[inline]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        if range.start > range.end || range.end > self.length {
            beyond_the_end(range.start, range.end, self.length);
        }
        // SAFETY: the range lies within the slice, and the caller says that it is used here alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// By itself, and with numbers instead of a range: what a message borrows is written to memory at every call.
#[cold]
#[inline(never)]
fn beyond_the_end(start: usize, end: usize, length: usize) -> ! {
    panic!("{start}..{end} of {length}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_write_to_parts_of_their_own() {
        let mut values = vec![0; 40];
        let shared = SharedSlice::new(&mut values);
        std::thread::scope(|scope| {
            for part in 0..4 {
                // SAFETY: each thread has a part of its own.
                scope.spawn(move || unsafe { shared.part(10 * part..10 * part + 10).fill(part) });
            }
        });
        assert!(values.iter().enumerate().all(|(place, value)| *value == place / 10));
    }

    #[test]
    #[should_panic(expected = "3..9 of 8")]
    fn part_beyond_the_end_panics() {
        // SAFETY: nobody else has the values.
        unsafe { SharedSlice::new(&mut [0; 8]).part(3..9) };
    }
}
