//! The product in tile registers, 32 rows by 32 columns at once: of bf16, or of whole numbers.
//!
//! ```text
//!  rows that go together ─▶ panel of 32 outputs ─▶ stretch of 384 inputs ─▶ 32 rows: a task
//!  (768 KiB, L2 cache)                             (24 KiB, L1 cache)
//! ```
//! Both lie in lines of 64 bytes, 32 or 64 inputs of a row, which are a step; 768 inputs are a stretch of whole numbers.
//!
//! While the tiles of one task are multiplied, the vector units finish the block before: row by row between the tile
//! instructions, because a CPU cannot look far enough ahead to mix two long stretches itself.

mod tiles;

use self::tiles::{Change, Operands, STEP_BYTES, store};
pub(crate) use self::tiles::{LeftTiles, Numbers, Tiles, repeat};
use super::between::Between;
use super::factors::{Bf16, Factors, Scaled};
use super::{AHEAD_BYTES, CACHE_LINE_BYTES, Share, TILE_ROWS_TOGETHER_MAX, fetch};
use crate::activations::BLOCK;
use crate::convert::avx512::Instruction;
use crate::output::avx512::kinds::{Work, for_lines};
use crate::output::avx512::{Finish, Unfinished};
use crate::output::{Place, Sink};

/// Numbers in the sums of a block.
const SUMS: usize = BLOCK * BLOCK;

/// Steps of a stretch at most: 24 KiB of weights, half of the L1 cache.
const STEPS_MAX: usize = 12;

/// Bytes of rows that share a stretch of weights: with the weights on their way they fit the L2 cache of 2 MiB that CPUs
/// with tiles have. The more rows, the less often weights are fetched; more than fit are fetched themselves for each panel.
const TOGETHER_BYTES: usize = 768 << 10;

/// Rows of `steps` steps that go together.
fn rows_together(steps: usize) -> usize {
    let fitting = (TOGETHER_BYTES / (steps * CACHE_LINE_BYTES) / BLOCK).max(1) * BLOCK;
    if steps > STEPS_MAX { fitting.min(TILE_ROWS_TOGETHER_MAX) } else { fitting }
}

/// Numbers that tiles multiply.
pub(super) trait InTiles: Factors {
    const NUMBERS: Numbers;
}

impl InTiles for Bf16 {
    const NUMBERS: Numbers = Numbers::Bf16;
}

impl InTiles for Scaled<'_> {
    const NUMBERS: Numbers = Numbers::Int8;
}

/// A share of one linear layer. Rows and panels are counted from its first ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a, F> {
    factors: F,
    /// Blocks of `stride` lines, from the first row on.
    left: &'a [u8],
    stride: usize,
    rows: usize,
    weights: &'a [u8],
    /// Steps of a line.
    steps: usize,
    /// Of all outputs.
    bias: &'a [f32],
    first_row: usize,
    first_panel: usize,
    /// Rows that share a stretch of weights.
    together: usize,
}

/// Rows of one block times a stretch of a panel.
#[derive(Debug, Clone, Copy)]
struct Task<'a> {
    place: Place,
    /// Steps from `from` on.
    from: usize,
    weights: &'a [u8],
    /// Number of this block among the rows that go together.
    block: usize,
    /// Index of the sums of this block.
    slot: usize,
    /// Whether sums are complete after it.
    is_last: bool,
    /// Lines of weights that each step fetches for the next stretch.
    ahead: usize,
}

impl Task<'_> {
    fn steps(&self) -> usize {
        self.weights.len() / STEP_BYTES
    }

    /// The lines of the next stretch that `step` fetches begin here.
    fn next_weights(&self, step: usize) -> *const u8 {
        let line = (self.block * self.steps() + step) * self.ahead;
        self.weights.as_ptr().wrapping_add(self.weights.len() + line * CACHE_LINE_BYTES)
    }
}

impl<'a, F: InTiles> Product<'a, F> {
    /// `left` in blocks of `stride` lines, from the first row of the share on, for panels of `steps` steps of a line.
    pub(super) fn new(
        factors: F,
        (left, stride): (&'a [u8], usize),
        (weights, bias): (&'a [u8], &'a [f32]),
        steps: usize,
        Share { rows, panels }: &Share,
    ) -> Self {
        let panel = steps * STEP_BYTES;
        Self {
            factors,
            left,
            stride,
            rows: rows.len(),
            weights: &weights[panels.start * panel..panels.end * panel],
            steps,
            bias,
            first_row: rows.start,
            first_panel: panels.start,
            together: rows_together(steps),
        }
    }

    /// Where a block of this share lies in the whole.
    fn in_whole(&self, place: Place) -> Place {
        Place { row: self.first_row + place.row, panel: self.first_panel + place.panel, ..place }
    }

    /// The first task, if there is one.
    fn first_task(&self) -> Option<Task<'_>> {
        (self.rows > 0 && !self.weights.is_empty()).then(|| self.task(0, 0, 0, 0))
    }

