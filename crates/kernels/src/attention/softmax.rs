//! Softmax of a row of scores. What is divided by is returned: the caller divides the few results, not the many weights.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod portable;
#[cfg(target_arch = "x86_64")]
pub(super) mod powers;
#[cfg(target_arch = "x86_64")]
pub(super) mod whole;
