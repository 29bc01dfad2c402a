//! What the bytes of a tile instruction say.

/// One of the eight tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile(pub(super) u8);

/// Rows in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    /// Address of the first.
    pub(super) start: u64,
    /// Bytes from one to the next.
    pub(super) stride: u64,
}

/// A tile instruction, with the addresses that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// `ldtilecfg`: shapes from 64 bytes at an address.
    Configure(u64),
    /// `tilerelease`
    Release,
    /// `tilezero`
    Zero(Tile),
    /// `tileloadd` and `tileloaddt1`, which differ in what stays in a cache.
    Load(Tile, Rows),
    /// `tilestored`
    Store(Rows, Tile),
    /// `tdpbf16ps`: sums, left, right.
    MultiplyBf16(Tile, Tile, Tile),
    /// `tdpbssd`: sums, left, right.
    MultiplyInt8(Tile, Tile, Tile),
}

/// The longest instruction there is, in bytes.
pub(super) const LENGTH_MAX: usize = 15;

/// The prefix that the two lowest bits of the third byte stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    X66,
    Xf3,
    Xf2,
}

/// The parts of an instruction with a three-byte VEX prefix of the map 0F38.
struct Parts {
    prefix: Prefix,
    opcode: u8,
    /// Second source, of three.
    source: Tile,
    /// The field `reg` of the byte ModRM.
    register: u8,
    operand: Operand,
    length: usize,
}

/// What the fields `mod` and `rm` of the byte ModRM, and what follows it, say.
enum Operand {
    Tile(Tile),
    Memory(Rows),
}

impl Instruction {
    /// Reads the instruction that `bytes` begin with, and its length. `registers` are the sixteen general ones as they are
    /// numbered in instructions. `None` is one that is not ours.
    pub(super) fn decode(bytes: &[u8; LENGTH_MAX], registers: &[u64; 16]) -> Option<(Self, usize)> {
        let parts = Parts::read(bytes, registers)?;
        let tile = Tile(parts.register);
        let instruction = match (parts.opcode, parts.prefix, parts.operand) {
            (0x49, Prefix::None, Operand::Memory(rows)) if parts.register == 0 => Self::Configure(rows.start),
            (0x49, Prefix::None, Operand::Tile(Tile(0))) if parts.register == 0 => Self::Release,
            (0x49, Prefix::Xf2, Operand::Tile(Tile(0))) => Self::Zero(tile),
            (0x4b, Prefix::Xf2 | Prefix::X66, Operand::Memory(rows)) => Self::Load(tile, rows),
            (0x4b, Prefix::Xf3, Operand::Memory(rows)) => Self::Store(rows, tile),
            (0x5c, Prefix::Xf3, Operand::Tile(left)) => Self::MultiplyBf16(tile, left, parts.source),
            (0x5e, Prefix::Xf2, Operand::Tile(left)) => Self::MultiplyInt8(tile, left, parts.source),
            _ => return None,
        };
        Some((instruction, parts.length))
    }
}

impl Parts {
    fn read(bytes: &[u8; LENGTH_MAX], registers: &[u64; 16]) -> Option<Self> {
        let [0xc4, extensions, kind, opcode, modrm, ..] = *bytes else { return None };
        // The map 0F38, 128 bits, W 0.
        if extensions & 0x1f != 2 || kind & 0x84 != 0 {
            return None;
        }
        let prefix = [Prefix::None, Prefix::X66, Prefix::Xf3, Prefix::Xf2][usize::from(kind & 3)];
        let (operand, behind) = match modrm >> 6 {
            3 => (Operand::Tile(Tile(modrm & 7)), 5),
            _ => memory(bytes, registers)?,
        };
        let source = Tile(!kind >> 3 & 7);
        Some(Self { prefix, opcode, source, register: modrm >> 3 & 7, operand, length: behind })
    }
}

