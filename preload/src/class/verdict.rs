//! Bad calls: what is wrong, in one line, and what becomes of the process (G6).
//!
//! The fast path of `free` finds interior, foreign and misaligned addresses itself and jumps to
//! the slow path, which comes here; so does a block that is the newest of its magazine already. Other
//! double frees of small blocks are found when a magazine is turned (`marks.rs`), those of large
//! blocks at once. The line names the call, the address and
//! what the heap knows of it; then the process aborts, or, with `RCUMALLOC_ON_ERROR=report`, the
//! call has no effect and the program goes on.

use crate::class::large::{self, LargeRef};
use crate::class::size_class::{Class, SMALL_MAX};
use crate::class::slab::{Slab, Whereabouts};
use crate::class::trap;
use crate::class::typed::{self, Member, Pool, Wrong};
use crate::constants::SLAB_BYTES;
use crate::os::line::Line;
use crate::os::syscall;
use crate::page::memdesc::{Kind, Memdesc};
use crate::page::ranges;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Acquire, Ordering::Relaxed, fence};
use rcu::Misuse;

#[unsafe(link_section = ".data")]
static REPORT_ONLY: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".data")]
static REPORTED: AtomicU64 = AtomicU64::new(0);

/// Whether bad calls are reported and the program goes on.
pub fn set_report_only(report: bool) {
    REPORT_ONLY.store(report, Relaxed);
}

/// Whether bad calls are reported and survived.
pub fn reports_only() -> bool {
    REPORT_ONLY.load(Relaxed)
}

/// Adds to a message where a freed block is; what it is of threads, this floor does not know.
type Tracer = fn(usize, &mut Line);

#[unsafe(link_section = ".data")]
static TRACER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets who adds to messages where a freed block is.
pub fn set_tracer(tracer: Tracer) {
    TRACER.store(tracer as *mut (), Relaxed);
}

/// Adds it.
fn trace(line: &mut Line, addr: usize) {
    let tracer = TRACER.load(Relaxed);
    if !tracer.is_null() {
        // SAFETY: `set_tracer` has stored a function of this type.
        let tracer: Tracer = unsafe { core::mem::transmute(tracer) };
        tracer(addr, line);
    }
}

/// How many bad calls were reported.
pub fn reported() -> u64 {
    REPORTED.load(Relaxed)
}

/// What an address is to the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// Not in the heap's window, or in a piece of it the heap never used.
    Foreign,
    /// In a slab: in the block that starts at `start`.
    Small {
        /// Where the block starts.
        start: usize,
        /// Its class.
        class: Class,
        /// What the heap knows of it.
        at: Whereabouts,
    },
    /// In a large block.
    Large {
        /// Where the block starts.
        start: usize,
        /// Its bytes.
        bytes: usize,
        /// Whether the program has it.
        live: bool,
    },
    /// In a typed pool: in this object of its.
    Pooled(Member),
    /// In a block that lies apart, trapped (`trap.rs`).
    Trapped {
        /// Where the block starts.
        start: usize,
        /// Its bytes.
        bytes: usize,
        /// Whether the program has it.
        live: bool,
    },
    /// In memory of the heap that holds no block.
    Internal(&'static str),
}

/// Finds out what `addr` is. Any address; nothing is dereferenced that is not the heap's own. What it is
/// may change meanwhile, in other threads' hands: what a descriptor says counts only if the page's word
/// still names it afterwards (hazard `type_stable_identity`).
pub fn inspect(addr: usize) -> Address {
    let word = ranges::of(addr);
    let large = LargeRef::around(addr);
    let found = match large {
        Some(large) => Address::Large { start: large.base(), bytes: large.bytes(), live: large.is_live() },
        None => look(addr, word),
    };
    // Behind the loads from the descriptor; pairs with the Release of `memdesc::set`.
    fence(Acquire);
    let is_same = ranges::of(addr) == word && LargeRef::around(addr) == large;
    if is_same { found } else { Address::Internal(RECYCLED) }
}

const RECYCLED: &str = "in a page being recycled";

