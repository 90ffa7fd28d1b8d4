//! The whole API, as bytes say, against a map of what is live.
//!
//! The oracle is that of `tests/model.rs`: blocks are disjoint, aligned, filled by their address and
//! intact when they go. Two things more: while a read-side section is open, what was freed in it
//! stays as it was (G1), whoever freed it; and while mapping calls fail, NULL with ENOMEM is an
//! answer. Frees are deferred from the first; magazines are tiny (`cfg(fuzzing)`) and the budget is
//! small, so that a few hundred steps turn, wait, trade, flush and expedite.
#![no_main]

#[path = "../../tests/oracle/mod.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;
use oracle::{WHOLE, check, fill, places};
use rcumalloc::abi::info::{mallinfo2, malloc_trim};
use rcumalloc::abi::libc_names::*;
use rcumalloc::abi::own::*;
use rcumalloc::front::switch;
use rcumalloc::os::map;
use rcumalloc::release::stats;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};

/// Most blocks and bytes live at once.
const MOST_BLOCKS: usize = 400;
const MOST_BYTES: usize = 48 << 20;

/// A live block as the model knows it.
struct Live {
    asked: usize,
    align: usize,
    size: usize,
}

#[derive(Default)]
struct Model {
    live: BTreeMap<usize, Live>,
    bytes: usize,
    /// Freed in the section that is open.
    held: Vec<(usize, usize)>,
    depth: usize,
    failing: bool,
}

/// Another thread that frees what it is told to.
fn helper() -> &'static Mutex<(SyncSender<usize>, Receiver<()>)> {
    static HELPER: OnceLock<Mutex<(SyncSender<usize>, Receiver<()>)>> = OnceLock::new();
    HELPER.get_or_init(|| {
        let (to_free, blocks) = sync_channel::<usize>(0);
        let (done, wait) = sync_channel(0);
        std::thread::spawn(move || {
            for block in blocks {
                // SAFETY: sent by its owner.
                unsafe { free(block as *mut c_void) };
                let _ = done.send(());
            }
        });
        Mutex::new((to_free, wait))
    })
}

/// Reads the input; zeros when it is at its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first as usize
    }

    /// A size: small ones most of the time.
    fn size(&mut self) -> usize {
        let kind = self.byte();
        let low = self.byte();
        match kind {
            0..130 => low,
            130..190 => low * 16 + kind,
            190..230 => low * 180 + kind,
            230..250 => low * 1500,
            250..255 => low * 16_000,
            _ => usize::MAX - low * 4096,
        }
    }
}

impl Model {
    fn add(&mut self, block: *mut c_void, asked: usize, align: usize) {
        if block.is_null() {
            // SAFETY: the calling thread's errno.
            assert_eq!(unsafe { *libc::__errno_location() }, libc::ENOMEM);
            assert!(self.failing || asked > 1 << 40, "no memory for {asked} bytes");
            return;
        }
        let addr = block as usize;
        // SAFETY: just given to us.
        let size = unsafe { malloc_usable_size(block) };
        assert!(size >= asked && addr.is_multiple_of(align), "{addr:#x}: {size}, {asked}, {align}");
        if let Some((below, live)) = self.live.range(..addr + 1).next_back() {
            assert!(below + live.size <= addr, "overlaps the block below");
        }
        if let Some((above, _)) = self.live.range(addr..).next() {
            assert!(addr + size <= *above, "overlaps the block above");
        }
        for &(start, bytes) in &self.held {
            assert!(addr + size <= start || start + bytes <= addr, "reused inside the section");
        }
        // SAFETY: usable bytes of a live block.
        unsafe { fill(addr, size) };
        self.bytes += size;
        self.live.insert(addr, Live { asked, align, size });
    }

    fn take(&mut self, at: usize) -> Option<(usize, Live)> {
        let addr = *self.live.keys().nth(at.checked_rem(self.live.len())?)?;
        let live = self.live.remove(&addr)?;
        self.bytes -= live.size;
        // SAFETY: live, and the model's.
        unsafe { check(addr, live.size, addr) };
        Some((addr, live))
    }

    fn freed(&mut self, addr: usize, size: usize) {
        if self.depth > 0 {
            self.held.push((addr, size));
        }
    }

    fn unlock(&mut self) {
        if self.depth == 1 {
            // SAFETY: freed in the section that is still open.
            self.held.drain(..).for_each(|(addr, size)| unsafe { check(addr, size, addr) });
        }
        if self.depth > 0 {
            self.depth -= 1;
            rcumalloc_read_unlock();
        }
    }

