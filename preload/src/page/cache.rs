//! The page cache: a thread's stock of order-0 pages.
//!
//! The kernel's per-cpu page list, for threads. The owner takes a page and puts one back
//! without a lock; refilling and draining go to the zone in batches. The list hangs on one
//! word, so that anybody, the shrinker above all, can take it whole with one exchange.
//!
//! The head has the form of a memdesc word and so has every link, which is kept in the
//! page's own memdesc word (a cached page is not touched):
//! ```text
//!   63..48: 0   47..12: address of the top page   11..4: number of pages   3..0: PageCache
//! ```
//! The word of a page is the head as it was before the page was pushed. The length comes with
//! it, so no counter can disagree with the list.
//!
//! Why this is safe with plain compare-and-exchange: *only the owner pushes or pops; all
//! others only exchange the head for the empty one.* To pop, the owner reads head H, the link
//! L of its top page, and exchanges H for L. In between, others can only have made the head
//! empty; they cannot have put H back, for only the owner pushes, and it is busy popping. So
//! if the exchange finds H, nothing happened in between, and L is what the owner itself
//! wrote when it pushed. If it does not, the list was taken and the owner finds it empty.
//! There is no ABA. To push, the owner writes the link and exchanges; if the list was taken
//! meanwhile, it does so again with the empty head. A taker owns every page it can reach from
//! what it got, because a page leaves the list only by a successful exchange of the head.
//!
//! Orderings: the owner's push is Release and the taker's exchange Acquire, so the taker sees
//! the links. The owner sees its own stores anyway.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

use super::memdesc::{self, Kind, Memdesc};
use super::{Page, back_off, reserve, zone};
use crate::constants::{BATCH_MAX, BATCH_MIN, BATCHES_HELD, CACHE_LEAST, CACHE_MAX, PAGE};

/// A head or a link.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head(u64);

impl Head {
    const EMPTY: Head = Head(Kind::PageCache as u64);

    /// All zero, as found in fresh memory, is empty too.
    fn from_word(word: u64) -> Head {
        if word == 0 { Head::EMPTY } else { Head(word) }
    }

    fn top(self) -> Option<Page> {
        Page::containing(Memdesc(self.0).descriptor())
    }

    fn len(self) -> usize {
        (self.0 >> 4 & 0xff) as usize
    }

    fn with(self, page: Page) -> Head {
        let len = self.len() + 1;
        debug_assert!(len <= 0xff);
        Head(Memdesc::new(Kind::PageCache, page.addr() | len << 4, 0).0)
    }

    /// The list below the top page.
    fn below(self, top: Page) -> Head {
        // SAFETY: a page that is or was in a cache lies below the frontier. Relaxed: see the
        // orderings above; a stale link is never used.
        Head(unsafe { memdesc::word(top) }.load(Relaxed))
    }
}

/// A thread's stock. All zero bytes are an empty one.
#[repr(C)]
pub struct PageCache {
    head: AtomicU64,
    /// Pages the next refill fetches, 0 for the first time. The owner's.
    batch: AtomicU32,
}

