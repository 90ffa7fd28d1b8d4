//! Read-side sections for C callers: what `rcumalloc_read_lock` and its relatives do.
//!
//! A section is an increment and a decrement of a word in the thread's cache. A thread without a
//! cache gets one first: a section needs a reader's record to be seen by. Async-signal-safe, a
//! thread's first one too: what that takes is never held where a handler can come in (`os::signals`).

use crate::cache::own::cell;
use crate::cache::{drain, own, registry};
use crate::class::backlog::DOMAIN;
use crate::class::size_class::Class;
use crate::class::work::Work;
use crate::class::{depot, large_pages, pool, typed, verdict};
use crate::front::{entry, start};
use crate::os::signals::Quiet;
use crate::os::tid;
use core::mem::ManuallyDrop;
use rcu::{BarrierHooks, Cookie, Misuse, Reader, ReaderCell};

/// The calling thread's reader, made if need be. `None`: no memory for a cache.
pub fn own() -> Option<ManuallyDrop<Reader>> {
    let cell = cell().or_else(make)?;
    // SAFETY: registered with the cache, and the calling thread owns it.
    Some(unsafe { Reader::borrow_cell(cell) })
}

#[cold]
#[inline(never)]
fn make() -> Option<&'static ReaderCell> {
    if own::has_exited() {
        // A destructor that runs after ours opens a section: it gets a cache again. It is found
        // by the registry's search once the thread is gone.
        if !start::process() {
            return None;
        }
        let quiet = Quiet::new();
        let cache = start::acquire(&quiet)?;
        registry::adopt(cache, &quiet);
        return cell();
    }
    entry::current()?;
    cell()
}

/// Opens a section.
#[inline(always)]
pub fn lock() {
    match cell() {
        // SAFETY: registered, and owned by the calling thread.
        Some(cell) => unsafe { cell.lock_raw() },
        None => lock_first(0),
    }
}

/// Opens the first section of a thread, which began at `place`, if that is known.
#[cold]
#[inline(never)]
pub fn lock_first(place: usize) {
    let cell = made("rcumalloc_read_lock");
    // SAFETY: as in `lock`.
    unsafe {
        cell.lock_raw();
        cell.note_began_raw(place);
    }
}

/// The calling thread's cell, for `call` to give away.
pub fn own_cell(call: &str) -> &'static ReaderCell {
    cell().unwrap_or_else(|| made(call))
}

/// A cell for the calling thread, which has none.
#[cold]
#[inline(never)]
fn made(call: &str) -> &'static ReaderCell {
    make().unwrap_or_else(|| {
        // A section that nobody can see would be a broken promise.
        let mut line = crate::os::line::Line::new();
        line.str(call).str(": no memory for the reader's record").emit();
        crate::os::syscall::abort()
    })
}

/// Ends the innermost section.
#[inline(always)]
pub fn unlock() {
    match cell() {
        // SAFETY: as in `lock`; one too many is reported by the engine.
        Some(cell) => unsafe { cell.unlock_raw() },
        None => unlock_without_reader(),
    }
}

#[cold]
#[inline(never)]
fn unlock_without_reader() {
    verdict::misuse(&Misuse::UnbalancedUnlock { tid: tid::tid() as u32 });
}

/// Ends the process if the calling thread is in a section: `call` is about to wait for its end.
pub fn refuse_in_section(call: &str) {
    if own::is_held() {
        verdict::never_ends(call, tid::tid() as u32);
    }
}

/// Waits until `cookie` has elapsed, on behalf of `call`; expediting from the beginning or not.
pub fn cond_synchronize(call: &str, cookie: Cookie, expedited: bool) {
    if DOMAIN.poll(cookie) {
        return;
    }
    refuse_in_section(call);
    let mut reader = own();
    let reader = reader.as_deref_mut();
    if expedited {
        DOMAIN.cond_synchronize_expedited(cookie, reader);
    } else {
        DOMAIN.cond_synchronize(cookie, reader);
    }
}

/// The calling thread's reader, for `call` to wait with.
pub fn own_to_wait(call: &str) -> Option<ManuallyDrop<Reader>> {
    refuse_in_section(call);
    own()
}

/// Waits for a grace period, on behalf of `call`.
pub fn synchronize(call: &str, expedited: bool) {
    let mut reader = own_to_wait(call);
    let reader = reader.as_deref_mut();
    if expedited { DOMAIN.synchronize_expedited(reader) } else { DOMAIN.synchronize(reader) }
}

/// Drains the depots into the slabs and releases empty slabs and elapsed large blocks.
fn reclaim_shared(work: &mut Work) {
    depot::distribute_shared(work);
    depot::drain_all(work);
    for class in Class::all() {
        pool::of(class).release_empty();
    }
    typed::release_all();
    large_pages::reclaim(work);
}

/// Waits until every block freed so far, by a thread whose magazine of it has been stamped, and
/// by the calling thread in any case, may be handed out.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn barrier() {
    struct Hooks;
    impl BarrierHooks for Hooks {
        fn seal(&mut self) {
            if let Some(cache) = own::existing() {
                cache.retire_partial();
            }
            drain::vacant(0, &mut Work::asked_for());
            while drain::take_over_one() {}
        }

        fn reclaim(&mut self) {
            let mut work = Work::asked_for();
            if let Some(cache) = own::existing() {
                cache.flush_reusable(0, &mut work);
            }
            reclaim_shared(&mut work);
        }
    }
    let mut reader = own_to_wait("rcumalloc_barrier");
    DOMAIN.barrier(reader.as_deref_mut(), &mut Hooks);
}