/// The operand in memory whose ModRM is the fifth byte, and the place behind it. No address counts from the instruction.
fn memory(bytes: &[u8; LENGTH_MAX], registers: &[u64; 16]) -> Option<(Operand, usize)> {
    // Stored inverted: the fourth bit of an index and of a base.
    let (index_high, base_high) = (!bytes[1] >> 6 & 1, !bytes[1] >> 5 & 1);
    let (mode, low) = (bytes[4] >> 6, bytes[4] & 7);
    let (base, stride, behind) = if low == 4 {
        let sib = bytes[5];
        let index = sib >> 3 & 7 | index_high << 3;
        // Four is the stack pointer, which is no index: it stands for none.
        let stride = if index == 4 { 0 } else { registers[usize::from(index)] << (sib >> 6) };
        (sib & 7, stride, 6)
    } else {
        (low, 0, 5)
    };
    let (distance, behind) = match mode {
        0 if base == 5 => return None,
        0 => (0, behind),
        1 => (i64::from(bytes[behind].cast_signed()), behind + 1),
        _ => {
            let four = bytes.get(behind..behind + 4)?.try_into().ok()?;
            (i64::from(i32::from_le_bytes(four)), behind + 4)
        }
    };
    let start = registers[usize::from(base | base_high << 3)].wrapping_add_signed(distance);
    Some((Operand::Memory(Rows { start, stride }), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Register `n` holds `0x1000 * n`.
    fn decode(bytes: &[u8]) -> Option<(Instruction, usize)> {
        let registers = std::array::from_fn(|number| 0x1000 * number as u64);
        let mut padded = [0x90; LENGTH_MAX];
        padded[..bytes.len()].copy_from_slice(bytes);
        Instruction::decode(&padded, &registers)
    }

    // The bytes are those of GNU as 2.40.

    #[test]
    fn shapes_are_set_and_given_back() {
        // ldtilecfg [rax]; ldtilecfg [r13+8]; tilerelease
        assert_eq!(decode(&[0xc4, 0xe2, 0x78, 0x49, 0x00]), Some((Instruction::Configure(0), 5)));
        let with_distance = decode(&[0xc4, 0xc2, 0x78, 0x49, 0x45, 0x08]);
        assert_eq!(with_distance, Some((Instruction::Configure(0xd008), 6)));
        assert_eq!(decode(&[0xc4, 0xe2, 0x78, 0x49, 0xc0]), Some((Instruction::Release, 5)));
    }

    #[test]
    fn rows_lie_at_a_base_and_a_distance_an_index_apart() {
        // tileloadd tmm6, [rcx+rdx*1]
        let rows = Rows { start: 0x1000, stride: 0x2000 };
        let found = decode(&[0xc4, 0xe2, 0x7b, 0x4b, 0x34, 0x11]);
        assert_eq!(found, Some((Instruction::Load(Tile(6), rows), 6)));
        // tileloaddt1 tmm5, [r8+r9*1+0x400]
        let rows = Rows { start: 0x8400, stride: 0x9000 };
        let found = decode(&[0xc4, 0x82, 0x79, 0x4b, 0xac, 0x08, 0x00, 0x04, 0x00, 0x00]);
        assert_eq!(found, Some((Instruction::Load(Tile(5), rows), 10)));
        // tilestored [r13+r12*2-8], tmm1
        let rows = Rows { start: 0xcff8, stride: 0x18000 };
        let found = decode(&[0xc4, 0x82, 0x7a, 0x4b, 0x4c, 0x65, 0xf8]);
        assert_eq!(found, Some((Instruction::Store(rows, Tile(1)), 7)));
    }

    #[test]
    fn rows_without_an_index_are_all_the_same() {
        // tileloadd tmm0, [rcx]
        let rows = Rows { start: 0x1000, stride: 0 };
        let found = decode(&[0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x21]);
        assert_eq!(found, Some((Instruction::Load(Tile(0), rows), 6)));
    }

    #[test]
    fn products_name_sums_then_left_then_right() {
        // tdpbf16ps tmm1, tmm4, tmm7; tdpbssd tmm3, tmm5, tmm6; tilezero tmm2
        let (sums, left, right) = (Tile(1), Tile(4), Tile(7));
        let found = decode(&[0xc4, 0xe2, 0x42, 0x5c, 0xcc]);
        assert_eq!(found, Some((Instruction::MultiplyBf16(sums, left, right), 5)));
        let (sums, left, right) = (Tile(3), Tile(5), Tile(6));
        let found = decode(&[0xc4, 0xe2, 0x4b, 0x5e, 0xdd]);
        assert_eq!(found, Some((Instruction::MultiplyInt8(sums, left, right), 5)));
        assert_eq!(decode(&[0xc4, 0xe2, 0x7b, 0x49, 0xd0]), Some((Instruction::Zero(Tile(2)), 5)));
    }

    #[test]
    fn other_instructions_are_not_ours() {
        // ud2; vpmulld ymm0, ymm1, ymm2; tdpbuud tmm0, tmm1, tmm2
        assert_eq!(decode(&[0x0f, 0x0b]), None);
        assert_eq!(decode(&[0xc4, 0xe2, 0x75, 0x40, 0xc2]), None);
        assert_eq!(decode(&[0xc4, 0xe2, 0x68, 0x5e, 0xc1]), None);
    }
}
