//! Eight tiles, and what instructions do to them.

use super::instruction::{Instruction, Rows, Tile};

const TILES: usize = 8;
const TILE_ROWS: usize = 16;
const ROW_BYTES: usize = 64;
/// Numbers of 32 bits in a row.
const COLUMNS: usize = ROW_BYTES / 4;

/// The tiles of a thread: sixteen rows of 64 bytes each.
#[derive(Debug)]
pub(super) struct TileFile {
    is_configured: bool,
    tiles: [Contents; TILES],
}

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Contents([[u8; ROW_BYTES]; TILE_ROWS]);

impl Contents {
    const ZERO: Self = Self([[0; ROW_BYTES]; TILE_ROWS]);
}

/// An instruction that is not carried out: on a CPU with tiles it is a fault, or it asks for what kernels never do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Tiles have no shapes.
    NotConfigured,
    /// Shapes other than those of the kernels: each tile as large as it can be.
    OtherShapes,
    /// The three tiles of a product are not three.
    SameTiles,
}

impl TileFile {
    /// Tiles as a new thread finds them.
    pub(super) const fn new() -> Self {
        Self { is_configured: false, tiles: [Contents::ZERO; TILES] }
    }

    /// Does what the instruction says.
    ///
    /// # Safety
    /// Memory that the instruction reads can be read, and what it writes can be written. The CPU has AVX-512.
    ///
    /// # Errors
    /// If it is refused; then nothing has changed.
    pub(super) unsafe fn execute(&mut self, instruction: Instruction) -> Result<(), Refused> {
        match instruction {
            // SAFETY: the caller says that 64 bytes lie there.
            Instruction::Configure(shapes) => return unsafe { self.configure(shapes as *const u8) },
            Instruction::Release => *self = Self::new(),
            _ if !self.is_configured => return Err(Refused::NotConfigured),
            Instruction::Zero(tile) => *self.tile(tile) = Contents::ZERO,
            Instruction::Load(tile, rows) => {
                for (number, row) in self.tile(tile).0.iter_mut().enumerate() {
                    // SAFETY: the caller says that the rows can be read.
                    *row = unsafe { address(rows, number).cast_const().read_unaligned() };
                }
            }
            Instruction::Store(rows, tile) => {
                for (number, row) in self.tile(tile).0.iter().enumerate() {
                    // SAFETY: the caller says that the rows can be written.
                    unsafe { address(rows, number).write_unaligned(*row) };
                }
            }
            // SAFETY: the caller says that the CPU has AVX-512.
            Instruction::MultiplyBf16(sums, left, right) => unsafe { self.multiply_bf16(sums, left, right)? },
            // SAFETY: as above.
            Instruction::MultiplyInt8(sums, left, right) => unsafe { self.multiply_int8(sums, left, right)? },
        }
        Ok(())
    }

    fn tile(&mut self, tile: Tile) -> &mut Contents {
        &mut self.tiles[usize::from(tile.0)]
    }

    /// `shapes` are a palette (one), a row to start at (none), fourteen empty bytes, sixteen times the bytes of a row, and
    /// sixteen times the number of rows.
    ///
    /// # Safety
    /// 64 bytes lie there.
    unsafe fn configure(&mut self, shapes: *const u8) -> Result<(), Refused> {
        // SAFETY: the caller says so.
        let shapes = unsafe { shapes.cast::<[u8; 64]>().read_unaligned() };
        let largest = |tile: usize| shapes[16 + 2 * tile..][..2] == [64, 0] && shapes[48 + tile] == 16;
        if shapes[..2] != [1, 0] || !(0..TILES).all(largest) {
            return Err(Refused::OtherShapes);
        }
        *self = Self::new();
        self.is_configured = true;
        Ok(())
    }

    #[target_feature(enable = "avx512f,avx512bw,fma")]
    fn multiply_bf16(&mut self, sums: Tile, left: Tile, right: Tile) -> Result<(), Refused> {
        self.multiply(sums, left, right, row_of_bf16)
    }

    #[target_feature(enable = "avx512f,avx512bw,fma")]
    fn multiply_int8(&mut self, sums: Tile, left: Tile, right: Tile) -> Result<(), Refused> {
        self.multiply(sums, left, right, row_of_int8)
    }

