//! Quantising in 256-bit registers, sixteen columns at once.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Form, LINE, Lines, Scale};
use crate::activations::{Activations, Layout};

/// Columns that become one register of whole numbers.
const LANES: usize = 16;

/// Quantises `rows` of f32.
#[target_feature(enable = "avx2")]
pub(super) fn fill(input: &Activations, rows: Range<usize>, mut to: Lines<'_>) {
    let Layout::Rows(values) = &input.layout else {
        unreachable!("tiers with bf16 have VNNI, or plain code")
    };
    let width = input.width();
    let values = &values[rows.start * width..rows.end * width];
    let form = to.form;
    for (line, row) in values.chunks_exact(width).enumerate() {
        let scale = Scale::of(largest_size(row));
        to.scales[line] = scale.scale;
        for (block, values) in row.chunks(LINE).enumerate() {
            let line = to.line(block, line);
            let places = line.chunks_exact_mut(form.line_bytes() / LINE * LANES);
            for (values, to) in values.chunks(LANES).zip(places) {
                store(whole(load(values), scale), form, to);
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
    assert!(to.len() >= form.line_bytes() / LINE * LANES);
    match form {
        // SAFETY: there is room for sixteen numbers of sixteen bits.
        Form::Wide => unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), whole) },
        Form::Fine => unreachable!("fine numbers are made of lines of bf16"),
        Form::Signed | Form::Raised => {
            let [low, high] = [_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole)];
            let flip = _mm_set1_epi8(form.flip().cast_signed());
            let bytes = _mm_xor_si128(_mm_packs_epi16(low, high), flip);
            // SAFETY: there is room for sixteen bytes.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) };
        }
    }
}

/// The bits of the largest size in `row`.
#[inline]
#[target_feature(enable = "avx2")]
fn largest_size(row: &[f32]) -> u32 {
    let sign = _mm256_set1_epi32(i32::MAX);
    let mut sizes = [_mm256_setzero_si256(); 2];
    for values in row.chunks(LANES) {
        for (sizes, values) in sizes.iter_mut().zip(load(values)) {
            *sizes = _mm256_max_epu32(*sizes, _mm256_and_si256(_mm256_castps_si256(values), sign));
        }
    }
    let mut lanes = [0_u32; 8];
    // SAFETY: there is room for eight numbers.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), _mm256_max_epu32(sizes[0], sizes[1])) };
    lanes.into_iter().fold(0, u32::max)
}

/// Sixteen values, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[f32]) -> [__m256; 2] {
    let mut padded = [0.0; LANES];
    let from = if values.len() == LANES {
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