    fn allocate(&mut self, how: usize, bytes: &mut Bytes) {
        if self.live.len() >= MOST_BLOCKS || self.bytes >= MOST_BYTES {
            return;
        }
        let (size, log) = (bytes.size(), how / 8 % 4 * 4 + how % 4);
        // SAFETY: any size and alignment.
        unsafe {
            *libc::__errno_location() = 0;
            match how % 8 {
                0 => {
                    let block = calloc(1, size);
                    if !block.is_null() {
                        places(size).for_each(|at| assert_eq!(*block.cast::<u8>().add(at), 0));
                    }
                    self.add(block, size, 16);
                }
                1 => self.add(aligned_alloc(1 << log, size), size, 1 << log),
                2 => {
                    let mut out = std::ptr::null_mut();
                    let error = posix_memalign(&raw mut out, 8 << log, size);
                    assert!(error == 0 || error == libc::ENOMEM && *libc::__errno_location() == 0);
                    *libc::__errno_location() = error;
                    self.add(out, size, 8 << log);
                }
                3 if how & 64 == 0 => self.add(memalign(1 << log, size), size, 1 << log),
                3 if size < 1 << 40 => self.add(pvalloc(size), size, 4096),
                _ => self.add(malloc(size), size, 16),
            }
        }
    }

    fn resize(&mut self, bytes: &mut Bytes) {
        let (at, size) = (bytes.byte() * 3, bytes.size().max(1));
        if self.bytes >= MOST_BYTES {
            return;
        }
        let Some((addr, live)) = self.take(at) else { return };
        // SAFETY: a live block.
        let block = unsafe { reallocarray(addr as *mut c_void, 1, size) };
        if block.is_null() {
            assert!(self.failing || size > 1 << 40);
            self.bytes += live.size;
            // SAFETY: still live.
            unsafe { check(addr, live.size, addr) };
            self.live.insert(addr, live);
            return;
        }
        let common = size.min(live.size);
        if live.size <= WHOLE {
            // SAFETY: just given to us.
            unsafe { check(block as usize, common, addr) };
        }
        if block as usize != addr {
            self.freed(addr, live.size);
        }
        self.add(block, size, 16);
    }

    fn release(&mut self, how: usize, bytes: &mut Bytes) {
        let Some((addr, live)) = self.take(bytes.byte() * 3) else { return };
        let block = addr as *mut c_void;
        // SAFETY: a live block; `free_now` only where no section could see it.
        unsafe {
            match how % 8 {
                0 => rcumalloc_free(block),
                1 if self.depth == 0 => return rcumalloc_free_now(block),
                2 if live.align == 16 => free_sized(block, live.asked),
                2 | 3 => free_aligned_sized(block, live.align, live.asked),
                4 => {
                    let helper = helper().lock().expect("one at a time");
                    helper.0.send(addr).expect("it lives");
                    helper.1.recv().expect("it lives");
                }
                5 => rcumalloc_free_bulk([block].as_mut_ptr(), 1),
                _ => free(block),
            }
        }
        self.freed(addr, live.size);
    }

    fn other(&mut self, how: usize, bytes: &mut Bytes) {
        match how % 16 {
            0..4 if self.depth < 5 => {
                rcumalloc_read_lock();
                self.depth += 1;
            }
            4..7 => self.unlock(),
            7 if self.depth == 0 => rcumalloc_barrier(),
            8 if self.depth == 0 => rcumalloc_synchronize_expedited(),
            9 => {
                malloc_trim(0);
            }
            10 => {
                rcumalloc_shrink_scan(bytes.byte() * 4096);
            }
            11 => {
                map::fail_after(bytes.byte() / 32);
                self.failing = true;
            }
            12 => {
                map::fail_never();
                self.failing = false;
            }
            13 => {
                rcumalloc_quiescent_state();
                rcumalloc_poll(rcumalloc_start_poll());
            }
            14 if self.depth == 0 => {
                rcumalloc_thread_offline();
                rcumalloc_thread_online();
            }
            _ => {
                let large = self.live.values().map(|live| live.size).filter(|&size| size > 32 << 10);
                let (least, said) = (large.sum::<usize>(), mallinfo2().hblkhd);
                assert!(least <= said && said <= self.bytes, "{least} <= {said} <= {}", self.bytes);
                // Any address may be asked about.
                let addr = bytes.byte() << 12;
                let near = self.live.keys().next().map_or(addr, |first| first.wrapping_add(addr));
                // SAFETY: the answer is not wanted.
                unsafe { rcumalloc_owner(near as *const c_void, std::ptr::null_mut(), 0) };
            }
        }
    }

    fn clear(&mut self) {
        while self.depth > 0 {
            self.unlock();
        }
        map::fail_never();
        while let Some((addr, _)) = self.take(0) {
            // SAFETY: a live block.
            unsafe { free(addr as *mut c_void) };
        }
    }
}

fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        // SAFETY: the heap, which reads this, has not been started, and there is one thread.
        unsafe { std::env::set_var("RCUMALLOC_BUDGET", "256K") };
        switch::go_concurrent();
        drop(helper().lock());
    });
}

fuzz_target!(|data: &[u8]| {
    start();
    let mut model = Model::default();
    let mut bytes = Bytes(data);
    while !bytes.0.is_empty() {
        let how = bytes.byte();
        match how % 8 {
            0..3 => model.allocate(how / 8, &mut bytes),
            3 => model.resize(&mut bytes),
            4..7 => model.release(how / 8, &mut bytes),
            _ => model.other(how / 8, &mut bytes),
        }
    }
    model.clear();
    let stats = stats::collect();
    assert_eq!(stats.live_large_bytes, 0);
    assert!(stats.mapped_bytes < 4 * MOST_BYTES as u64, "lost memory: {stats:?}");
});