    /// Adds to each row of `sums` what `row_product` makes of the sums, a row of `left` and all of `right`.
    #[inline(always)]
    fn multiply(
        &mut self,
        sums: Tile,
        left: Tile,
        right: Tile,
        row_product: impl Fn(&mut [u8; ROW_BYTES], &[u8; ROW_BYTES], &Contents),
    ) -> Result<(), Refused> {
        if sums == left || sums == right || left == right {
            return Err(Refused::SameTiles);
        }
        let (left, right) = (*self.tile(left), *self.tile(right));
        for (sums, left) in self.tile(sums).0.iter_mut().zip(&left.0) {
            row_product(sums, left, &right);
        }
        Ok(())
    }
}

fn address(rows: Rows, number: usize) -> *mut [u8; ROW_BYTES] {
    rows.start.wrapping_add(rows.stride.wrapping_mul(number as u64)) as *mut [u8; ROW_BYTES]
}

/// Pairs of bf16: the first of each pair are summed apart from the second, with fused products, and both are then added to
/// each other and that to what was there. Numbers below the normal ones are zero, before and after.
#[inline(always)]
fn row_of_bf16(sums: &mut [u8; ROW_BYTES], left: &[u8; ROW_BYTES], right: &Contents) {
    let (mut first, mut second) = ([0.0_f32; COLUMNS], [0.0_f32; COLUMNS]);
    for (pair, right) in left.as_chunks::<4>().0.iter().zip(&right.0) {
        let (low, high) = both_bf16(*pair);
        let right: [(f32, f32); COLUMNS] = std::array::from_fn(|column| both_bf16(four(right, column)));
        for ((first, second), right) in first.iter_mut().zip(&mut second).zip(right) {
            *first = flushed(low.mul_add(right.0, *first));
            *second = flushed(high.mul_add(right.1, *second));
        }
    }
    for (sum, (first, second)) in sums.as_chunks_mut::<4>().0.iter_mut().zip(first.iter().zip(second)) {
        let before = flushed(f32::from_le_bytes(*sum));
        *sum = flushed(before + flushed(first + second)).to_le_bytes();
    }
}

/// Fours of signed bytes, whose products are added as whole numbers that wrap around.
#[inline(always)]
fn row_of_int8(sums: &mut [u8; ROW_BYTES], left: &[u8; ROW_BYTES], right: &Contents) {
    for (left, right) in left.as_chunks::<4>().0.iter().zip(&right.0) {
        for (sum, right) in sums.as_chunks_mut::<4>().0.iter_mut().zip(right.as_chunks::<4>().0) {
            let products = left
                .iter()
                .zip(right)
                .map(|(left, right)| i32::from(left.cast_signed()) * i32::from(right.cast_signed()));
            *sum = i32::from_le_bytes(*sum).wrapping_add(products.sum()).to_le_bytes();
        }
    }
}

#[inline(always)]
fn four(row: &[u8; ROW_BYTES], column: usize) -> [u8; 4] {
    row.as_chunks::<4>().0[column]
}

/// The two bf16 in four bytes. A bf16 is the upper half of an f32.
#[inline(always)]
fn both_bf16(pair: [u8; 4]) -> (f32, f32) {
    let [low, high, upper_low, upper_high] = pair;
    let number = |low, high| flushed(f32::from_le_bytes([0, 0, low, high]));
    (number(low, high), number(upper_low, upper_high))
}

