//! What CPUID, XCR0 and the kernel say.

/// AVX-512 as every CPU since Skylake's servers has it.
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// 512-bit registers that multiply bf16.
pub(super) fn has_avx512_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

/// Tile registers that multiply bf16, and the kernel's leave to use them.
pub(super) fn has_amx_bf16() -> bool {
    has_avx512_bf16() && (cpu_has_tiles() && kernel_permits_tiles() || software_has_tiles())
}

#[cfg(feature = "software-tiles")]
fn software_has_tiles() -> bool {
    crate::software_tiles::are_on()
}

#[cfg(not(feature = "software-tiles"))]
fn software_has_tiles() -> bool {
    false
}

/// CPUID leaf 7: AMX-BF16 is bit 22 of EDX, AMX-TILE bit 24. XCR0: bits 17 and 18 are the state of the tiles.
fn cpu_has_tiles() -> bool {
    const TILES: u32 = 1 << 22 | 1 << 24;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    let leaf = std::arch::x86_64::__cpuid_count(7, 0);
    leaf.edx & TILES == TILES && extended_state() & TILE_STATE == TILE_STATE
}

/// Tiles that multiply int8, where there are tiles at all: CPUID leaf 7, bit 25 of EDX.
pub(super) fn has_amx_int8() -> bool {
    std::arch::x86_64::__cpuid_count(7, 0).edx & 1 << 25 != 0 || software_has_tiles()
}

/// 256-bit registers that multiply floats and whole numbers, as every server's CPU since 2013 has them.
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// 512-bit registers that multiply int8, and int16.
pub(super) fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// 256-bit registers that multiply int8, and int16: Intel's CPUs without AVX-512 since Alder Lake, AMD's since Zen 5.
pub(crate) fn has_avx_vnni() -> bool {
    has_avx2() && is_x86_feature_detected!("avxvnni")
}

/// What CPUID leaf 0 says of the vendor.
pub(super) fn is_intel() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

fn extended_state() -> u64 {
    // SAFETY: AVX-512 was detected before, which means that the kernel has switched XSAVE and `xgetbv` on.
    unsafe { xgetbv() }
}

#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: register 0 exists wherever `xgetbv` does.
    unsafe { std::arch::x86_64::_xgetbv(0) }
}

/// Linux saves tiles only for a process that has asked for them. Asked once: the answer holds for all threads.
#[cfg(target_os = "linux")]
fn kernel_permits_tiles() -> bool {
    use std::sync::OnceLock;

    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| request_tile_permission() == 0)
}

#[cfg(not(target_os = "linux"))]
fn kernel_permits_tiles() -> bool {
    false
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`: zero, or a negative error number (an old kernel, a sandbox).
#[cfg(target_os = "linux")]
fn request_tile_permission() -> i64 {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let answer: i64;
    // SAFETY: this call takes two numbers and touches no memory of ours; `syscall` overwrites rcx and r11 only.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}
