//! A thread's last moments.
//!
//! A key destructor of libc gives the cache back. Other destructors may call malloc after ours,
//! so ours asks to be called once more, and only then lets go: by then all of them have run, but for those
//! that ask for more rounds themselves. What the thread still frees after that (libc frees its own
//! thread-local storage last of all) finds the
//! *exited* table: it is served block by block, without a cache, and creates nothing
//! (`free_after_tls_destroyed`).
//!
//! What the cache holds stays in it for the next thread (`vacant.rs`); where there is no room for that it is
//! emptied. Leaving it makes no system call and takes no lock, which a handler might want: a handler finds
//! the thread with its cache or without one, because both words of the thread change in one instruction.
//!
//! At the end of the process nothing is freed, but what is in the exiting thread's magazines is
//! checked once more for blocks that were freed twice.

use crate::cache::thread_cache::ThreadCache;
use crate::cache::{drain, mode, own, registry, vacant};
use crate::class::marks::Map;
use crate::class::size_class::{CLASSES, Class};
use crate::class::work::Work;
use crate::class::{backlog, verdict};
use crate::constants::EXIT_ROUND;
use crate::front::under_way;
use crate::os::signals::Quiet;
use crate::os::tls;
use crate::release::{decay, surplus, watcher};
use core::sync::atomic::{AtomicU32, Ordering};

/// The key, plus one; 0 while there is none.
#[unsafe(link_section = ".data")]
static KEY: AtomicU32 = AtomicU32::new(0);

/// Creates the key whose destructor ends a thread's cache. Idempotent; true for who has. Without a key (libc
/// has none left) caches of ended threads are found by the registry's search.
pub fn create_key() -> bool {
    if KEY.load(Ordering::Acquire) != 0 {
        return false;
    }
    let mut key = 0;
    // SAFETY: a plain call with a function of the right type; libc does not allocate for it.
    if unsafe { libc::pthread_key_create(&mut key, Some(destroy)) } != 0 {
        return false;
    }
    // Without a lock, which would stay taken in the child of a fork that another thread makes meanwhile: of
    // two that come at once, one keeps its key. Release pairs with the Acquire above and in `watch_thread`.
    let is_ours = KEY.compare_exchange(0, key + 1, Ordering::Release, Ordering::Relaxed).is_ok();
    if !is_ours {
        // SAFETY: nobody knows of it.
        unsafe { libc::pthread_key_delete(key) };
    }
    is_ours
}

/// Asks libc to call us when the calling thread ends. The thread has its tables already: libc
/// allocates for keys past its first 32.
pub fn watch_thread(cache: &mut ThreadCache) {
    let key = KEY.load(Ordering::Acquire);
    if key != 0 {
        // SAFETY: the key exists for the life of the process.
        unsafe { libc::pthread_setspecific(key - 1, (&raw mut *cache).cast()) };
    }
}

#[inline(never)]
#[unsafe(link_section = ".text_threads")]
unsafe extern "C" fn destroy(cache: *mut libc::c_void) {
    let cache = cache.cast::<ThreadCache>();
    if tls::alloc_table() != cache as usize {
        return;
    }
    // SAFETY: the calling thread's own cache.
    let cache = unsafe { &mut *cache };
    cache.rounds += 1;
    if cache.rounds < EXIT_ROUND {
        return watch_thread(cache);
    }
    under_way::look_behind();
    leave(cache);
}

/// Lets go of the calling thread's cache, for good.
pub fn leave(cache: &mut ThreadCache) {
    drain::stock(cache);
    cache.close_freed();
    cache.share_large(&mut Work::of_a_call());
    registry::begin_to_leave(cache);
    // A section that a handler opens finds the cache whole, or gone.
    match vacant::room_for(cache) {
        // Until the switch is complete, the thread's word has to be taken from whoever makes it.
        Some(room) if mode::is_switched() => {
            tls::set_tables(own::exited_table(), own::exited_table());
            cache.leave_domain();
            cache.forget_round();
            cache.mark_in();
            registry::vacate(cache, room);
        }
        _ => {
            let quiet = Quiet::new();
            registry::forget_word(cache, &quiet);
            tls::set_tables(own::exited_table(), own::exited_table());
            release(cache, &quiet);
        }
    }
    decay::note_work();
    watcher::after_thread();
}

/// Empties `cache`, whose thread will not use it again, and gives it back.
pub fn release(cache: &mut ThreadCache, quiet: &Quiet) {
    drain::release(cache, quiet);
    if backlog::is_over_budget() {
        surplus::reclaim(None);
    }
}

/// At the end of the process: double frees that no turn has found yet, in the calling thread's
/// magazines. Changes nothing.
pub fn verify_own() {
    let table = tls::alloc_table();
    if table == tls::empty_table() || own::has_exited() {
        return;
    }
    // SAFETY: neither of the static tables, so the word is the thread's own cache.
    let cache = unsafe { &mut *(table as *mut ThreadCache) };
    for index in 0..CLASSES {
        let class = Class::new(index);
        let warm = cache.classes[index].warm.as_mut().map_or(&[][..], |warm| &*warm.blocks());
        let loaded = cache.alloc.peek(class).blocks();
        let filling = cache.defer.peek(class);
        let filling = filling.blocks().get(filling.marked_in()..).unwrap_or_default();
        let all = || warm.iter().chain(loaded).chain(filling);
        for &block in all() {
            // SAFETY: blocks in our own magazines; each byte is set back below.
            if !unsafe { Map::of(class).take_in(block) } {
                verdict::double_free("free", block, class, verdict::Found::AtTurn);
            }
        }
        for &block in all() {
            // SAFETY: as above.
            unsafe { Map::of(class).let_out(block) };
        }
    }
}
