//! Memory for weights, in pages of 2 MiB where the kernel gives them.
//!
//! Weights are read from begin to end in every pass, and no CPU remembers where so many pages of 4 KiB are: looking each
//! up takes as long as reading it. Weights of one layer are smaller than a large page, so that they share stretches of
//! memory, one after another in the order in which they are packed; a stretch is given back with the last of them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Size and alignment of a large page.
const PAGE: usize = 2 << 20;

/// Bytes of a stretch, of which the kernel takes only those pages that are written to.
const STRETCH: usize = 32 << 20;

/// Where the next weights go, and how much is taken there.
static OPEN: Mutex<(Weak<Stretch>, usize)> = Mutex::new((Weak::new(), 0));

/// Memory that was never written to, given back when this is dropped.
#[derive(Debug)]
struct Stretch {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to nobody else; those who hold parts of it do not share these.
unsafe impl Send for Stretch {}
// SAFETY: as above.
unsafe impl Sync for Stretch {}

impl Stretch {
    fn new(bytes: usize) -> Self {
        let size = bytes.max(STRETCH).next_multiple_of(PAGE);
        let Ok(layout) = Layout::from_size_align(size, PAGE) else { panic!("weights of {bytes} bytes") };
        // SAFETY: the size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        // SAFETY: the advice changes how memory of ours is mapped, not what is in it. Without it everything works.
        let _ignored =
            unsafe { rustix::mm::madvise(start.as_ptr().cast(), size, rustix::mm::Advice::LinuxHugepage) };
        Self { start, layout }
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// A part of a stretch that nobody else has, at a multiple of 64 bytes.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) start: NonNull<u8>,
    _stretch: Arc<Stretch>,
}

impl Part {
    /// Takes `bytes`, all zero.
    pub(crate) fn zeros(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(64);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let (stretch, used) = match open.0.upgrade() {
            Some(stretch) if open.1 + bytes <= stretch.layout.size() => (stretch, open.1),
            _ => (Arc::new(Stretch::new(bytes)), 0),
        };
        // SAFETY: as many bytes are left from there on.
        let start = unsafe {
            let start = stretch.start.add(used);
            start.write_bytes(0, bytes);
            start
        };
        *open = (Arc::downgrade(&stretch), used + bytes);
        Self { start, _stretch: stretch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_a_large_one_has_a_stretch_of_its_own() {
        let parts = [(1, Part::zeros(1)), (65, Part::zeros(65)), (STRETCH + 1, Part::zeros(STRETCH + 1))];
        let mut places: Vec<_> =
            parts.iter().map(|(size, part)| (part.start.as_ptr() as usize, *size)).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        assert!(places.iter().all(|(start, _)| start % 64 == 0));
    }
}
