//! A malloc whose every free waits for a userspace RCU grace period, as Rust's global allocator:
//!
//! ```
//! #[global_allocator]
//! static HEAP: rcumalloc::RcuMalloc = rcumalloc::RcuMalloc;
//! ```
//!
//! From then on a block that is deallocated, by whatever drops a `Box`, a `Vec`, a `String`, is neither
//! reused nor written by the allocator until every section ([`read`]) that had begun before has ended. What a
//! section has seen it may go on reading, though its owner has dropped it; what has a destructor that readers
//! must not see is [retired](retire) instead of dropped.
//!
//! The feature `override` defines `malloc`, `free` and the rest under their libc names in the program, so
//! that C code in it uses the same heap. Variables of the environment (`RCUMALLOC_DEFER` and others) are
//! described in the README of the repository, [`config!`] has the same options in code, and the shared
//! library of the same source, librcumalloc.so, serves programs in every language.
//!
//! What is not to change the whole program's allocator may have single collections in the heap: with the
//! feature `allocator-api2` [`RcuMalloc`] is an `Allocator` of the crate of that name, as
//! `Vec::new_in(RcuMalloc)` takes it. [`stats`] tells what the heap holds.
//!
//! The heap is for Linux with glibc on x86-64, and on aarch64, where it has run under an emulator but on no
//! machine. On every other target [`RcuMalloc`] is the system's allocator, nothing is deferred, and
//! [`DEFERS`] says so: there a section protects what is retired only if the program waits for it.
// # Inside
//
// A folder is a floor of the house and calls go down only: `abi` → `front` → `release` → `cache` → `class` →
// `page` → `os`. The grace periods (`rcu`) stand beside them. Nothing here may allocate through the standard
// library, wait for a lock of libc, or change `errno` on success; that librcumalloc.so is built without `std`
// and without `alloc` makes the first of these a fact of the build. Rust's own tests link `std`; the Rust
// crate takes a `Box` from its caller, in `retire.rs` alone.
//
// The kernel maps the pages of a file 64 KiB at a time around each fault. The functions that every process
// runs as it starts therefore stand together, in `.text_start`, and those that hardly any short process runs
// stand in `.text_rare`: a small program then holds neither the rest of the code nor the rare part.
#![cfg_attr(all(rcumalloc_heap, not(test)), no_std)]
// What tests and C's names alone use.
#![cfg_attr(not(any(feature = "inject", rcumalloc_shared)), allow(dead_code))]

#[cfg(all(rcumalloc_heap, not(rcumalloc_shared)))]
extern crate alloc;

// The kernel maps 64 KiB of a file's pages around the one that is run. So code that runs together lies
// together, and begins where such a stretch of 64 KiB begins: the code of the first calls, then the code that
// programs of one thread come to, then the code that programs with more threads come to. The linker puts
// sections where it first hears of them: between the rest of the code and the rare part.
#[cfg(rcumalloc_heap)]
core::arch::global_asm!(
    ".section .text_start,\"ax\",@progbits",
    ".balign 65536",
    ".section .text_solo,\"ax\",@progbits",
    ".balign 65536",
    ".section .text_threads,\"ax\",@progbits",
    ".balign 65536",
);

#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod abi;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod abi;
#[cfg(feature = "allocator-api2")]
mod allocator;
#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod cache;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod cache;
#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod class;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod class;
#[cfg(not(rcumalloc_shared))]
mod config;
#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod constants;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod constants;
#[cfg(not(rcumalloc_heap))]
mod fallback;
#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod front;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod front;
#[cfg(rcumalloc_heap)]
mod global;
#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod os;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod os;
#[cfg(all(rcumalloc_heap, test))]
mod own_process;
#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod page;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod page;
#[cfg(all(rcumalloc_heap, not(rcumalloc_shared)))]
mod pool;
#[cfg(all(rcumalloc_heap, any(feature = "inject", rcumalloc_shared)))]
#[doc(hidden)]
pub mod release;
#[cfg(all(rcumalloc_heap, not(any(feature = "inject", rcumalloc_shared))))]
mod release;
#[cfg(all(rcumalloc_heap, not(rcumalloc_shared)))]
mod retire;
mod types;

#[cfg(not(rcumalloc_heap))]
pub use fallback::{
    DEFERS, Guard, Pool, RcuMalloc, barrier, check, owner, owns, read, retire, stats, synchronize,
};
#[cfg(rcumalloc_heap)]
pub use global::{DEFERS, Guard, RcuMalloc, barrier, check, owner, owns, read, stats, synchronize};
#[cfg(all(rcumalloc_heap, not(rcumalloc_shared)))]
pub use pool::Pool;
#[cfg(all(rcumalloc_heap, not(rcumalloc_shared)))]
pub use retire::retire;
pub use types::{Check, Owner, Stats};
