//! Memory for descriptors: type-stable, never given back.
//!
//! A reader may look at a descriptor that is being retired, so the memory of a descriptor
//! stays a descriptor of the same type for ever: each type has a [`MetaPool`] whose free list
//! only that type feeds and eats. Fresh objects are cut one after another from *runs* of 16
//! pages that all types share; what is not cut yet is not touched. A run is never given back and keeps its
//! unit from being so, and a heap of slabs wants 16 pages with every eighth unit: so each is as large as all
//! before it together, and their number grows with the logarithm of the heap.
//!
//! A run is itself described: its first object is a [`Run`], the memdesc words of its pages
//! (the first one included) point at it, and there the recursion ends. What needs whole pages ([`pages`]) has
//! its run described in another one.
//!
//! One lock for all pools, taken before the zone's: descriptors are made when slabs are made,
//! far from any fast path, and a fork has one lock to think of.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use super::memdesc::{self, Kind, Memdesc};
use super::zone;
use crate::constants::{META_ALIGN, META_ORDER, PAGE, UNIT_PAGES};
use crate::os::lock::Lock;

/// Something that lives in metadata memory.
///
/// # Safety
/// All zero bytes are a valid value, the alignment is at most 64, and nobody else uses the
/// link while the object is on its pool's free list.
pub unsafe trait MetaObject {
    /// A word of the object's own that links it while it is free. Readers of a retired object
    /// must not mind it changing.
    fn free_link(&self) -> &AtomicUsize;
}

/// The descriptor of a run of metadata, and its first object but for runs of [`pages`].
#[repr(C, align(64))]
pub struct Run {
    /// Address of the run.
    pub base: usize,
    /// Pages of the run.
    pub pages: usize,
    /// Address of the descriptor of the run made before this one; 0 for the first.
    pub previous: usize,
}

/// What has been cut and what is left of the newest run.
pub(super) struct Shop {
    cursor: usize,
    end: usize,
    is_zero: bool,
    newest: usize,
    runs: usize,
    bytes: usize,
}

#[unsafe(link_section = ".data")]
static SHOP: Lock<Shop> = Lock::new(Shop { cursor: 0, end: 0, is_zero: false, newest: 0, runs: 0, bytes: 0 });

/// The metadata's numbers.
#[derive(Clone, Copy, Default, Debug)]
pub struct MetaStats {
    /// Runs taken from the zone.
    pub runs: usize,
    /// Bytes of them that have been cut, the runs' own descriptors included.
    pub bytes: usize,
}

impl Shop {
    /// Cuts `len` zero bytes, a multiple of 64.
    #[unsafe(link_section = ".text_start")]
    fn cut(&mut self, len: usize) -> Option<NonNull<u8>> {
        const LEAST: usize = 1 << META_ORDER;
        let room = PAGE * LEAST - size_of::<Run>();
        if len > room / 2 {
            // Its own run, so that it does not end the current one.
            let pages = len.checked_add(size_of::<Run>())?.div_ceil(PAGE);
            let (run, is_zero) = self.run(pages)?;
            return self.take(run + size_of::<Run>(), len, is_zero);
        }
        if self.end - self.cursor < len {
            let pages = (self.bytes / PAGE).clamp(LEAST, UNIT_PAGES);
            let larger = (pages > LEAST).then(|| Some((self.run(pages)?, pages))).flatten();
            let ((run, is_zero), pages) = match larger {
                Some(larger) => larger,
                None => (self.run(LEAST)?, LEAST),
            };
            self.cursor = run + size_of::<Run>();
            self.end = run + pages * PAGE;
            self.is_zero = is_zero;
        }
        let at = self.cursor;
        self.cursor += len;
        self.take(at, len, self.is_zero)
    }

    fn abandon(&mut self) {
        (self.cursor, self.end) = (0, 0);
    }

    fn take(&mut self, at: usize, len: usize, is_zero: bool) -> Option<NonNull<u8>> {
        let object = NonNull::new(at as *mut u8)?;
        if !is_zero {
            // SAFETY: cut for the caller just now, inside a run of ours.
            unsafe { object.write_bytes(0, len) };
        }
        self.bytes += len;
        Some(object)
    }

