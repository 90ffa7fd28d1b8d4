//! Nesting, and sections opened while offline.
#![cfg(not(loom))]

mod common;

use common::*;

in_both_modes! {
    fn only_the_outermost_unlock_ends_the_section(domain) {
        let reader = reader(domain);
        for depth in 1..=50 {
            reader.lock();
            assert_eq!(reader.nesting(), depth);
        }
        for depth in (1..=50).rev() {
            assert!(held_up(domain));
            assert_eq!(reader.nesting(), depth);
            unlock(&reader);
        }
        assert!(!held_up(domain));
    }

    fn a_glance_is_a_section_while_it_lasts(domain) {
        drop(reader(domain));
        for _ in 0..50 {
            let cookie = domain.glance(|section| {
                assert!(held_up(domain));
                let _ = section;
                domain.start_poll()
            });
            let cookie = cookie.expect("room");
            assert!(expedites_to_end(domain, cookie) && !held_up(domain));
        }
        // Beside another, and as many as there are cells at most.
        let within = domain.glance(|_| domain.glance(|_| held_up(domain)));
        assert_eq!(within, Ok(Ok(true)));
        let readers: Vec<_> = std::iter::from_fn(|| domain.register(0).ok()).collect();
        assert!(domain.glance(|_| ()).is_err());
        drop(readers);
        assert!(domain.glance(|_| ()).is_ok());
    }

    fn guards_and_raw_calls_mix(domain) {
        let reader = reader(domain);
        let guard = reader.read_lock();
        // SAFETY: this thread owns the cell, and the unlock below closes the section.
        unsafe { reader.cell().lock_raw() };
        drop(guard);
        assert!(held_up(domain));
        // SAFETY: as above.
        unsafe { reader.cell().unlock_raw() };
        assert_eq!(reader.nesting(), 0);
    }

    fn deep_nesting_is_counted(domain) {
        let reader = reader(domain);
        // Miri takes a second for some thousand.
        let depth = if cfg!(miri) { 1000 } else { 1_000_000 };
        for _ in 0..depth {
            reader.lock();
        }
        assert_eq!(reader.nesting(), depth);
        for _ in 1..depth {
            unlock(&reader);
        }
        assert!(held_up(domain));
        unlock(&reader);
        assert!(!held_up(domain));
    }

    fn the_first_lock_hook_runs_once_and_before_the_section_is_explicit(domain) {
        thread_local!(static CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
        domain.set_first_lock_hook(|| CALLS.set(CALLS.get() + 1));
        let mut reader = reader(domain);
        assert_eq!(CALLS.get(), 0);
        for _ in 0..3 {
            drop(reader.read_lock());
            reader.offline();
            drop(reader.read_lock());
            reader.online();
        }
        assert_eq!(CALLS.get(), 1);
    }

    fn the_unlock_hook_runs_behind_each_outermost_section_that_begins_with_a_fence(domain) {
        thread_local!(static CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
        let reader = reader(domain);
        drop(reader.read_lock());
        domain.set_unlock_hook(|| CALLS.set(CALLS.get() + 1));
        for sections in 1..=3 {
            let section = reader.read_lock();
            drop(reader.read_lock());
            assert!(CALLS.get() < sections, "not within a section");
            drop(section);
            assert_eq!(CALLS.get(), if domain.is_fenced() { sections } else { 0 });
        }
    }

    fn a_section_opened_while_offline_is_waited_for_and_goes_back_offline(domain) {
        let mut reader = reader(domain);
        reader.offline();
        for _ in 0..3 {
            let section = reader.read_lock();
            assert!(!reader.is_offline());
            assert!(held_up(domain));
            drop(section);
            assert!(reader.is_offline());
            assert!(domain.poll(domain.start_poll()), "nobody is waited for");
        }
    }

    fn a_nested_section_opened_while_offline_goes_back_at_the_outermost_unlock(domain) {
        let mut reader = reader(domain);
        reader.offline();
        let (outer, inner) = (reader.read_lock(), reader.read_lock());
        drop(inner);
        assert!(held_up(domain));
        drop(outer);
        assert!(reader.is_offline());
    }

    fn online_inside_a_section_opened_offline_lasts(domain) {
        let mut reader = reader(domain);
        reader.offline();
        let section = reader.read_lock();
        reader.online();
        drop(section);
        assert!(!reader.is_offline());
        let _section = reader.read_lock();
        assert!(held_up(domain));
    }

    fn offline_twice_and_online_twice_are_once(domain) {
        let mut reader = reader(domain);
        reader.offline();
        reader.offline();
        reader.online();
        reader.online();
        assert!(!reader.is_offline());
        let cookie = domain.start_poll();
        assert!(!domain.poll(cookie), "it is waited for");
        reader.quiescent_state();
        assert!(domain.poll(cookie));
    }

    fn nothing_is_announced_while_offline(domain) {
        let (mut away, here) = (reader(domain), reader(domain));
        away.offline();
        let cookie = domain.start_poll();
        away.quiescent_state();
        assert!(away.is_offline());
        here.quiescent_state();
        assert!(domain.poll(cookie));
    }

    fn a_reader_that_comes_online_in_flight_is_not_waited_for(domain) {
        let (mut away, here) = (reader(domain), reader(domain));
        away.offline();
        let cookie = domain.start_poll();
        away.online();
        let _section = away.read_lock();
        here.quiescent_state();
        assert!(domain.poll(cookie), "its section began after the cookie");
    }
}
