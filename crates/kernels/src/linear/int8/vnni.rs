//! Whole numbers in 512-bit registers: twelve rows by 32 columns are 24 sums, two registers hold four inputs of the
//! weights.

use std::arch::x86_64::*;

use super::{LINE, Left, Product, ROWS, STEP, TILE};
use crate::activations::BLOCK;
use crate::convert::avx512::{Instruction, Plain};
use crate::linear::between::{Ahead, Between};
use crate::linear::fetch_ahead;
use crate::output::avx512::kinds::{Work, for_lines, for_rows};
use crate::output::avx512::sums::Whole;
use crate::output::avx512::{Finish, Unfinished};
use crate::output::{Place, Sink};
use crate::tier::Kind;

/// Lines of a tile that many rows are multiplied with between two parts of what is done beside: they finish as many rows
/// before them, in more parts than there are steps.
const STRETCH: usize = LINE / 8;

/// Computes a product.
///
/// # Safety
/// The CPU has VNNI and what the tier of the product says, and nobody else computes these rows and panels.
pub(super) unsafe fn apply(product: Product<'_>, sink: Sink<'_>, whole: &mut [i32]) {
    let run = Run { product, sink, whole: whole[..ROWS * BLOCK].as_mut_ptr() };
    // SAFETY: as the caller says; tiers of sixteen bits have activations in lines.
    unsafe {
        match product.tier.kind() {
            Kind::AmxBf16 | Kind::Avx512Bf16 => for_lines::<Instruction>(sink.ending, WithBf16(run)),
            Kind::Avx512Int16 => for_lines::<Plain>(sink.ending, WithVnni(run)),
            Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 | Kind::Portable => {
                for_rows(sink.ending, WithVnni(run));
            }
        }
    }
}

/// A product with all it needs: nobody else computes it, and there is room for the whole sums of a block.
struct Run<'a> {
    product: Product<'a>,
    sink: Sink<'a>,
    whole: *mut i32,
}

/// On a CPU with VNNI.
struct WithVnni<'a>(Run<'a>);

/// On a CPU with VNNI and bf16.
struct WithBf16<'a>(Run<'a>);

impl Work for WithVnni<'_> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vnni")]
    unsafe fn with<F: Finish>(self) {
        // SAFETY: as is said of the value.
        unsafe { self.0.run::<F>() };
    }
}

impl Work for WithBf16<'_> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx512vnni")]
    unsafe fn with<F: Finish>(self) {
        // SAFETY: as is said of the value.
        unsafe { self.0.run::<F>() };
    }
}

impl Run<'_> {
    /// Compiled for the features of whoever calls it.
    ///
    /// # Safety
    /// As is said of the value; the CPU has VNNI and what [`Finish::row`] needs.
    #[inline(always)]
    unsafe fn run<F: Finish>(self) {
        let Self { product, sink, whole } = self;
        let (lines, stride) = product.left.lines();
        // SAFETY: the CPU has AVX-512; there is room for the sums of a block, and those of the block before are finished when
        // these come.
        unsafe {
            let mut ahead = Ahead::new(Unfinished::<F, Whole>::none(), product.rows, 2 * STRETCH);
            for (panel, weights) in product.panels() {
                ahead.begin(weights);
                for row in (0..product.rows).step_by(ROWS) {
                    let place = Place { row, rows: ROWS.min(product.rows - row), panel };
                    let left = Left { lines: &lines[row * LINE..], stride, rows: place.rows };
                    left.assert_has(weights.len() / STEP, LINE);
                    multiply_beside(left, weights, product.begins(panel), whole, &mut ahead);
                    ahead.beside = product.unfinished(sink, place, whole);
                }
            }
            ahead.rest();
        }
    }
}

/// Rows are raised by 128, which `begins` makes up for.
///
/// # Safety
/// The CPU has AVX-512F and VNNI; `left` has a line of each row for each step of `panel`, `begins` 32 numbers, and
/// `sums` room for as many rows of 32.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn multiply(left: Left<'_>, panel: &[i8], begins: &[i32], sums: &mut [i32]) {
    // SAFETY: as the caller says.
    unsafe { multiply_beside(left, panel, begins, sums.as_mut_ptr(), &mut ()) };
}

