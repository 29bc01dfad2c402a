//! Quantising in 256-bit registers, sixteen columns at once.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{FINE_MAX, Form, LINE, Lines, Scale, WHOLE_MAX};
use crate::activations::{Activations, BLOCK, Layout};

/// Columns that become one register of whole numbers.
pub(crate) const COLUMNS: usize = 16;

/// Quantises `rows` of f32.
#[target_feature(enable = "avx2")]
pub(super) fn fill(input: &Activations, rows: Range<usize>, to: Lines<'_>) {
    let Layout::Rows(values) = &input.layout else {
        unreachable!("tiers with bf16 have VNNI, or plain code")
    };
    let width = input.width();
    let values = &values[rows.start * width..rows.end * width];
    let form = to.form;
    let (whole_max, columns) = match form {
        Form::Fine => (FINE_MAX as f32, BLOCK),
        Form::Signed | Form::Raised | Form::Wide => (WHOLE_MAX, LINE),
    };
    let number_bytes = form.line_bytes() / LINE;
    for (line, row) in values.chunks_exact(width).enumerate() {
        let mut sizes = Sizes::none();
        sizes.add(row);
        let scale = Scale::within(whole_max, sizes.largest());
        to.scales[line] = scale.scale;
        for (block, values) in row.chunks(columns).enumerate() {
            let first = (block * to.stride + line) * columns * number_bytes;
            let line = &mut to.values[first..][..columns * number_bytes];
            for (values, to) in values.chunks(COLUMNS).zip(line.chunks_exact_mut(COLUMNS * number_bytes)) {
                store(whole_of(values, scale), form, to);
            }
        }
    }
}

/// Writes sixteen whole numbers in the form that is wanted.
///
/// # Panics
/// If there is no room for them.
#[inline]
#[target_feature(enable = "avx2")]
fn store(whole: __m256i, form: Form, to: &mut [u8]) {
    assert!(to.len() >= COLUMNS * form.line_bytes() / LINE);
    match form {
        // SAFETY: there is room for sixteen numbers of sixteen bits.
        Form::Wide | Form::Fine => unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), whole) },
        Form::Signed | Form::Raised => {
            let [low, high] = [_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole)];
            let flip = _mm_set1_epi8(form.flip().cast_signed());
            let bytes = _mm_xor_si128(_mm_packs_epi16(low, high), flip);
            // SAFETY: there is room for sixteen bytes.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) };
        }
    }
}

/// The bits of the largest sizes seen so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes([__m256i; 2]);

impl Sizes {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn none() -> Self {
        Self([_mm256_setzero_si256(); 2])
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn add(&mut self, row: &[f32]) {
        let sign = _mm256_set1_epi32(i32::MAX);
        for values in row.chunks(COLUMNS) {
            for (sizes, values) in self.0.iter_mut().zip(load(values)) {
                *sizes = _mm256_max_epu32(*sizes, _mm256_and_si256(_mm256_castps_si256(values), sign));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn largest(self) -> u32 {
        let [one, other] = self.0;
        let mut lanes = [0_u32; COLUMNS / 2];
        // SAFETY: there is room for eight numbers.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), _mm256_max_epu32(one, other)) };
        lanes.into_iter().fold(0, u32::max)
    }
}

/// Up to sixteen `values` as whole numbers, zeros behind them.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn whole_of(values: &[f32], scale: Scale) -> __m256i {
    whole(load(values), scale)
}

/// Sixteen values, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[f32]) -> [__m256; 2] {
    let mut padded = [0.0; COLUMNS];
    let from = if values.len() == COLUMNS {
        values.as_ptr()
    } else {
        padded.iter_mut().zip(values).for_each(|(to, value)| *to = *value);
        padded.as_ptr()
    };
    // SAFETY: sixteen values lie there.
    unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
}

/// The nearest whole numbers, ties to even, in the order of `values`.
#[inline]
#[target_feature(enable = "avx2")]
fn whole(values: [__m256; 2], scale: Scale) -> __m256i {
    let inverse = _mm256_set1_ps(scale.inverse);
    let [low, high] = values.map(|values| _mm256_cvtps_epi32(_mm256_mul_ps(values, inverse)));
    // Packing goes by lanes of 128 bits: four of the one, four of the other.
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high))
}
