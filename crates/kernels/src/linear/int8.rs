//! `x · Wᵀ` in whole numbers: rows quantised on the fly, weights once, sums exact.
//!
//! ```text
//!  rows that fit the L2 cache ─▶ int8, a scale each
//!    for each panel of 32 outputs
//!      for each block of rows
//!        sums (rows, 32) i32 ─▶ · scale of row · scale of output ─▶ f32 ─▶ sink
//! ```
//! One scale for each output and one for each row, over all inputs: sums are never rescaled on the way. All multipliers
//! read the same weights and give the same sums.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vnni;

use super::Share;
use crate::activations::{Activations, BLOCK};
use crate::aligned::Aligned;
#[cfg(target_arch = "x86_64")]
use crate::convert::avx512::{Instruction, Plain};
#[cfg(target_arch = "x86_64")]
use crate::linear::between::Between;
#[cfg(target_arch = "x86_64")]
use crate::output::avx512::{
    Finish, Unfinished, kinds::Work, kinds::for_lines, kinds::for_rows, sums::Whole,
};
use crate::output::{self, Place, Sink};
use crate::packed::PackedLinear;
use crate::quantise::{Form, LINE, Quantised, Scale, size_bits};
use crate::scratch::Scratch;
use crate::tier::{Int8Kind, Kind, Tier};

/// Bytes of a step of a panel: 64 inputs of 32 outputs, as two tiles.
pub(crate) const STEP: usize = 2 * TILE;
/// Bytes of a tile: sixteen lines of four inputs of sixteen outputs.
pub(crate) const TILE: usize = 16 * LINE;
/// Rows that portable code, AVX2 and either VNNI multiply at once.
pub(crate) const ROWS: usize = 12;
/// More would let a sum of 32 bits run over.
const INPUTS_MAX: usize = 1 << 16;

/// Weights in int8, each output with a scale of its own.
///
/// ```text
///  a panel is 32 outputs, padded with zeros; for every 64 inputs two tiles of 16 outputs,
///  a tile = 16 lines (four inputs) × 16 outputs × 4
/// ```
#[derive(Debug)]
pub(crate) struct Int8Weights {
    kind: Int8Kind,
    values: Aligned<i8>,
    /// What a whole number of each output stands for, padded to panels.
    scales: Aligned<f32>,
    /// Where the sums begin: what makes up for rows that are raised by 128.
    begins: Aligned<i32>,
}

impl Int8Weights {
    /// Quantises `weights` `(outputs, inputs)`.
    ///
    /// # Panics
    /// If there are more than 65,536 inputs.
    pub(crate) fn new(tier: Tier, weights: &[f32], inputs: usize) -> Self {
        assert!(inputs <= INPUTS_MAX, "{inputs} inputs of int8, at most {INPUTS_MAX}");
        let outputs = weights.len() / inputs;
        let steps = inputs.div_ceil(LINE);
        let padded = outputs.next_multiple_of(BLOCK);
        let mut packed = Self {
            kind: tier.int8_kind(),
            values: Aligned::weights(padded / BLOCK * steps * STEP),
            scales: Aligned::zeros(padded),
            begins: Aligned::zeros(padded),
        };
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            packed.pack(output, row, steps);
        }
        packed
    }

    fn pack(&mut self, output: usize, row: &[f32], steps: usize) {
        let scale = Scale::of(row.iter().copied().map(size_bits).fold(0, u32::max));
        let (panel, tile, column) = (output / BLOCK, output % BLOCK / 16, output % 16);
        let mut sum = 0;
        for (step, values) in row.chunks(LINE).enumerate() {
            let tile = &mut self.values[(panel * steps + step) * STEP + tile * TILE..][..TILE];
            for (input, value) in values.iter().enumerate() {
                let whole = scale.quantise(*value);
                sum += i32::from(whole);
                tile[input / 4 * LINE + column * 4 + input % 4] = whole;
            }
        }
        self.scales[output] = scale.scale;
        if self.kind.form() == Form::Raised {
            self.begins[output] = -128 * sum;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.values.len() + size_of_val::<[f32]>(&self.scales) + size_of_val::<[i32]>(&self.begins)
    }
}

