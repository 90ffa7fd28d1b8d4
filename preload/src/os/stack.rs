//! The caller's stack.
//!
//! A program that recurses without end learns it from a SIGSEGV, wherever it is then, and some jump out of
//! the handler and go on: Ruby, OCaml, Emacs, whoever uses libsigsegv. If that is in the middle of a slow
//! path, whatever was held stays held and whatever was half done stays so. So a slow path touches all the
//! stack it may need before it does anything: where there is too little, the fault comes while nothing is
//! under way, and a jump out of it leaves nothing.

use super::arch;

/// Touches what a slow path may need of the calling thread's stack. Nothing may be under way: no lock held,
/// nothing taken out of one place and not yet in another.
#[inline(always)]
pub fn probe() {
    arch::probe_stack();
}
