//! Quantising in 512-bit registers: 64 columns become one line.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{FINE_MAX, Form, LINE, Lines, Scale, WHOLE_MAX};
use crate::activations::{Activations, BLOCK, Layout};

/// Quantises `rows` of either layout.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn fill(input: &Activations, rows: Range<usize>, mut to: Lines<'_>) {
    match &input.layout {
        Layout::Blocks { values, stride } => {
            let blocks = input.width().div_ceil(BLOCK);
            for line in (0..rows.len()).step_by(ROWS) {
                let count = ROWS.min(rows.len() - line);
                let from = Bf16Rows { values, stride: *stride, row: rows.start + line, count, blocks };
                if to.form == Form::Fine {
                    from.quantise_finely(line, &mut to);
                } else {
                    from.quantise(line, &mut to);
                }
            }
        }
        Layout::Rows(values) => {
            for (line, row) in rows.enumerate() {
                quantise_f32(&values[row * input.width()..][..input.width()], line, &mut to);
            }
        }
    }
}

/// Rows of bf16 that are read side by side: in each block they are one stretch of memory.
const ROWS: usize = 8;

/// Up to [`ROWS`] rows in blocks of 32 columns.
#[derive(Debug, Clone, Copy)]
struct Bf16Rows<'a> {
    values: &'a [u16],
    stride: usize,
    row: usize,
    count: usize,
    blocks: usize,
}

impl<'a> Bf16Rows<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn quantise(self, line: usize, to: &mut Lines<'_>) {
        let scales = self.scales(WHOLE_MAX, &mut to.scales[line..]);
        let flip = _mm512_set1_epi8(to.form.flip().cast_signed());
        // Packing goes by lanes of 128 bits: eight of the one, eight of the other.
        let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        for step in 0..self.blocks.div_ceil(2) {
            let low = self.lines(2 * step);
            // Where there is no second block, the bytes of it meet weights that are zero.
            let high = self.lines((2 * step + 1).min(self.blocks - 1));
            let to = &mut to.values[(step * to.stride + line) * LINE..][..self.count * LINE];
            let lines = low.chunks_exact(BLOCK).zip(high.chunks_exact(BLOCK));
            for ((to, (low, high)), scale) in to.chunks_exact_mut(LINE).zip(lines).zip(&scales) {
                let packed = _mm512_packs_epi16(
                    whole_bf16(load_bf16(low), *scale),
                    whole_bf16(load_bf16(high), *scale),
                );
                store(to, _mm512_xor_si512(_mm512_permutexvar_epi64(order, packed), flip));
            }
        }
    }

    /// The same, block by block.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn quantise_finely(self, line: usize, to: &mut Lines<'_>) {
        let scales = self.scales(FINE_MAX as f32, &mut to.scales[line..]);
        for block in 0..self.blocks {
            let to = &mut to.values[(block * to.stride + line) * LINE..][..self.count * LINE];
            let lines = self.lines(block).chunks_exact(BLOCK);
            for ((to, line), scale) in to.chunks_exact_mut(LINE).zip(lines).zip(&scales) {
                store(to, whole_bf16(load_bf16(line), *scale));
            }
        }
    }

    /// The scale of each row for whole numbers of up to `whole_max`, also written to `to`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn scales(self, whole_max: f32, to: &mut [f32]) -> [Scale; ROWS] {
        let mut scales = [Scale::of(0); ROWS];
        for (scale, sizes) in scales.iter_mut().zip(self.sizes()) {
            *scale = scale_of_bf16(whole_max, sizes);
        }
        for (to, scale) in to.iter_mut().zip(&scales[..self.count]) {
            *to = scale.scale;
        }
        scales
    }

    /// The largest size of each row, in 32 parts.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn sizes(self) -> [__m512i; ROWS] {
        let mut sizes = [_mm512_setzero_si512(); ROWS];
        for block in 0..self.blocks {
            for (sizes, line) in sizes.iter_mut().zip(self.lines(block).chunks_exact(BLOCK)) {
                *sizes = larger_bf16(*sizes, load_bf16(line));
            }
        }
        sizes
    }

    /// A line of each row.
    #[inline]
    fn lines(self, block: usize) -> &'a [u16] {
        &self.values[(block * self.stride + self.row) * BLOCK..][..self.count * BLOCK]
    }
}

/// The larger of sizes and those of as many numbers in bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn larger_bf16(sizes: __m512i, line: __m512i) -> __m512i {
    _mm512_max_epu16(sizes, _mm512_and_si512(line, _mm512_set1_epi16(0x7fff)))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_bf16(line: &[u16]) -> __m512i {
    let line = &line[..BLOCK];
    // SAFETY: the slice has 32 numbers of sixteen bits.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// The scale of a row whose sizes in bf16 are at most the largest of these, for whole numbers of up to `whole_max`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn scale_of_bf16(whole_max: f32, sizes: __m512i) -> Scale {
    // Numbers of both halves as upper halves of an f32, which is what bf16 is.
    let odd = _mm512_and_si512(sizes, _mm512_set1_epi32(UPPER));
    let bits = _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_slli_epi32::<16>(sizes), odd));
    Scale::within(whole_max, bits)
}

/// The upper half of each f32.
const UPPER: i32 = 0xffff_0000_u32.cast_signed();

/// 32 numbers of bf16 as whole numbers of sixteen bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn whole_bf16(line: __m512i, scale: Scale) -> __m512i {
    let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(line));
    let odd = _mm512_castsi512_ps(_mm512_and_si512(line, _mm512_set1_epi32(UPPER)));
    let odd = _mm512_slli_epi32::<16>(whole(odd, scale));
    _mm512_mask_blend_epi16(0xaaaa_aaaa, whole(even, scale), odd)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn whole(values: __m512, scale: Scale) -> __m512i {
    _mm512_cvtps_epi32(_mm512_mul_ps(values, _mm512_set1_ps(scale.inverse)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn quantise_f32(row: &[f32], line: usize, to: &mut Lines<'_>) {
    let mut sizes = _mm512_setzero_si512();
    for values in row.chunks(16) {
        let size = _mm512_and_si512(_mm512_castps_si512(load(values)), _mm512_set1_epi32(i32::MAX));
        sizes = _mm512_max_epu32(sizes, size);
    }
    let scale = Scale::of(_mm512_reduce_max_epu32(sizes));
    to.scales[line] = scale.scale;
    let flip = _mm512_set1_epi8(to.form.flip().cast_signed());
    for (block, values) in row.chunks(LINE).enumerate() {
        let part = |index: usize| whole(load(values.get(16 * index..).unwrap_or_default()), scale);
        let low = _mm512_packs_epi32(part(0), part(1));
        let high = _mm512_packs_epi32(part(2), part(3));
        // Packing goes by lanes of 128 bits: four of each part.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
        store(to.line(block, line), _mm512_xor_si512(bytes, flip));
    }
}

/// The first sixteen of `values`, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    let mask = if values.len() >= 16 { u16::MAX } else { (1 << values.len()) - 1 };
    // SAFETY: lanes outside the mask are not read, and the slice has the others.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut [u8], bytes: __m512i) {
    let line = &mut line[..LINE];
    // SAFETY: the slice has 64 places.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), bytes) }
}