/// Computes a share of the product, its shapes checked by the caller.
///
/// # Safety
/// Nobody else computes this share.
pub(super) unsafe fn apply(
    linear: &PackedLinear,
    weights: &Int8Weights,
    input: &Activations,
    (sink, share): (Sink<'_>, Share),
    scratch: &mut Scratch,
) {
    let form = weights.kind.form();
    let at_once = scratch.quantised.reserve(input.width(), form);
    for first in share.rows.clone().step_by(at_once) {
        let rows = first..share.rows.end.min(first + at_once);
        scratch.quantised.fill(input, rows.clone(), form);
        let Scratch { quantised, sums, whole_sums, .. } = &mut *scratch;
        let product = Product {
            tier: linear.tier(),
            left: quantised,
            first,
            rows: rows.len(),
            weights,
            first_panel: share.panels.start,
            end_panel: share.panels.end,
            steps: linear.inputs().div_ceil(LINE),
            bias: &linear.bias,
        };
        // SAFETY: as the caller says; the kind is that of a tier, and a tier proves that the CPU has it.
        unsafe {
            match weights.kind {
                #[cfg(target_arch = "x86_64")]
                Int8Kind::Amx => amx::apply(product, sink, sums),
                #[cfg(target_arch = "x86_64")]
                Int8Kind::Vnni => vnni::apply(product, sink, whole_sums),
                _ => apply_panels(product, sink, whole_sums, sums),
            }
        }
    }
}

/// Rows and panels of one linear layer, the rows quantised.
#[derive(Debug, Clone, Copy)]
struct Product<'a> {
    tier: Tier,
    left: &'a Quantised,
    /// The row of the whole that is the first one here.
    first: usize,
    rows: usize,
    weights: &'a Int8Weights,
    first_panel: usize,
    end_panel: usize,
    /// Steps of 64 inputs.
    steps: usize,
    bias: &'a [f32],
}

impl<'a> Product<'a> {
    /// The panels, by their number in the whole.
    fn panels(&self) -> impl Iterator<Item = (usize, &'a [i8])> + use<'a> {
        let (weights, size) = (&self.weights.values[..], self.steps * STEP);
        (self.first_panel..self.end_panel).map(move |panel| (panel, &weights[panel * size..][..size]))
    }

    /// The scales of a panel's outputs.
    fn output_scales(&self, panel: usize) -> &'a [f32] {
        &self.weights.scales[panel * BLOCK..][..BLOCK]
    }