impl PageCache {
    /// An empty cache.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> PageCache {
        PageCache { head: AtomicU64::new(0), batch: AtomicU32::new(0) }
    }

    /// Pages in it, at this moment. Anybody.
    pub fn len(&self) -> usize {
        Head::from_word(self.head.load(Relaxed)).len()
    }

    /// Whether it is empty, at this moment. Anybody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A page from the stock: no lock, no system call. Owner only.
    pub fn alloc_page_lockless(&self) -> Option<Page> {
        let word = self.head.load(Relaxed);
        let head = Head::from_word(word);
        let top = head.top()?;
        let below = head.below(top);
        // Relaxed: the links are our own stores. A failure means the list was taken.
        self.head.compare_exchange(word, below.0, Relaxed, Relaxed).is_ok().then_some(top)
    }

    /// A page from the stock, else from the zone. Owner only. None: out of memory.
    pub fn alloc_page(&self) -> Option<Page> {
        if let Some(page) = self.alloc_page_lockless() {
            return Some(page);
        }
        self.fetch(true).0
    }

    /// Puts a page in the stock, and drains half of it if it is full.
    ///
    /// # Safety
    /// The caller owns the cache and the page, and nothing refers to the page any more.
    pub unsafe fn free_page(&self, page: Page) {
        if self.len() >= self.high() {
            self.drain(self.high() / 2);
        }
        self.push(page);
    }

    /// Adds a batch from the zone; returns its size. Owner only.
    pub fn restock(&self) -> usize {
        self.fetch(false).1
    }

    /// Gives pages back to the zone until `keep` are left; returns how many. Owner only.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub fn drain(&self, keep: usize) -> usize {
        let mut given = 0;
        while self.len() > keep {
            let mut pages = Batch::new();
            while self.len() > keep && !pages.is_full() {
                match self.alloc_page_lockless() {
                    Some(page) => pages.push(page),
                    None => break,
                }
            }
            given += pages.give();
        }
        // The demand was overestimated.
        self.batch.store((self.batch.load(Relaxed) / 2).max(BATCH_MIN as u32), Relaxed);
        given
    }

    /// Gives the whole stock back to the zone; returns how many pages. Anybody, any time.
    #[inline(never)]
    #[unsafe(link_section = ".text_threads")]
    pub fn take_all(&self) -> usize {
        // Acquire: pairs with the Release in `push`, the links are seen.
        let mut head = Head::from_word(self.head.swap(Head::EMPTY.0, Acquire));
        let mut given = 0;
        let mut pages = Batch::new();
        while let Some(page) = head.top() {
            head = head.below(page); // before the page goes: then the word is the zone's
            pages.push(page);
            if pages.is_full() {
                given += pages.give();
            }
        }
        given + pages.give()
    }

    /// The high watermark, which follows the batch.
    fn high(&self) -> usize {
        (self.batch.load(Relaxed) as usize * BATCHES_HELD).clamp(CACHE_LEAST, CACHE_MAX)
    }

    fn push(&self, page: Page) {
        // SAFETY: a page we own lies below the frontier.
        let link = unsafe { memdesc::word(page) };
        loop {
            let word = self.head.load(Relaxed);
            let head = Head::from_word(word);
            // Relaxed: published by the exchange.
            link.store(head.0, Relaxed);
            // Release: pairs with the Acquire in `take_all`. A failure means the list was
            // taken: once more, with the empty one.
            if self.head.compare_exchange(word, head.with(page).0, Release, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Fetches a batch under the zone's lock, the first page of it for the caller if wanted.
    #[cold]
    #[unsafe(link_section = ".text_start")]
    fn fetch(&self, wants_one: bool) -> (Option<Page>, usize) {
        reserve::top_up(); // what free() may need comes before what malloc may want
        let wanted = (self.batch.load(Relaxed) as usize).clamp(BATCH_MIN, BATCH_MAX);
        let backs_off = back_off::is_on();
        back_off::note_refill(backs_off);
        let room = CACHE_MAX.saturating_sub(self.len());
        let n = if backs_off { 1 } else { wanted.min(room + usize::from(wants_one)) };
        let mut pages = [None; BATCH_MAX];
        let got = zone::alloc_batch(&mut pages[..n]);
        if !backs_off {
            self.batch.store((wanted * 2).min(BATCH_MAX) as u32, Relaxed);
        }
        let mine = if wants_one { pages[0].take() } else { None };
        // Backwards, so that the lowest address is on top.
        pages[..got].iter().rev().flatten().for_each(|&page| self.push(page));
        if let Some(page) = mine {
            // SAFETY: ours since the zone gave it.
            unsafe { memdesc::set(page, 1, Memdesc::of_kind(Kind::PageCache)) };
        }
        (mine, got)
    }
}

/// Pages on their way back to the zone.
struct Batch {
    pages: [Page; BATCH_MAX],
    len: usize,
}

impl Batch {
    fn new() -> Batch {
        const FILLER: Page = Page::new(PAGE).unwrap();
        Batch { pages: [FILLER; BATCH_MAX], len: 0 }
    }

    fn is_full(&self) -> bool {
        self.len == BATCH_MAX
    }

    fn push(&mut self, page: Page) {
        self.pages[self.len] = page;
        self.len += 1;
    }

    #[unsafe(link_section = ".text_threads")]
    fn give(&mut self) -> usize {
        let given = core::mem::take(&mut self.len);
        if given > 0 {
            // SAFETY: each page came out of a cache into this batch, and nowhere else.
            unsafe { zone::free_batch(&self.pages[..given]) };
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock;
    use crate::own_process::in_own_process;
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    #[test]
    fn grows_with_demand_and_drains() {
        in_own_process!();
        let cache = PageCache::new();
        assert!(cache.alloc_page_lockless().is_none(), "lockless never asks the zone");
        let first = cache.alloc_page().unwrap();
        assert_eq!(cache.len(), BATCH_MIN - 1);
        let mut held = HashSet::from([first]);
        for _ in 0..500 {
            assert!(held.insert(cache.alloc_page().unwrap()));
        }
        assert!(cache.len() < BATCH_MAX);
        for page in held {
            // SAFETY: ours, unused.
            unsafe { cache.free_page(page) };
            assert!(cache.len() <= CACHE_MAX);
        }
        let len = cache.len();
        assert_eq!(cache.drain(5), len - 5);
        assert_eq!(cache.take_all(), 5);
        assert_eq!(cache.take_all(), 0);
    }

    #[test]
    fn backs_off() {
        in_own_process!();
        let cache = PageCache::new();
        back_off::begin(clock::now_coarse_ns());
        let before = back_off::refills();
        let page = cache.alloc_page().unwrap();
        assert!(cache.is_empty());
        assert!(back_off::refills().1 > before.1);
        back_off::end();
        // SAFETY: ours, unused.
        unsafe { cache.free_page(page) };
        assert_eq!(cache.take_all(), 1);
    }

    /// The owner allocates, writes its pages, checks them and frees them; another thread
    /// takes everything again and again. A page that is in two hands shows.
    #[test]
    fn owner_against_taker() {
        let cache = PageCache::new();
        let stop = AtomicBool::new(false);
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let start = clock::now_coarse_ns();
                while !stop.load(Relaxed) && clock::now_coarse_ns() - start < 60_000_000_000 {
                    taken.fetch_add(cache.take_all(), Relaxed);
                    for _ in 0..20 {
                        std::hint::spin_loop();
                    }
                }
            });
            // A list of 0 to 3 pages, so that most pops and pushes meet the taker.
            let mut held = std::collections::VecDeque::new();
            for round in 0u64.. {
                // On a busy machine the taker may not have run yet.
                if round >= 600_000 && taken.load(Relaxed) > 0 {
                    break;
                }
                let page = cache.alloc_page().unwrap();
                // SAFETY: ours.
                unsafe { page.as_ptr().cast::<u64>().write_volatile(round) };
                held.push_back((page, round));
                if held.len() == 4 {
                    for _ in 0..1 + round % 4 {
                        let (page, stamp) = held.pop_front().unwrap();
                        // SAFETY: ours until it is freed.
                        unsafe {
                            let word = page.as_ptr().cast::<u64>();
                            assert_eq!(word.read_volatile(), stamp, "a page in two hands");
                            cache.free_page(page);
                        }
                    }
                }
            }
            for (page, _) in held {
                // SAFETY: ours, unused.
                unsafe { cache.free_page(page) };
            }
            stop.store(true, Relaxed);
        });
        cache.take_all();
        assert!(taken.load(Relaxed) > 0);
    }
}