/// Zero, of the same sign, in place of a number below the normal ones.
#[inline(always)]
fn flushed(number: f32) -> f32 {
    if number.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(number) } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::has_avx512;

    const SUMS: Tile = Tile(0);
    const LEFT: Tile = Tile(1);
    const RIGHT: Tile = Tile(2);

    fn shapes(rows: u8) -> [u8; 64] {
        std::array::from_fn(|place| match place {
            0 => 1,
            16..32 if place % 2 == 0 => 64,
            48..56 => rows,
            _ => 0,
        })
    }

    fn execute(file: &mut TileFile, instruction: Instruction) -> Result<(), Refused> {
        // SAFETY: tests name memory of their own, and those that multiply have asked for AVX-512.
        unsafe { file.execute(instruction) }
    }

    fn configured() -> TileFile {
        let mut file = TileFile::new();
        assert_eq!(execute(&mut file, Instruction::Configure(shapes(16).as_ptr() as u64)), Ok(()));
        file
    }

    fn load(file: &mut TileFile, tile: Tile, contents: &Contents) {
        let rows = Rows { start: contents.0.as_ptr() as u64, stride: 64 };
        assert_eq!(execute(file, Instruction::Load(tile, rows)), Ok(()));
    }

    fn stored(file: &mut TileFile, tile: Tile) -> Contents {
        let mut contents = Contents::ZERO;
        let rows = Rows { start: contents.0.as_mut_ptr() as u64, stride: 64 };
        assert_eq!(execute(file, Instruction::Store(rows, tile)), Ok(()));
        contents
    }

    /// Four bytes at each row and column.
    fn contents(four: impl Fn(u8, u8) -> [u8; 4]) -> Contents {
        let mut contents = Contents::ZERO;
        for (row, bytes) in (0..).zip(&mut contents.0) {
            for (column, bytes) in (0..).zip(bytes.as_chunks_mut().0) {
                *bytes = four(row, column);
            }
        }
        contents
    }

    /// Whether each number is what `wanted` says of its row and column.
    fn assert_all(found: &Contents, wanted: impl Fn(u8, u8) -> [u8; 4]) {
        assert_eq!(found.0, contents(wanted).0);
    }

    fn pair(first: f32, second: f32) -> [u8; 4] {
        let (first, second) = (first.to_le_bytes(), second.to_le_bytes());
        [first[2], first[3], second[2], second[3]]
    }

    #[test]
    fn product_of_bf16_adds_pairs_of_a_row_and_a_column() {
        if !has_avx512("product_of_bf16_adds_pairs_of_a_row_and_a_column") {
            return;
        }
        let mut file = configured();
        // Small whole numbers, whose sums are exact.
        load(&mut file, LEFT, &contents(|row, column| pair(row.into(), column.into())));
        load(&mut file, RIGHT, &contents(|row, column| pair(column.into(), row.into())));
        load(&mut file, SUMS, &contents(|_, _| 0.5_f32.to_le_bytes()));
        assert_eq!(execute(&mut file, Instruction::MultiplyBf16(SUMS, LEFT, RIGHT)), Ok(()));
        let squares: f32 = (0_u8..16).map(|step| f32::from(step).powi(2)).sum();
        assert_all(&stored(&mut file, SUMS), |row, column| {
            (0.5 + squares + 16.0 * f32::from(row) * f32::from(column)).to_le_bytes()
        });
    }

    #[test]
    fn product_of_bf16_takes_numbers_below_the_normal_for_zero() {
        if !has_avx512("product_of_bf16_takes_numbers_below_the_normal_for_zero") {
            return;
        }
        let mut file = configured();
        load(&mut file, LEFT, &contents(|_, _| pair(f32::MIN_POSITIVE / 2.0, 1.0)));
        load(&mut file, RIGHT, &contents(|_, _| pair(2.0_f32.powi(100), f32::MIN_POSITIVE / 16.0)));
        load(&mut file, SUMS, &contents(|_, _| (f32::MIN_POSITIVE / 4.0).to_le_bytes()));
        assert_eq!(execute(&mut file, Instruction::MultiplyBf16(SUMS, LEFT, RIGHT)), Ok(()));
        assert_eq!(stored(&mut file, SUMS).0, Contents::ZERO.0);
    }

    #[test]
    fn product_of_int8_adds_fours_of_a_row_and_a_column() {
        if !has_avx512("product_of_int8_adds_fours_of_a_row_and_a_column") {
            return;
        }
        let mut file = configured();
        load(&mut file, LEFT, &contents(|row, _| [row, 1, 0x80, 0]));
        load(&mut file, RIGHT, &contents(|_, column| [column, 2, 0x80, 99]));
        load(&mut file, SUMS, &contents(|_, _| (-7_i32).to_le_bytes()));
        assert_eq!(execute(&mut file, Instruction::MultiplyInt8(SUMS, LEFT, RIGHT)), Ok(()));
        assert_all(&stored(&mut file, SUMS), |row, column| {
            (16 * (i32::from(row) * i32::from(column) + 2 + 128 * 128) - 7).to_le_bytes()
        });
    }

    #[test]
    fn what_a_cpu_refuses_is_refused() {
        let mut file = TileFile::new();
        assert_eq!(execute(&mut file, Instruction::Zero(SUMS)), Err(Refused::NotConfigured));
        let few_rows = shapes(8);
        let found = execute(&mut file, Instruction::Configure(few_rows.as_ptr() as u64));
        assert_eq!(found, Err(Refused::OtherShapes));
        let mut file = configured();
        assert_eq!(execute(&mut file, Instruction::MultiplyBf16(SUMS, LEFT, LEFT)), Err(Refused::SameTiles));
        assert_eq!(execute(&mut file, Instruction::Release), Ok(()));
        assert_eq!(execute(&mut file, Instruction::Zero(SUMS)), Err(Refused::NotConfigured));
    }
}