fn look(addr: usize, word: Memdesc) -> Address {
    match word.kind() {
        // The class, and with it where the block starts, is in the word itself.
        Kind::Slab => match (Slab::of(addr), Slab::class_of(word)) {
            (Some(slab), Some(class)) => {
                let offset = addr % SLAB_BYTES;
                let start = addr - offset + class.block_of(offset as u16) * class.size();
                Address::Small { start, class, at: slab.whereabouts(addr) }
            }
            _ => Address::Internal(RECYCLED),
        },
        Kind::Unknown => match trap::around(addr) {
            Some(slot) => Address::Trapped { start: slot.start(), bytes: slot.size(), live: slot.is_live() },
            None => Address::Foreign,
        },
        // Where there is a large block, `inspect` has found it: there was one.
        Kind::Large | Kind::Free | Kind::PageCache | Kind::Reserve => {
            Address::Internal("in a free page (freed before, or never given out)")
        }
        Kind::Pool => match typed::member(word, addr) {
            Some(member) => Address::Pooled(member),
            None => Address::Internal(RECYCLED),
        },
        Kind::Magazine => Address::Internal("in a page of pointers"),
        Kind::Meta => Address::Internal("in metadata"),
    }
}

/// `call(addr)` was refused: says why, and ends the process unless asked not to.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn bad_address(call: &str, addr: usize) {
    let mut line = Line::new();
    line.str(call).str("(").hex(addr as u64).str("): ");
    match inspect(addr) {
        Address::Foreign => {
            line.str("not a pointer of this heap (stack, static or mapped memory, or another malloc's");
            line.str(" block, as with RTLD_DEEPBIND)");
        }
        Address::Small { start, class, at } if start != addr => {
            line.str("points ").dec((addr - start) as u64).str(" bytes into ");
            describe_small(&mut line, class, at);
            line.str(" at ").hex(start as u64);
        }
        Address::Small { class, at, .. } => {
            let is_freed = !matches!(at, Whereabouts::NeverGiven | Whereabouts::Out);
            line.str(if is_freed { again(call) } else { "not a block to free: " });
            describe_small(&mut line, class, at);
            if is_freed {
                trace(&mut line, addr);
            }
        }
        Address::Large { start, bytes, live } if start != addr => {
            line.str("points ").dec((addr - start) as u64).str(" bytes into a ");
            line.str(if live { "" } else { "freed " });
            line.str("large block of ").dec(bytes as u64).str(" bytes at ").hex(start as u64);
        }
        Address::Large { bytes, live, .. } => {
            line.str(if live { "not a block to free: " } else { again(call) });
            line.str("a large block of ").dec(bytes as u64).str(" bytes");
            if !live {
                trace(&mut line, addr);
            }
        }
        Address::Pooled(member) => {
            describe_member(&mut line, &member, addr);
            line.str(": it is for rcumalloc_pool_free");
        }
        Address::Trapped { start, bytes, live } => {
            describe_trapped(&mut line, call, addr - start, bytes, live);
            if start != addr {
                line.str(" at ").hex(start as u64);
            } else if let Some(slot) = trap::around(addr).filter(|_| !live) {
                line.str(" [thread ").dec(slot.freed.thread().into()).str(" freed it ");
                line.dec(slot.freed.age_ms()).str(" ms ago]");
            }
        }
        Address::Internal(what) => {
            line.str("not a block: the address is ").str(what);
        }
    }
    finish(&mut line);
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn describe_member(line: &mut Line, member: &Member, addr: usize) {
    let into = addr - member.start;
    if into != 0 {
        line.str("points ").dec(into as u64).str(" bytes into ");
    }
    line.str(if member.is_live { "an object of " } else { "a freed object of " });
    line.dec(member.size() as u64).str(" bytes of the pool ");
    member.pool().tell(line);
}

/// `rcumalloc_pool_free(pool, addr)` was refused: `addr` is no object of the pool, or was freed before.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn bad_member(pool: &Pool, addr: usize, wrong: Wrong) {
    let mut line = Line::new();
    line.str("rcumalloc_pool_free(");
    pool.tell(&mut line);
    line.str(", ").hex(addr as u64);
    if wrong == Wrong::Freed {
        line.str("): double free of an object of this pool");
        return finish(&mut line);
    }
    line.str("): not an object of this pool: ");
    match inspect(addr) {
        Address::Pooled(member) => describe_member(&mut line, &member, addr),
        Address::Small { class, at, .. } => describe_small(&mut line, class, at),
        Address::Large { bytes, .. } => {
            line.str("a large block of ").dec(bytes as u64).str(" bytes");
        }
        Address::Trapped { bytes, .. } => {
            line.str("a trapped block of ").dec(bytes as u64).str(" bytes");
        }
        Address::Foreign => {
            line.str("not a pointer of this heap");
        }
        Address::Internal(what) => {
            line.str("the address is ").str(what);
        }
    }
    finish(&mut line);
}

