//! `enomem_everywhere`: the n-th mapping call and every later one fails, for every n there is.
//!
//! Each n is a process of its own, forked before the heap is started, so that the calls of the start
//! are among them. While mappings fail: NULL with ENOMEM where there is no memory, contents intact,
//! free works. When they work again, so does everything.

mod oracle;

use oracle::{WHOLE, check, fill};
use rcumalloc::abi::info::malloc_trim;
use rcumalloc::abi::libc_names::*;
use rcumalloc::os::map;
use std::ffi::c_void;

const SIZES: [usize; 14] =
    [1, 24, 100, 200, 500, 1000, 1024, 1025, 3000, 9000, 32_000, 33_000, 300_000, 5_000_000];

fn errno() -> i32 {
    // SAFETY: the calling thread's errno.
    unsafe { *libc::__errno_location() }
}

fn clear_errno() {
    // SAFETY: the calling thread's errno.
    unsafe { *libc::__errno_location() = 0 };
}

/// A block filled by its address.
struct Block {
    addr: usize,
    size: usize,
}

impl Block {
    /// What a call gave, which had nothing to give only with ENOMEM.
    fn of(given: *mut c_void, size: usize) -> Option<Block> {
        if given.is_null() {
            assert_eq!(errno(), libc::ENOMEM, "NULL for {size} bytes");
            return None;
        }
        let addr = given as usize;
        // SAFETY: just given to us.
        unsafe { fill(addr, size) };
        Some(Block { addr, size })
    }

    fn check(&self, filled_at: usize, size: usize) {
        // SAFETY: live and ours.
        unsafe { check(self.addr, size, filled_at) };
    }

    fn free(self) {
        self.check(self.addr, self.size);
        clear_errno();
        // SAFETY: live and ours.
        unsafe { free(self.addr as *mut c_void) };
        assert_eq!(errno(), 0, "free changed errno");
    }

    /// What realloc makes of it: another block, or the same one, untouched.
    fn resize(self, size: usize) -> Block {
        clear_errno();
        // SAFETY: live and ours.
        let given = unsafe { realloc(self.addr as *mut c_void, size) };
        if given.is_null() {
            assert_eq!(errno(), libc::ENOMEM);
            self.check(self.addr, self.size);
            return self;
        }
        let moved = Block { addr: given as usize, size };
        if size <= WHOLE && self.size <= WHOLE {
            moved.check(self.addr, size.min(self.size));
        }
        Block::of(given, size).expect("not null")
    }
}

/// One round of everything; the blocks that are left.
fn work(turn: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    for round in 0..40 {
        for (at, &size) in SIZES.iter().enumerate() {
            if size > 100_000 && round % 8 != at % 8 {
                continue;
            }
            clear_errno();
            // SAFETY: any size and alignment; the blocks are ours.
            let given = unsafe {
                match (round + at + turn) % 6 {
                    0 => calloc(1, size),
                    1 => aligned_alloc(64 << (at % 8), size),
                    2 => {
                        let mut out = std::ptr::null_mut();
                        let error = posix_memalign(&raw mut out, 4096, size);
                        assert!(error == 0 || error == libc::ENOMEM && errno() == 0);
                        clear_errno();
                        if error != 0 {
                            continue;
                        }
                        out
                    }
                    _ => malloc(size),
                }
            };
            blocks.extend(Block::of(given, size));
        }
        if round % 3 == 0 {
            let some = blocks.len() / 2;
            blocks.drain(some..).for_each(Block::free);
        }
        if round % 7 == 0 && !blocks.is_empty() {
            let block = blocks.swap_remove(round % blocks.len());
            let size = SIZES[(round + 3) % 12];
            blocks.push(block.resize(size));
        }
        if round == 20 {
            malloc_trim(0);
        }
    }
    blocks
}

/// In the child: 0 all is well, 3 the same and no mapping call failed.
fn victim(n: usize, concurrent: bool) -> i32 {
    map::fail_after(n);
    if concurrent {
        rcumalloc::front::switch::go_concurrent();
    }
    let mut blocks = work(0);
    if concurrent {
        // Two more threads, whose blocks this one frees.
        std::thread::scope(|scope| {
            let threads = [1, 2].map(|turn| scope.spawn(move || work(turn)));
            threads.into_iter().for_each(|thread| blocks.extend(thread.join().expect("joined")));
        });
    }
    let (kept, freed): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    freed.into_iter().for_each(|(_, block)| block.free());
    let failed = map::has_failed();
    map::fail_never();
    // Mappings work again: so does the heap, for every size.
    let again: Vec<_> = SIZES
        .iter()
        .map(|&size| {
            // SAFETY: any size.
            Block::of(unsafe { malloc(size) }, size).expect("memory is back")
        })
        .collect();
    kept.into_iter().for_each(|(_, block)| block.free());
    again.into_iter().for_each(Block::free);
    rcumalloc::abi::own::rcumalloc_barrier();
    work(3).into_iter().for_each(Block::free);
    malloc_trim(0);
    let stats = rcumalloc::release::stats::collect();
    assert_eq!(stats.live_large_bytes, 0);
    assert!(stats.mapped_bytes < 16 << 20, "lost memory: {stats:?}");
    if failed { 0 } else { 3 }
}

fn every_call(concurrent: bool) {
    for n in 0..2000 {
        // SAFETY: the child uses this heap, which its parent has not started, and leaves by _exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(60);
                libc::_exit(victim(n, concurrent));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert!(libc::WIFEXITED(status), "call {n} fails: the process dies of {:#x}", status);
            match libc::WEXITSTATUS(status) {
                0 => {}
                3 => {
                    eprintln!("{n} calls");
                    assert!(n > 10, "the injection does not work");
                    return;
                }
                other => panic!("call {n} fails: exit status {other}"),
            }
        }
    }
    panic!("no end of mapping calls");
}

#[test]
fn enomem_everywhere_solo() {
    every_call(false);
}

#[test]
fn enomem_everywhere_concurrent() {
    every_call(true);
}
