//! What is done between the multiply-adds of a block: a CPU cannot look far enough ahead to mix two long stretches itself.

use super::{CACHE_LINE_BYTES, ROWS, fetch};

/// Something that is done in parts.
pub(crate) trait Between {
    /// Does a part, if any is left.
    ///
    /// # Safety
    /// As of what makes the value.
    unsafe fn part(&mut self);

    /// Does all that has to be done and is left.
    ///
    /// # Safety
    /// As of [`Between::part`].
    unsafe fn rest(&mut self);
}

impl Between for () {
    #[inline(always)]
    unsafe fn part(&mut self) {}

    #[inline(always)]
    unsafe fn rest(&mut self) {}
}

/// Fetches the weights of the next panel beside something else. The first block of rows that is multiplied with a panel
/// would wait for each line of it, and that is one of forty, or the only one.
///
/// Where `n` blocks are multiplied with a panel, as many lines as a part multiplies are fetched with every `n`th part: fewer
/// lines more often are less use where weights come from memory, and all of them early are gone again before they are used
/// (Zen 5).
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead<B> {
    pub(super) beside: B,
    next: *const u8,
    /// Lines of weights that are multiplied between two parts.
    part_lines: usize,
    /// Blocks that share the next panel; none where nothing is fetched.
    blocks: usize,
    /// Parts until the next lines are fetched.
    wait: usize,
}

impl<B> Ahead<B> {
    /// `rows` rows are multiplied with each panel, in parts of `part_lines` lines of weights.
    pub(super) fn new(beside: B, rows: usize, part_lines: usize) -> Self {
        // Fewer rows than are multiplied at once fetch the weights that they are about to read.
        let blocks = if rows < ROWS { 0 } else { rows.div_ceil(ROWS) };
        Self { beside, next: std::ptr::null(), part_lines, blocks, wait: 0 }
    }

    /// Does nothing more than what is done beside.
    pub(super) fn nothing(beside: B) -> Self {
        Self::new(beside, 0, 1)
    }

    /// Says that rows begin to be multiplied with `panel`.
    #[inline(always)]
    pub(super) fn begin<T>(&mut self, panel: &[T]) {
        self.next = panel.as_ptr_range().end.cast();
    }

    #[inline(always)]
    fn fetch(&mut self) {
        if self.blocks > 0 {
            if self.wait == 0 {
                fetch(self.next, self.part_lines);
                self.next = self.next.wrapping_add(self.part_lines * CACHE_LINE_BYTES);
                self.wait = self.blocks;
            }
            self.wait -= 1;
        }
    }
}

impl<B: Between> Between for Ahead<B> {
    #[inline(always)]
    unsafe fn part(&mut self) {
        self.fetch();
        // SAFETY: as the caller says.
        unsafe { self.beside.part() };
    }

    #[inline(always)]
    unsafe fn rest(&mut self) {
        // SAFETY: as the caller says.
        unsafe { self.beside.rest() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines behind a panel of `lines` that blocks of `rows` rows fetch, in parts of `part_lines`.
    fn fetched(rows: usize, lines: usize, part_lines: usize) -> Vec<usize> {
        let panel = vec![0_u8; lines * CACHE_LINE_BYTES];
        let mut ahead = Ahead::new((), rows, part_lines);
        let mut fetched = Vec::new();
        ahead.begin(&panel);
        for _block in 0..rows.div_ceil(ROWS) {
            for _ in 0..lines.div_ceil(part_lines) {
                let before = ahead.next;
                // SAFETY: nothing is done beside.
                unsafe { ahead.part() };
                let first = before.addr().saturating_sub(panel.as_ptr_range().end.addr()) / CACHE_LINE_BYTES;
                fetched.extend(first..first + (ahead.next.addr() - before.addr()) / CACHE_LINE_BYTES);
            }
        }
        fetched
    }

    #[test]
    fn blocks_of_rows_fetch_the_whole_next_panel_line_by_line() {
        for rows in [12, 13, 24, 256, 500] {
            for (lines, part_lines) in [(384_usize, 32), (1536, 32), (192, 16), (100, 16)] {
                let all = (0..lines.next_multiple_of(part_lines)).collect::<Vec<_>>();
                assert_eq!(fetched(rows, lines, part_lines), all, "{rows} rows, {lines} lines");
            }
        }
    }

    #[test]
    fn few_rows_leave_fetching_to_their_kernel() {
        assert!(fetched(11, 384, 32).is_empty());
    }
}