/// `call(pool)` was refused: there is no such pool, or no more, or `left` objects of it are with the program.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn bad_pool(call: &str, handle: usize, pool: Option<&Pool>, left: usize) {
    let mut line = Line::new();
    line.str(call).str("(").hex(handle as u64).str("): ");
    match pool {
        None => {
            line.str("not a pool");
        }
        Some(pool) if left == 0 => {
            line.str("the pool ");
            pool.tell(&mut line);
            line.str(" was destroyed");
        }
        Some(pool) => {
            line.str("objects of the pool ");
            pool.tell(&mut line);
            line.str(" are with the program: ").dec(left as u64);
        }
    }
    finish(&mut line);
}

fn describe_trapped(line: &mut Line, call: &str, inside: usize, bytes: usize, live: bool) {
    if inside != 0 {
        line.str("points ").dec(inside as u64).str(" bytes into ");
    }
    line.str(match (inside, live) {
        (0, true) => "not a block to free: ",
        (0, false) => again(call),
        (_, true) => "",
        (_, false) => "freed memory: ",
    });
    line.str("a trapped block of ").dec(bytes as u64).str(" bytes");
}

/// A trapped block, which starts at `addr` and has been freed just now, was written past its end at `place`.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn written_past(call: &str, addr: usize, bytes: usize, place: usize) {
    let mut line = Line::new();
    line.str(call).str("(").hex(addr as u64).str("): a trapped block of ").dec(bytes as u64);
    line.str(" bytes was written past its end, at byte ").dec((place - addr) as u64);
    finish(&mut line);
}

/// How a double free came to light.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// By the call itself: the block is the newest of the magazine it would go to.
    AtOnce,
    /// Later: when the magazine with the second pointer was turned.
    AtTurn,
}

/// A block of `class` was freed twice.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn double_free(call: &str, addr: usize, class: Class, found: Found) {
    if let Address::Small { at: Whereabouts::NeverGiven, .. } = inspect(addr) {
        return bad_address(call, addr);
    }
    say_twice(call, addr, class, found);
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn say_twice(call: &str, addr: usize, class: Class, found: Found) {
    let mut line = Line::new();
    line.str(call).str("(").hex(addr as u64).str("): double free of a block of ");
    line.dec(class.size() as u64).str(match found {
        Found::AtOnce => " bytes, found at once: it was the last of its size to be freed",
        Found::AtTurn => " bytes, found when its magazine was turned: it was freed before",
    });
    line.str(" and not given out since");
    if found == Found::AtTurn {
        trace(&mut line, addr);
    }
    finish(&mut line);
}

/// `call(addr, size)` named a size the block cannot have.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn wrong_size(call: &str, addr: usize, size: usize, align: Option<usize>) {
    wrong(call, addr, align, Some(size));
}

/// `call(addr, align)` named an alignment the block has not.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn wrong_align(call: &str, addr: usize, align: usize) {
    wrong(call, addr, Some(align), None);
}

#[unsafe(link_section = ".text_rare")]
fn wrong(call: &str, addr: usize, align: Option<usize>, size: Option<usize>) {
    let mut line = Line::new();
    line.str(call).str("(").hex(addr as u64);
    for number in [align, size].into_iter().flatten() {
        line.str(", ").dec(number as u64);
    }
    line.str("): wrong size or alignment: ");
    match inspect(addr) {
        Address::Small { class, at, .. } => describe_small(&mut line, class, at),
        Address::Large { bytes, .. } => {
            line.str("a large block of ").dec(bytes as u64).str(" bytes");
        }
        Address::Trapped { bytes, .. } => {
            line.str("a trapped block of ").dec(bytes as u64).str(" bytes");
        }
        _ => {
            line.str("not a block of this heap");
        }
    }
    finish(&mut line);
}

/// What a call on a freed block is.
fn again(call: &str) -> &'static str {
    if call.contains("free") { "double free of " } else { "use after free of " }
}

fn describe_small(line: &mut Line, class: Class, at: Whereabouts) {
    line.str("a block of ").dec(class.size() as u64).str(" bytes ").str(match at {
        Whereabouts::NeverGiven => "that was never given out",
        Whereabouts::Free => "that is free in its slab",
        Whereabouts::Deferred => "that is freed and waits in its slab",
        Whereabouts::Magazine => "that is freed and in a magazine",
        Whereabouts::Out => "in use",
    });
}