    /// A run from the zone, with its descriptor in place.
    #[unsafe(link_section = ".text_start")]
    fn run(&mut self, pages: usize) -> Option<(usize, bool)> {
        let (page, contents) = zone::alloc_run(pages, PAGE, zone::Place::Tight)?;
        let base = page.addr();
        // SAFETY: the run is ours, aligned to a page, and larger than its descriptor. It is
        // never given back, so its words may point into it for ever.
        unsafe {
            (base as *mut Run).write(Run { base, pages, previous: self.newest });
            memdesc::set(page, pages, Memdesc::new(Kind::Meta, base, 0));
        }
        self.newest = base;
        self.runs += 1;
        self.bytes += size_of::<Run>();
        Some((base, contents == zone::Holds::Zeros))
    }
}

/// `count` pages for ever, and whether they are zero. Their run's descriptor lies elsewhere, so each begins
/// with what is the caller's. None: out of memory.
#[unsafe(link_section = ".text_start")]
pub fn pages(count: usize) -> Option<(NonNull<u8>, bool)> {
    let mut shop = SHOP.lock();
    let descriptor = shop.cut(size_of::<Run>())?.cast::<Run>().as_ptr();
    let (page, contents) = zone::alloc_run(count, PAGE, zone::Place::Tight)?;
    // SAFETY: the descriptor was cut for it just now; the run is never given back.
    unsafe {
        descriptor.write(Run { base: page.addr(), pages: count, previous: shop.newest });
        memdesc::set(page, count, Memdesc::new(Kind::Meta, descriptor as usize, 0));
    }
    shop.newest = descriptor as usize;
    shop.runs += 1;
    shop.bytes += count * PAGE;
    Some((NonNull::new(page.as_ptr())?, contents == zone::Holds::Zeros))
}

/// `len` zero bytes, aligned to 64, for ever. None: out of memory.
pub fn bytes(len: usize) -> Option<NonNull<u8>> {
    let len = len.checked_next_multiple_of(META_ALIGN)?;
    SHOP.lock().cut(len)
}

/// The metadata's numbers. No lock.
pub fn stats() -> MetaStats {
    let shop = SHOP.peek();
    // SAFETY: aligned words of a static.
    unsafe {
        MetaStats {
            runs: (&raw const (*shop).runs).read_volatile(),
            bytes: (&raw const (*shop).bytes).read_volatile(),
        }
    }
}

/// All objects of one type. A static of whoever defines the type.
pub struct MetaPool<T: MetaObject> {
    /// Address of the first free object. Changed under the shop's lock.
    free: AtomicUsize,
    live: AtomicUsize,
    total: AtomicUsize,
    objects: PhantomData<fn() -> T>,
}

impl<T: MetaObject> MetaPool<T> {
    const SIZE: usize = {
        assert!(align_of::<T>() <= META_ALIGN && size_of::<T>() > 0);
        size_of::<T>().next_multiple_of(META_ALIGN)
    };

    /// An empty pool.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> MetaPool<T> {
        MetaPool {
            free: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
            objects: PhantomData,
        }
    }

    /// An object: zero if it is new, as it was left (but for a zero link) if it is reused.
    /// None: out of memory.
    pub fn alloc(&self) -> Option<NonNull<T>> {
        let mut shop = SHOP.lock();
        let object = match NonNull::new(self.free.load(Relaxed) as *mut T) {
            Some(object) => {
                // SAFETY: on the free list, hence a valid T that nobody owns.
                let link = unsafe { object.as_ref() }.free_link();
                self.free.store(link.load(Relaxed), Relaxed);
                link.store(0, Relaxed);
                object
            }
            None => {
                let object = shop.cut(Self::SIZE)?.cast::<T>();
                self.total.fetch_add(1, Relaxed);
                object
            }
        };
        self.live.fetch_add(1, Relaxed);
        Some(object)
    }

    /// Puts an object back for reuse by this pool. Its memory stays a `T`.
    ///
    /// # Safety
    /// The object came from this pool, and the caller owns it and gives it up.
    pub unsafe fn free(&self, object: NonNull<T>) {
        let _shop = SHOP.lock();
        // SAFETY: the caller's until now, the free list's from now on.
        let link = unsafe { object.as_ref() }.free_link();
        link.store(self.free.load(Relaxed), Relaxed);
        self.free.store(object.as_ptr() as usize, Relaxed);
        self.live.fetch_sub(1, Relaxed);
    }

    /// Objects that are out.
    pub fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Objects that exist.
    pub fn total(&self) -> usize {
        self.total.load(Relaxed)
    }
}

