//! The reserve: pages kept for `free` alone, so that freeing never waits for memory (G4).
//!
//! `free` may need a page for a magazine when none is to be had. The reserve holds as many
//! as whoever counts threads says (`set_target`); a page cache that refills tops it up first,
//! so it is full again before malloc gets its batch. It starts empty, for a small program
//! never needs it, and its pages are not touched until used.
//!
//! Pages hang on each other through their memdesc words (kind Reserve). One lock, taken
//! before the zone's; only slow paths come here.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use super::memdesc::{self, Kind, Memdesc};
use super::{Page, zone};
use crate::os::lock::Lock;

pub(super) struct Stock {
    top: Option<Page>,
    len: usize,
}

#[unsafe(link_section = ".data")]
static STOCK: Lock<Stock> = Lock::new(Stock { top: None, len: 0 });

/// Pages wanted, and pages there: written under the lock, or read for a hint.
#[unsafe(link_section = ".data")]
static TARGET: AtomicUsize = AtomicUsize::new(0);
#[unsafe(link_section = ".data")]
static LEN: AtomicUsize = AtomicUsize::new(0);

impl Stock {
    /// Its pages belong to nobody.
    fn abandon(&mut self) {
        *self = Stock { top: None, len: 0 };
        LEN.store(0, Relaxed);
    }

    fn push(&mut self, page: Page) {
        let next = self.top.map_or(0, Page::addr);
        // SAFETY: the page is the reserve's; its descriptor is a link that only we follow.
        unsafe { memdesc::set(page, 1, Memdesc::new(Kind::Reserve, next, 0)) };
        self.top = Some(page);
        self.len += 1;
        LEN.store(self.len, Relaxed);
    }

    fn pop(&mut self) -> Option<Page> {
        let page = self.top?;
        self.top = Page::new(memdesc::of(page.addr()).descriptor());
        self.len -= 1;
        LEN.store(self.len, Relaxed);
        Some(page)
    }
}

/// Says how many pages the reserve shall hold. Fewer than before: the rest goes back as
/// pages are [`put`].
pub fn set_target(pages: usize) {
    TARGET.store(pages, Relaxed);
}

/// Pages the reserve shall hold.
pub fn target() -> usize {
    TARGET.load(Relaxed)
}

/// Pages in the reserve.
pub fn len() -> usize {
    LEN.load(Relaxed)
}

/// Fills the reserve up from the zone; whether it is full now.
#[unsafe(link_section = ".text_start")]
pub fn top_up() -> bool {
    if LEN.load(Relaxed) >= TARGET.load(Relaxed) {
        return true;
    }
    let mut stock = STOCK.lock();
    while stock.len < TARGET.load(Relaxed) {
        match zone::alloc_pages(0) {
            Some(page) => stock.push(page),
            None => return false,
        }
    }
    true
}

/// A page for `free`. None: the reserve is used up.
pub fn take() -> Option<Page> {
    STOCK.lock().pop()
}

/// Gives a page to the reserve, or to the zone if the reserve is full.
///
/// # Safety
/// The caller owns the page, and nothing refers to it any more.
pub unsafe fn put(page: Page) {
    let mut stock = STOCK.lock();
    if stock.len < TARGET.load(Relaxed) {
        stock.push(page);
    } else {
        drop(stock);
        // SAFETY: promised by the caller.
        unsafe { zone::free_pages(page, 0) };
    }
}

/// For fork: the lock.
pub(super) fn lock() -> &'static Lock<Stock> {
    &STOCK
}

/// In the only thread of a forked child: if somebody who is not here was changing the stock, it is empty, and
/// its pages belong to nobody.
pub(super) fn settle_in_child() {
    STOCK.settle_in_child(Stock::abandon);
}

/// See [`super::let_go_of_own`].
pub(super) fn let_go_of_own() {
    STOCK.let_go_of_own(Stock::abandon);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::map::{fail_after, fail_never};

    #[test]
    fn fills_serves_and_shrinks() {
        crate::own_process::in_own_process!();
        set_target(3);
        assert!(top_up());
        fail_after(0);
        let pages: Vec<_> = core::iter::from_fn(take).collect();
        fail_never();
        assert!(pages.len() >= 3, "the reserve serves when the system does not");
        for &page in &pages {
            assert_eq!(memdesc::of(page.addr()).kind(), Kind::Reserve);
            // SAFETY: ours, unused.
            unsafe { put(page) };
        }
        assert_eq!(len(), 3);
        set_target(0);
        while let Some(page) = take() {
            // SAFETY: ours, unused.
            unsafe { put(page) };
        }
        assert_eq!(len(), 0);
    }
}