/// The same, while something else is done, all of it before the first sums are written. Compiled for the features of
/// whoever calls it.
///
/// # Safety
/// As of [`multiply`], and `between` may be done.
#[inline(always)]
unsafe fn multiply_beside(
    left: Left<'_>,
    panel: &[i8],
    begins: &[i32],
    sums: *mut i32,
    between: &mut impl Between,
) {
    let mut row = 0;
    while row < left.rows {
        let from = Lines { start: left.lines[row * LINE..].as_ptr(), stride: left.stride };
        let to = sums.wrapping_add(row * BLOCK);
        // SAFETY: as many rows are left as each kernel is for.
        row += unsafe {
            match left.rows - row {
                ROWS.. => rows::<ROWS>(from, panel, begins, to, between),
                8.. => rows::<8>(from, panel, begins, to, between),
                4.. => rows::<4>(from, panel, begins, to, between),
                2.. => rows::<2>(from, panel, begins, to, between),
                _ => rows::<1>(from, panel, begins, to, between),
            }
        };
    }
}

/// Where rows begin, and how many lines there are from step to step.
#[derive(Clone, Copy)]
struct Lines {
    start: *const u8,
    stride: usize,
}

/// `R` rows at once; says how many that were.
///
/// # Safety
/// The CPU has AVX-512F and VNNI. At `left` lie `R` lines for each step of `panel`; `begins` are 32 numbers, and `sums` has
/// room for `R` rows of 32; `between` may be done.
#[inline(always)]
unsafe fn rows<const R: usize>(
    left: Lines,
    panel: &[i8],
    begins: &[i32],
    sums: *mut i32,
    between: &mut impl Between,
) -> usize {
    let stretch = if R < ROWS { LINE / 4 } else { STRETCH };
    // SAFETY: there are 32 numbers.
    let begin = unsafe { [load(begins.as_ptr()), load(begins.as_ptr().wrapping_add(16))] };
    let mut acc = [begin; R];
    for (step, tiles) in panel.chunks_exact(STEP).enumerate() {
        let left = left.start.wrapping_add(step * left.stride * LINE);
        for first in (0..LINE / 4).step_by(stretch) {
            for line in first..first + stretch {
                let weights = tiles.as_ptr().wrapping_add(line * LINE);
                if R < ROWS {
                    fetch_ahead(weights);
                    fetch_ahead(weights.wrapping_add(TILE));
                }
                // SAFETY: a tile has sixteen lines of 64 bytes, and the next tile follows; a row has four bytes for each line.
                unsafe {
                    let (low, high) = (load(weights), load(weights.wrapping_add(TILE)));
                    for (row, acc) in acc.iter_mut().enumerate() {
                        let four = left.add(row * LINE + line * 4).cast::<i32>().read_unaligned();
                        let four = _mm512_set1_epi32(four);
                        acc[0] = _mm512_dpbusd_epi32(acc[0], four, low);
                        acc[1] = _mm512_dpbusd_epi32(acc[1], four, high);
                    }
                }
            }
            // SAFETY: as the caller says.
            unsafe { between.part() };
        }
    }
    // SAFETY: as the caller says.
    unsafe { between.rest() };
    for (row, acc) in acc.iter().enumerate() {
        // SAFETY: there is room for this row.
        unsafe {
            _mm512_storeu_si512(sums.add(row * BLOCK).cast(), acc[0]);
            _mm512_storeu_si512(sums.add(row * BLOCK + 16).cast(), acc[1]);
        }
    }
    R
}

/// # Safety
/// 64 bytes lie at `from`.
#[inline(always)]
unsafe fn load<T>(from: *const T) -> __m512i {
    // SAFETY: as the caller says.
    unsafe { _mm512_loadu_si512(from.cast()) }
}