/// A wrong use of the grace-period engine, such as an unlock without a lock: the call has no effect.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn misuse(what: &Misuse) {
    match *what {
        Misuse::SynchronizeInSection { tid } => never_ends("waiting", tid),
        _ => say_misuse(what),
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn say_misuse(what: &Misuse) {
    let mut line = Line::new();
    match *what {
        Misuse::UnbalancedUnlock { tid } => {
            line.str("rcumalloc_read_unlock without an open read-side section in thread ").dec(tid.into());
        }
        Misuse::OfflineInSection { tid } => {
            line.str("rcumalloc_thread_offline inside a read-side section of thread ").dec(tid.into());
            line.str(": end the section first");
        }
        Misuse::ExitInSection { tid } => {
            line.str("thread ").dec(tid.into()).str(" ended inside a read-side section: ");
            line.str("an rcumalloc_read_lock without its rcumalloc_read_unlock");
        }
        Misuse::SynchronizeInSection { .. } => {}
        Misuse::StrangeCookie { cookie, .. } => {
            line.str("rcumalloc_poll, _cond_synchronize: cookie ").hex(cookie.to_bits());
            line.str(" was never handed out by rcumalloc_start_poll");
        }
    }
    finish(&mut line);
}

/// `call` waits for a grace period inside the calling thread's own section: no effect is safe (the
/// caller counts on the wait), so this ends the process whatever `RCUMALLOC_ON_ERROR` says.
#[cold]
pub fn never_ends(call: &str, tid: u32) {
    let mut line = Line::new();
    line.str(call).str(": waiting for a grace period inside a read-side section of the same thread ");
    line.dec(tid.into()).str(" would never end").emit();
    syscall::abort();
}

/// A section was opened or closed in a reader that is not the calling thread's: nobody would see it, so no
/// effect is safe, and this ends the process whatever `RCUMALLOC_ON_ERROR` says.
#[cold]
pub fn strange_reader(call: &str, tid: u32) -> ! {
    let mut line = Line::new();
    line.str(call)
        .str(" by thread ")
        .dec(tid.into())
        .str(" with the reader of another thread, or of one that has ended");
    line.emit();
    syscall::abort()
}

fn finish(line: &mut Line) {
    REPORTED.fetch_add(1, Relaxed);
    line.emit();
    if !REPORT_ONLY.load(Relaxed) {
        syscall::abort();
    }
}

/// Whether `size` (and `align`) can be what the live block at `addr` was asked with; for
/// `free_sized` and `free_aligned_sized`. Addresses that are no block are left to `free`.
pub fn size_fits(addr: usize, size: usize, align: usize) -> bool {
    match inspect(addr) {
        // What realloc left in place, or gave room to grow, is larger than malloc would have made it.
        Address::Small { start, class, .. } if start == addr => {
            Class::of_aligned(size, align) == Some(class)
                || (class.serves(size) && class.size().is_multiple_of(align))
        }
        Address::Large { start, .. } if start == addr => {
            // What is freed already is for `free` to judge.
            let asked = LargeRef::of(addr).and_then(LargeRef::asked);
            asked.is_none_or(|asked| is_as_good_as(asked, size, align)) && addr & (align - 1) == 0
        }
        Address::Trapped { start, bytes, live: true } if start == addr => {
            bytes == size.max(1) && addr & (align - 1) == 0
        }
        _ => true,
    }
}

/// Whether a block that was asked with `asked` bytes may be freed with `size` and `align`: small ones as
/// those that lie in slabs may be, for realloc and mallocx may ask for more than the program does.
fn is_as_good_as(asked: usize, size: usize, align: usize) -> bool {
    let is_in_class = |class: Class| class.serves(size) || Class::of_aligned(size, align) == Some(class);
    asked == size || asked <= SMALL_MAX && is_in_class(Class::of_size(asked))
}

/// As [`size_fits`], for a caller that may name the size the block was asked with, its real size, or any
/// between.
pub fn size_may_be(addr: usize, size: usize, align: usize) -> bool {
    match LargeRef::of(addr).filter(|large| large.base() == addr) {
        Some(large) => {
            // To the page: a block asked with zeros was asked with whole pages.
            // What is freed already is for `free` to judge.
            let Some(asked) = large.asked() else { return true };
            let least = large::pages_for(asked);
            let may_be = large::pages_for(size)
                .is_some_and(|pages| (least..=Some(large.pages())).contains(&Some(pages)));
            (may_be || is_as_good_as(asked, size, align)) && addr & (align - 1) == 0
        }
        None => match inspect(addr) {
            Address::Trapped { start, bytes, live: true } if start == addr => {
                let real = Class::of_aligned(bytes, align).map_or(bytes, Class::size);
                // mallocx asks for all of its class.
                let may_be = (bytes..=real).contains(&size.max(1)) || is_as_good_as(bytes, size, align);
                may_be && addr & (align - 1) == 0
            }
            _ => size_fits(addr, size, align),
        },
    }
}