    /// Where the sums of a panel begin.
    fn begins(&self, panel: usize) -> &'a [i32] {
        &self.weights.begins[panel * BLOCK..][..BLOCK]
    }

    /// The scales of the rows of `place`, counted from the first row here.
    fn row_scales(&self, place: Place) -> &'a [f32] {
        &self.left.scales()[place.row..][..place.rows]
    }

    /// The same place, counted from the first row of the whole.
    fn in_whole(&self, place: Place) -> Place {
        Place { row: self.first + place.row, ..place }
    }

    /// The `whole` sums of `place`, counted from the first row here, before they are finished.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn unfinished<F: Finish>(&self, sink: Sink<'_>, place: Place, whole: *const i32) -> Unfinished<F, Whole> {
        let bias = &self.bias[place.panel * BLOCK..];
        let sums = Whole::new(whole, self.row_scales(place), self.output_scales(place.panel), bias);
        Unfinished::new(sink, self.in_whole(place), sums)
    }

    /// Finishes the `whole` sums of `place`, counted from the first row here.
    ///
    /// # Safety
    /// Nobody else computes this place of the product.
    unsafe fn finish(&self, sink: Sink<'_>, place: Place, whole: &[i32], sums: &mut [f32]) {
        let (outputs, rows) = (self.output_scales(place.panel), self.row_scales(place));
        let (whole, floats) = (&whole[..place.rows * BLOCK], &mut sums[..place.rows * BLOCK]);
        // SAFETY: as the caller says of the place. The tiers prove that the CPU has AVX-512, and bf16 where their name says so,
        // or AVX2.
        unsafe {
            match self.tier.kind() {
                #[cfg(target_arch = "x86_64")]
                Kind::AmxBf16 | Kind::Avx512Bf16 => {
                    let block = WithBf16(Block { product: *self, sink, place, whole });
                    for_lines::<Instruction>(sink.ending, block);
                }
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512Int16 => {
                    let block = WithAvx512(Block { product: *self, sink, place, whole });
                    for_lines::<Plain>(sink.ending, block);
                }
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => {
                    for_rows(sink.ending, WithAvx512(Block { product: *self, sink, place, whole }))
                }
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2Int16 | Kind::Avx2 => {
                    avx2::to_floats(whole, outputs, rows, floats);
                    output::portable::finish_avx2(sink, self.in_whole(place), (floats, BLOCK), self.bias);
                }
                _ => {
                    portable::to_floats(whole, outputs, rows, floats);
                    output::portable::finish(sink, self.in_whole(place), (floats, BLOCK), self.bias);
                }
            }
        }
    }
}

/// Whole sums of a multiplier that finishes none itself.
#[cfg(target_arch = "x86_64")]
struct Block<'a> {
    product: Product<'a>,
    sink: Sink<'a>,
    place: Place,
    whole: &'a [i32],
}

/// A block on a CPU with AVX-512. Nobody else computes it.
#[cfg(target_arch = "x86_64")]
struct WithAvx512<'a>(Block<'a>);

/// A block on a CPU with its bf16 as well. Nobody else computes it.
#[cfg(target_arch = "x86_64")]
struct WithBf16<'a>(Block<'a>);

#[cfg(target_arch = "x86_64")]
impl Work for WithAvx512<'_> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw")]
    unsafe fn with<F: Finish>(self) {
        let Self(Block { product, sink, place, whole }) = self;
        // SAFETY: as is said of the value.
        unsafe { product.unfinished::<F>(sink, place, whole.as_ptr()).rest() };
    }
}

#[cfg(target_arch = "x86_64")]
impl Work for WithBf16<'_> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn with<F: Finish>(self) {
        let Self(Block { product, sink, place, whole }) = self;
        // SAFETY: as is said of the value.
        unsafe { product.unfinished::<F>(sink, place, whole.as_ptr()).rest() };
    }
}

/// # Safety
/// Nobody else computes these rows and panels.
unsafe fn apply_panels(product: Product<'_>, sink: Sink<'_>, whole: &mut [i32], sums: &mut [f32]) {
    let (lines, stride) = product.left.lines();
    let line_bytes = product.weights.kind.form().line_bytes();
    for (panel, weights) in product.panels() {
        let begins = product.begins(panel);
        for row in (0..product.rows).step_by(ROWS) {
            let place = Place { row, rows: ROWS.min(product.rows - row), panel };
            let left = Left { lines: &lines[row * line_bytes..], stride, rows: place.rows };
            multiply(product.weights.kind, left, weights, begins, whole);
            // SAFETY: as the caller says.
            unsafe { product.finish(sink, place, whole, sums) };
        }
    }
}

/// Up to [`ROWS`] rows, a line each for every step in the form that the kind wants, `stride` lines from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) lines: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

impl Left<'_> {
    /// # Panics
    /// If there are not the lines of all rows at `steps` steps, or too many rows.
    fn assert_has(self, steps: usize, line_bytes: usize) {
        let last = (steps - 1) * self.stride + self.rows;
        assert!(self.rows <= ROWS && last * line_bytes <= self.lines.len());
    }
}