    /// Tasks in order: rows that go together, panels, stretches, blocks of rows.
    fn next_task(&self, task: &Task<'_>) -> Option<Task<'_>> {
        let Place { row, panel, .. } = task.place;
        let first = row - task.block * BLOCK;
        let end = self.rows.min(first + self.together);
        if row + BLOCK < end {
            return Some(self.task(row + BLOCK, task.block + 1, panel, task.from));
        }
        if !task.is_last {
            return Some(self.task(first, 0, panel, task.from + task.steps()));
        }
        if (panel + 1) * self.steps * STEP_BYTES < self.weights.len() {
            return Some(self.task(first, 0, panel + 1, 0));
        }
        (end < self.rows).then(|| self.task(end, 0, 0, 0))
    }

    fn task(&self, row: usize, block: usize, panel: usize, from: usize) -> Task<'_> {
        let blocks = (self.rows - (row - block * BLOCK)).min(self.together).div_ceil(BLOCK);
        // One block alone would only write sums and read them again.
        let stretches = if blocks == 1 { 1 } else { self.steps.div_ceil(STEPS_MAX) };
        let to = self.steps.min(from + self.steps.div_ceil(stretches));
        let begin = panel * self.steps;
        Task {
            place: Place { row, rows: BLOCK.min(self.rows - row), panel },
            from,
            weights: &self.weights[(begin + from) * STEP_BYTES..(begin + to) * STEP_BYTES],
            block,
            slot: if stretches == 1 { 0 } else { block },
            is_last: to == self.steps,
            ahead: BLOCK.div_ceil(blocks),
        }
    }

    fn operands(&self, task: &Task<'_>, step: usize) -> Operands {
        let line = (task.from + step) * self.stride + task.place.row;
        Operands {
            left: self.left.as_ptr().wrapping_add(line * CACHE_LINE_BYTES),
            panel: task.weights[step * STEP_BYTES..].as_ptr(),
        }
    }

    /// # Safety
    /// [`Tiles`] are configured; `sums` are as large as those of all slots, and nobody else computes this share.
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn run_tasks<E: Finish, const ALONE: bool>(&self, sink: Sink<'_>, sums: *mut f32) {
        let mut following = self.first_task();
        let mut slot_before = 0;
        let mut unfinished = Unfinished::<E, F::Sums>::none();
        if let Some(first) = &following {
            // SAFETY: tiles are configured; operands lie where they should, as `apply` asserts.
            unsafe { self.operands(first, 0).load() };
        }
        while let Some(task) = following {
            following = self.next_task(&task);
            let next = following.as_ref().unwrap_or(&task);
            let (from, stride) = match task.from {
                0 => (ZEROS.0.as_ptr(), 0),
                _ => (sums.wrapping_add(task.slot * SUMS).cast_const(), 4 * BLOCK),
            };
            let to = sums.wrapping_add(slot_before * SUMS);
            let mut change = Some(Change { to, from, stride });
            for step in 0..task.steps() {
                let is_end = step + 1 == task.steps();
                let operands = if is_end { self.operands(next, 0) } else { self.operands(&task, step + 1) };
                // SAFETY: as above; sums are stored in the first step, and those of the block before are finished after it.
                unsafe {
                    if change.is_some() {
                        operands.step::<ALONE>(F::NUMBERS, task.place.rows, change.take(), &mut ());
                    } else {
                        operands.step::<ALONE>(F::NUMBERS, task.place.rows, None, &mut unfinished);
                    }
                }
                if !ALONE {
                    fetch(task.next_weights(step), task.ahead);
                } else {
                    // No layer's weights are in the L2 cache after all the others.
                    let weights = task.weights[step * STEP_BYTES..].as_ptr();
                    fetch(weights.wrapping_add(AHEAD_BYTES), STEP_BYTES / CACHE_LINE_BYTES);
                }
            }
            // SAFETY: the sink asserts that it has this place, and the sums of this slot are stored before they are read.
            unsafe {
                unfinished.rest();
                if task.is_last {
                    let place = self.in_whole(task.place);
                    let bias = &self.bias[place.panel * BLOCK..];
                    let from = sums.wrapping_add(task.slot * SUMS);
                    let to_finish = self.factors.sums(from, task.place.row, place.panel, bias);
                    unfinished = Unfinished::new(sink, place, to_finish);
                }
            }
            slot_before = task.slot;
        }
        // SAFETY: as above.
        unsafe {
            store(sums.wrapping_add(slot_before * SUMS), BLOCK, BLOCK);
            unfinished.rest();
        }
    }
}

/// A row of sums that begins at nothing.
#[repr(align(64))]
struct Row([f32; BLOCK]);

static ZEROS: Row = Row([0.0; BLOCK]);

/// # Safety
/// The CPU has AMX for these numbers and the kernel permits it, and nobody else computes this share.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn apply<F: InTiles>(product: Product<'_, F>, sink: Sink<'_>, sums: &mut [f32]) {
    let Product { left, stride, rows, steps, .. } = product;
    let last = steps.saturating_sub(1) * stride + rows.next_multiple_of(BLOCK);
    assert!(last * CACHE_LINE_BYTES <= left.len());
    let sums = sums[..TILE_ROWS_TOGETHER_MAX * BLOCK].as_mut_ptr();
    // SAFETY: the caller says that there are tiles.
    let _tiles = unsafe { Tiles::configure() };
    // SAFETY: tiles are configured; activations of this tier are lines of bf16.
    unsafe { for_lines::<Instruction>(sink.ending, Run { product, sink, sums }) };
}

/// A product with all it needs. Tiles are configured; `sums` are as large as those of all slots, and nobody else computes
/// this share.
struct Run<'a, F> {
    product: Product<'a, F>,
    sink: Sink<'a>,
    sums: *mut f32,
}

impl<F: InTiles> Work for Run<'_, F> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn with<E: Finish>(self) {
        // SAFETY: as is said of the values.
        unsafe {
            if self.product.rows <= BLOCK {
                self.product.run_tasks::<E, true>(self.sink, self.sums);
            } else {
                self.product.run_tasks::<E, false>(self.sink, self.sums);
            }
        }
    }
}
