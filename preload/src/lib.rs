//! rcumalloc: a malloc whose every free waits for a userspace RCU grace period.
//!
//! A folder is a floor of the house and calls go down only:
//! `abi` → `thread` → `class` → [`page`] → [`os`]. The grace periods (`rcu`) stand beside
//! them. Nothing here may allocate through the standard library, wait for a lock of libc,
//! or change `errno` on success; that the crate is `no_std` makes the first of these a fact
//! of the build. Rust's own tests link `std`, the library never does.
//!
//! The kernel maps the pages of a file 64 KiB at a time around each fault. The functions that every process runs as it
//! starts therefore stand together, in `.text_start`, and those that hardly any short process runs stand in
//! `.text_rare`: a small program then holds neither the rest of the code nor the rare part.
#![cfg_attr(not(test), no_std)]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("rcumalloc is written for x86-64 Linux with glibc and tested nowhere else");

pub mod abi;
pub mod class;
pub mod constants;
mod global;
pub mod os;
#[cfg(test)]
mod own_process;
pub mod page;
pub mod thread;

// The linker puts `.text_start` where it first hears of it: between the rest and the rare part.
core::arch::global_asm!(".section .text_start,\"ax\",@progbits");

pub use global::{Guard, RcuMalloc, read};