/// The run that `addr` lies in, if it is metadata.
pub fn run_of(addr: usize) -> Option<&'static Run> {
    let word = memdesc::of(addr);
    // SAFETY: a Meta word points at its run's descriptor, which is never changed or freed.
    (word.kind() == Kind::Meta).then(|| unsafe { &*(word.descriptor() as *const Run) })
}

/// For fork: the lock.
pub(super) fn lock() -> &'static Lock<Shop> {
    &SHOP
}

/// In the only thread of a forked child: if somebody who is not here was cutting, the rest of the run belongs
/// to nobody. (The pools' free lists are whole at every moment: each change is one store.)
pub(super) fn settle_in_child() {
    SHOP.settle_in_child(Shop::abandon);
}

/// See [`super::let_go_of_own`].
pub(super) fn let_go_of_own() {
    SHOP.let_go_of_own(Shop::abandon);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Thing {
        link: AtomicUsize,
        value: AtomicUsize,
        rest: [u64; 20],
    }

    // SAFETY: plain numbers; the link is used for nothing else.
    unsafe impl MetaObject for Thing {
        fn free_link(&self) -> &AtomicUsize {
            &self.link
        }
    }

    #[test]
    fn zeroed_reused_and_type_stable() {
        static POOL: MetaPool<Thing> = MetaPool::new();
        // No clean block shall be left that a run could be made of.
        let dirty: Vec<_> = (0..256).map(|_| zone::alloc_pages(META_ORDER).unwrap()).collect();
        for page in dirty {
            // SAFETY: ours, until freed.
            unsafe {
                page.as_ptr().write_bytes(0xff, PAGE << META_ORDER);
                zone::free_pages(page, META_ORDER);
            }
        }
        let mut things = Vec::new();
        for i in 0..1000 {
            let thing = POOL.alloc().unwrap();
            // SAFETY: ours.
            let it = unsafe { thing.as_ref() };
            assert!(thing.as_ptr().addr().is_multiple_of(64) && it.rest == [0; 20]);
            assert_eq!(it.value.swap(i + 1, Relaxed), 0, "fresh objects are zero and ours alone");
            things.push(thing);
        }
        assert_eq!((POOL.live(), POOL.total()), (1000, 1000));
        for (i, &thing) in things.iter().enumerate() {
            // SAFETY: ours until freed.
            unsafe {
                assert_eq!(thing.as_ref().value.load(Relaxed), i + 1);
                POOL.free(thing);
            }
        }
        let again = POOL.alloc().unwrap();
        // SAFETY: ours.
        let it = unsafe { again.as_ref() };
        assert_eq!(it.value.load(Relaxed), 1000, "left as it was");
        assert_eq!(it.link.load(Relaxed), 0);
        assert_eq!(POOL.total(), 1000);
    }

    #[test]
    fn a_run_describes_itself() {
        let small = bytes(100).unwrap().as_ptr() as usize;
        let run = run_of(small).unwrap();
        assert_eq!(run.base, run as *const Run as usize);
        assert!(core::ptr::eq(run_of(run.base).unwrap(), run));
        assert!(small > run.base && small < run.base + run.pages * PAGE);
        let large = bytes(200_000).unwrap();
        // SAFETY: ours; zero by promise.
        unsafe {
            let all = core::slice::from_raw_parts_mut(large.as_ptr(), 200_000);
            assert!(all.iter().all(|&b| b == 0));
            all.fill(1);
        }
        assert!(run_of(large.as_ptr() as usize).unwrap().pages >= 49);
        assert!(bytes(usize::MAX).is_none());
    }
}
