//! The maps that `ranges` measures, each in its best form: from the first address of a range to its end and a
//! number, and a look-up by any address in it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use crossbeam_skiplist::SkipMap;
use rcu::range_map::{Node, RangeMap};
use rcu::{Domain, Reader, ReaderBlock, ReaderCell, ReaderWord};

/// Range `index` of all.
pub fn range(index: usize) -> (usize, usize, u64) {
    // Large blocks of odd sizes with gaps, as a heap has them.
    let start = 0x7000_0000_0000 + index * 0x40_0000;
    (start, start + 0x2_0000 + index % 7 * 0x1000, index as u64 + 1)
}

/// A map that threads share.
pub trait Map: Sync {
    const NAME: &'static str;
    /// What a thread reads with.
    type Local;
    /// With so many ranges.
    fn new(ranges: usize) -> Self;
    fn join(&self) -> Self::Local;
    /// What the range that the address lies in holds; 0: it lies in none.
    fn get(&self, local: &Self::Local, address: usize) -> u64;
    /// Takes the range out.
    fn remove(&self, index: usize);
    /// Puts it in again.
    fn insert(&self, index: usize);
}

type Nodes = fn() -> Option<&'static mut Node>;

pub struct Ours {
    domain: &'static Domain,
    map: &'static RangeMap<NonZeroU64, Nodes>,
}

fn node() -> Option<&'static mut Node> {
    Some(Box::leak(Box::new(Node::new())))
}

impl Map for Ours {
    const NAME: &'static str = "rcu::range_map";
    type Local = Reader;

    fn new(ranges: usize) -> Ours {
        let domain: &'static Domain = Box::leak(Box::new(Domain::new(77)));
        domain.init();
        let cells: &'static [ReaderCell; 32] = Box::leak(Box::new([const { ReaderCell::new() }; 32]));
        let words: &'static [ReaderWord; 1] = Box::leak(Box::new([const { ReaderWord::new() }; 1]));
        assert!(domain.add_block(Box::leak(Box::new(ReaderBlock::new(words, cells)))), "a new block");
        let ours = Ours { domain, map: Box::leak(Box::new(RangeMap::new(node as Nodes))) };
        (0..ranges).for_each(|index| ours.insert(index));
        ours
    }

    fn join(&self) -> Reader {
        self.domain.register(0).expect("there is room for 32")
    }

    #[inline]
    fn get(&self, reader: &Reader, address: usize) -> u64 {
        let section = reader.read_lock();
        // SAFETY: one domain, here and below.
        unsafe { self.map.view(&section) }.get(address).map_or(0, NonZeroU64::get)
    }

    fn remove(&self, index: usize) {
        // SAFETY: as above.
        unsafe { self.map.write(self.domain) }.remove(range(index).0).expect("it is there");
    }

    fn insert(&self, index: usize) {
        let (start, end, value) = range(index);
        let value = NonZeroU64::new(value).expect("not zero");
        // SAFETY: as above.
        unsafe { self.map.write(self.domain) }.insert(start..end, value).expect("it is a gap");
    }
}

pub struct Locked(RwLock<BTreeMap<usize, (usize, u64)>>);

impl Map for Locked {
    const NAME: &'static str = "RwLock<BTreeMap>";
    type Local = ();

    fn new(ranges: usize) -> Locked {
        let all = (0..ranges).map(range);
        Locked(RwLock::new(all.map(|(start, end, value)| (start, (end, value))).collect()))
    }

    fn join(&self) {}

    #[inline]
    fn get(&self, (): &(), address: usize) -> u64 {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = map.range(..=address).next_back();
        found.filter(|(_, (end, _))| address < *end).map_or(0, |(_, (_, value))| *value)
    }

    fn remove(&self, index: usize) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&range(index).0);
    }

    fn insert(&self, index: usize) {
        let (start, end, value) = range(index);
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(start, (end, value));
    }
}

pub struct Skips(SkipMap<usize, (usize, u64)>);

impl Map for Skips {
    const NAME: &'static str = "crossbeam-skiplist";
    type Local = ();

    fn new(ranges: usize) -> Skips {
        let skips = Skips(SkipMap::new());
        (0..ranges).for_each(|index| skips.insert(index));
        skips
    }

    fn join(&self) {}

    #[inline]
    fn get(&self, (): &(), address: usize) -> u64 {
        let found = self.0.upper_bound(std::ops::Bound::Included(&address));
        found.map(|entry| *entry.value()).filter(|(end, _)| address < *end).map_or(0, |(_, value)| value)
    }

    fn remove(&self, index: usize) {
        self.0.remove(&range(index).0);
    }

    fn insert(&self, index: usize) {
        let (start, end, value) = range(index);
        self.0.insert(start, (end, value));
    }
}

/// A sorted list that is copied for each change; the lock is the writers'.
pub struct Swapped {
    list: ArcSwap<Vec<(usize, usize, u64)>>,
    writing: Mutex<()>,
}

impl Swapped {
    fn change(&self, change: impl FnOnce(&mut Vec<(usize, usize, u64)>)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = Vec::clone(&self.list.load());
        change(&mut list);
        self.list.store(Arc::new(list));
    }
}

impl Map for Swapped {
    const NAME: &'static str = "arc-swap, sorted Vec";
    type Local = ();

    fn new(ranges: usize) -> Swapped {
        Swapped { list: ArcSwap::from_pointee((0..ranges).map(range).collect()), writing: Mutex::new(()) }
    }

    fn join(&self) {}

    #[inline]
    fn get(&self, (): &(), address: usize) -> u64 {
        let list = self.list.load();
        let behind = list.partition_point(|(start, ..)| *start <= address);
        let Some((_, end, value)) = behind.checked_sub(1).map(|index| list[index]) else { return 0 };
        if address < end { value } else { 0 }
    }

    fn remove(&self, index: usize) {
        self.change(|list| {
            if let Ok(place) = list.binary_search_by_key(&range(index).0, |(start, ..)| *start) {
                list.remove(place);
            }
        });
    }

    fn insert(&self, index: usize) {
        self.change(|list| {
            if let Err(place) = list.binary_search_by_key(&range(index).0, |(start, ..)| *start) {
                list.insert(place, range(index));
            }
        });
    }
}
