//! The signal that a CPU's refusal becomes.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::instruction::{Instruction, LENGTH_MAX};
use super::tile_file::TileFile;

thread_local! {
    // Made at compile time and never dropped: a signal's handler may not allocate.
    static TILES: RefCell<TileFile> = const { RefCell::new(TileFile::new()) };
}

/// The general registers in the order of their numbers in instructions.
const REGISTERS: [usize; 16] = [
    libc::REG_RAX as usize,
    libc::REG_RCX as usize,
    libc::REG_RDX as usize,
    libc::REG_RBX as usize,
    libc::REG_RSP as usize,
    libc::REG_RBP as usize,
    libc::REG_RSI as usize,
    libc::REG_RDI as usize,
    libc::REG_R8 as usize,
    libc::REG_R9 as usize,
    libc::REG_R10 as usize,
    libc::REG_R11 as usize,
    libc::REG_R12 as usize,
    libc::REG_R13 as usize,
    libc::REG_R14 as usize,
    libc::REG_R15 as usize,
];

const INSTRUCTION_POINTER: usize = libc::REG_RIP as usize;

/// Takes `SIGILL` for the whole process. Says whether that could be done.
pub(super) fn install() -> bool {
    // SAFETY: all of it zero is a valid `sigaction`: no flag, no signal held back.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_illegal_instruction as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the form that `SA_SIGINFO` asks for, and does nothing that a handler may not do.
    unsafe { libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()) == 0 }
}

/// Carries out the tile instructions at which the thread stands, up to the first that is none, and moves it there: a trap
/// takes longer than what they do. Where there is none at all, or one that a CPU with tiles would refuse, the process ends
/// as ever: the instruction is tried again with nobody to take the signal.
extern "C" fn on_illegal_instruction(_signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands over the registers of the interrupted thread, which nobody else has.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let numbers = REGISTERS.map(|register| registers[register].cast_unsigned());
    let start = registers[INSTRUCTION_POINTER];
    let mut at = start;
    // SAFETY: the thread stands at the first, and would come to the others; its registers are those of all of them, as no
    // tile instruction writes to one.
    while let Some(length) = unsafe { execute(at, &numbers) } {
        at = at.wrapping_add_unsigned(length as u64);
    }
    if at == start {
        give_up();
    }
    registers[INSTRUCTION_POINTER] = at;
}

/// Carries out the tile instruction at an address and says how long it is; `None` if there is none, or it was refused.
///
/// # Safety
/// The calling thread would carry it out next, with these registers. The CPU has AVX-512.
unsafe fn execute(at: i64, registers: &[u64; 16]) -> Option<usize> {
    // SAFETY: there is code. What is read of the bytes behind an instruction lies in the same function, or in one that the
    // linker put behind it: no code of ours ends with a tile instruction.
    let bytes = unsafe { (at as *const [u8; LENGTH_MAX]).read_unaligned() };
    let (instruction, length) = Instruction::decode(&bytes, registers)?;
    let done = TILES.with(|tiles| {
        // SAFETY: it reads and writes what the code says, whose author answers for it.
        unsafe { tiles.try_borrow_mut().ok()?.execute(instruction).ok() }
    });
    done.map(|()| length)
}

fn give_up() {
    // SAFETY: the default action is always valid.
    unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) };
}
