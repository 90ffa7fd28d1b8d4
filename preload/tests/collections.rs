//! Single collections in the heap, in a program whose global allocator is another; and the figures.

use allocator_api2::alloc::{Allocator, Layout};
use allocator_api2::boxed::Box as BoxIn;
use allocator_api2::vec::Vec as VecIn;
use rcumalloc::{RcuMalloc, owns, stats};

#[test]
fn a_collection_of_ones_own_lies_in_the_heap() {
    let elsewhere = Box::new(1u64);
    assert!(!owns(&*elsewhere));
    let mut numbers = VecIn::new_in(RcuMalloc);
    for number in 0..200_000u64 {
        numbers.push(number);
        if number.is_power_of_two() {
            numbers.shrink_to_fit();
        }
    }
    assert!(owns(numbers.as_ptr()));
    assert!(numbers.iter().copied().eq(0..200_000));
    numbers.truncate(3);
    numbers.shrink_to_fit();
    assert_eq!(numbers[..], [0, 1, 2]);
    numbers.clear();
    numbers.shrink_to_fit();
    numbers.push(7);
    assert_eq!(numbers[..], [7]);
    let nothing = BoxIn::new_in((), RcuMalloc);
    assert!(!owns(&*nothing));
}

#[test]
fn layouts_of_every_kind() {
    for align in [1usize, 8, 16, 64, 4096, 1 << 16] {
        for size in [0usize, 1, 15, 4096, 100_000] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            // Hardly more, and much more strictly aligned: it does not lie so by chance.
            let larger = Layout::from_size_align(size + 20, (align * 2).max(8192)).expect("a layout");
            let block = RcuMalloc.allocate_zeroed(layout).expect("there is memory");
            assert_eq!((block.len(), block.cast::<u8>().addr().get() % align), (size, 0));
            // SAFETY: the block is ours, and as long as it says.
            let bytes = unsafe { &mut *block.as_ptr() };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(5);
            // SAFETY: our block, by its layout; and so on.
            unsafe {
                let block = RcuMalloc.grow_zeroed(block.cast(), layout, larger).expect("there is memory");
                assert_eq!(block.cast::<u8>().addr().get() % larger.align(), 0);
                let (old, new) = (*block.as_ptr()).split_at(size);
                assert!(old.iter().all(|&byte| byte == 5) && new.iter().all(|&byte| byte == 0));
                let block = RcuMalloc.shrink(block.cast(), larger, layout).expect("there is memory");
                assert!((*block.as_ptr()).iter().all(|&byte| byte == 5));
                let block = RcuMalloc.grow(block.cast(), layout, larger).expect("there is memory");
                assert_eq!(block.cast::<u8>().addr().get() % larger.align(), 0);
                assert!((&*block.as_ptr())[..size].iter().all(|&byte| byte == 5));
                RcuMalloc.deallocate(block.cast(), larger);
            }
        }
    }
    let endless = Layout::from_size_align(isize::MAX as usize - 4096, 16).expect("a layout");
    assert!(RcuMalloc.allocate(endless).is_err());
}

#[test]
fn what_a_collection_drops_waits_for_sections() {
    let section = rcumalloc::read();
    let mut old = VecIn::new_in(RcuMalloc);
    old.extend((0..64u64).map(|number| number * 3));
    let seen = old.as_ptr();
    drop(old);
    for _ in 0..2000 {
        let mut other = VecIn::with_capacity_in(64, RcuMalloc);
        other.resize(64, u64::MAX);
        assert_ne!(other.as_ptr(), seen);
    }
    for number in 0..64 {
        // SAFETY: what was freed since the section began stays as it was until the section ends.
        assert_eq!(unsafe { *seen.add(number) }, number as u64 * 3);
    }
    drop(section);
}

#[test]
fn figures_add_up() {
    const BYTES: u64 = 64 << 20;
    // From here on what is dropped waits.
    drop(rcumalloc::read());
    let before = stats();
    let blocks: Vec<_> = (0..64).map(|_| VecIn::<u8, _>::with_capacity_in(1 << 20, RcuMalloc)).collect();
    let held = stats();
    assert!(held.live_bytes >= before.live_bytes + BYTES - (8 << 20), "{before:?} {held:?}");
    assert!(held.mapped_bytes >= held.live_bytes && held.threads >= 1, "{held:?}");
    assert!(held.budget_bytes > 0, "{held:?}");
    let section = rcumalloc::read();
    drop(blocks);
    let dropped = stats();
    assert!(dropped.is_concurrent && dropped.waiting_bytes >= BYTES / 2, "{dropped:?}");
    drop(section);
    rcumalloc::barrier();
    let after = stats();
    assert!(after.periods_completed > dropped.periods_completed, "{after:?}");
    assert!(after.waiting_bytes + after.live_bytes < dropped.waiting_bytes + dropped.live_bytes, "{after:?}");
    assert!(after.period_median <= after.period_p99, "{after:?}");
    // Other tests run: not to the byte.
    let sum = after.live_bytes + after.cached_bytes + after.waiting_bytes + after.in_slabs_bytes;
    assert!(sum.abs_diff(after.blocks_bytes) <= 8 << 20, "{after:?}");
}