/// `left` times a panel, onto `begins`, into `sums` `(rows, 32)`.
///
/// # Panics
/// If a slice is too short for the shape.
pub(crate) fn multiply(kind: Int8Kind, left: Left<'_>, panel: &[i8], begins: &[i32], sums: &mut [i32]) {
    left.assert_has(panel.len() / STEP, kind.form().line_bytes());
    assert!(begins.len() == BLOCK);
    match kind {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the kind comes out of a tier, which proves that the CPU has VNNI; the shapes are checked above.
        Int8Kind::Vnni => unsafe { vnni::multiply(left, panel, begins, &mut sums[..left.rows * BLOCK]) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, of AVX-VNNI.
        Int8Kind::AvxVnni => unsafe {
            avx_vnni::multiply(left, panel, begins, &mut sums[..left.rows * BLOCK]);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, of AVX2.
        Int8Kind::Avx2 => unsafe { avx2::multiply(left, panel, begins, &mut sums[..left.rows * BLOCK]) },
        _ => portable::multiply(left, panel, begins, &mut sums[..left.rows * BLOCK]),
    }
}

impl Int8Kind {
    /// VNNI multiplies unsigned numbers with signed ones, AVX2 those of sixteen bits.
    pub(crate) fn form(self) -> Form {
        match self {
            Self::Amx | Self::Portable => Form::Signed,
            Self::Vnni | Self::AvxVnni => Form::Raised,
            Self::Avx2 => Form::Wide,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    /// Bytes without a pattern, of -127 to 127 as signed ones, as rows and weights are.
    fn random(seed: u64, count: usize) -> Vec<i8> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[5].cast_signed().max(-127)
        };
        (0..count).map(|_| next()).collect()
    }

    /// What `form` makes of a whole number.
    fn bytes_of(whole: i8, form: Form) -> Vec<u8> {
        match form {
            Form::Signed | Form::Raised => vec![whole.cast_unsigned() ^ form.flip()],
            Form::Wide => i16::from(whole).to_le_bytes().to_vec(),
            #[cfg(target_arch = "x86_64")]
            Form::Fine => unreachable!("no kind of int8 wants them"),
        }
    }

    /// What rows that are raised add to the sum of an output.
    fn raised(panel: &[i8], output: usize, form: Form) -> i32 {
        let in_tile = |byte: usize| byte % STEP / TILE * 16 + byte % LINE / 4 == output;
        let sum: i32 =
            panel.iter().enumerate().filter(|(byte, _)| in_tile(*byte)).map(|(_, w)| i32::from(*w)).sum();
        if form == Form::Raised { 128 * sum } else { 0 }
    }

    proptest! {
        #[test]
        fn sums_are_those_of_plain_rust(rows in 1_usize..=ROWS, steps in 1_usize..4, seed in any::<u64>()) {
            let (narrow, panel) = (random(seed, rows * steps * LINE), random(seed ^ 2, steps * STEP));
            let begins: Vec<i32> = random(seed ^ 4, BLOCK).into_iter().map(i32::from).collect();
            let mut wanted = vec![0; rows * BLOCK];
            let signed: Vec<u8> = narrow.iter().map(|whole| whole.cast_unsigned()).collect();
            portable::multiply(Left { lines: &signed, stride: rows, rows }, &panel, &begins, &mut wanted);
            for kind in testing::int8_kinds("sums_are_those_of_plain_rust") {
                let lines: Vec<u8> = narrow.iter().flat_map(|whole| bytes_of(*whole, kind.form())).collect();
                let mut begins = begins.clone();
                for (output, begin) in begins.iter_mut().enumerate() {
                    *begin -= raised(&panel, output, kind.form());
                }
                let mut found = vec![0; rows * BLOCK];
                multiply(kind, Left { lines: &lines, stride: rows, rows }, &panel, &begins, &mut found);
                prop_assert_eq!(&found, &wanted, "{:?}", kind);
            }
        }
    }
}
