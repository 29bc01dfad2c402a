//! `a · b + c`. What is written with it is compiled for any CPU, and once more for one that has an instruction for it.

/// A way to multiply and add.
pub(crate) trait MultiplyAdd {
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// Two instructions, rounded twice, on any CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Separate {}

/// One instruction, rounded once: only to be called from code that is compiled for a CPU with FMA. Elsewhere it would be
/// right, and a call of the C library.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fused {}

impl MultiplyAdd for Separate {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

#[cfg(target_arch = "x86_64")]
impl MultiplyAdd for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}
