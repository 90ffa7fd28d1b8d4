//! Wrong use. Without a handler: one line and abort. With one: it is called, the call has a safe effect
//! or none, and the process goes on, except where it cannot.
#![cfg(not(loom))]

mod common;

use std::os::unix::process::ExitStatusExt;

use common::*;
use quiescent::{Cookie, Demand, Domain, Misuse, Reader, ReaderCell};

const TID: u32 = 77;

fn named_reader(domain: &'static Domain) -> Reader {
    register(domain, TID)
}

fn unlock_without_section(domain: &'static Domain) {
    unlock(&named_reader(domain));
}

fn unlock_once_too_often(domain: &'static Domain) {
    let reader = named_reader(domain);
    drop(reader.read_lock());
    unlock(&reader);
}

fn offline_in_section(domain: &'static Domain) {
    let mut reader = named_reader(domain);
    reader.lock();
    reader.offline();
    unlock(&reader);
}

fn exit_in_section(domain: &'static Domain) {
    let reader = named_reader(domain);
    reader.lock();
    reader.exit();
}

fn synchronize_in_section(domain: &'static Domain) {
    let mut reader = named_reader(domain);
    reader.lock();
    domain.synchronize(Some(&mut reader));
}

fn expedite_in_section(domain: &'static Domain) {
    let mut reader = named_reader(domain);
    reader.lock();
    domain.synchronize_expedited(Some(&mut reader));
}

fn strangers_cookie(domain: &'static Domain) {
    let bits = 200 << 56 | 2; // of domain 200, which is not this one
    assert!(!domain.poll(Cookie::from_bits(bits)));
}

fn invented_cookie(domain: &'static Domain) {
    assert!(!domain.poll(Cookie::from_bits(domain.snapshot().to_bits() + 0x100)));
}

/// The line and SIGABRT, in a process of its own.
fn aborts(test: &str, line: &str, wrong: fn(&'static Domain), domain: fn() -> &'static Domain) {
    if is_child() {
        return wrong(domain());
    }
    let output = rerun(test);
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{line}\n"));
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}

macro_rules! abort_with_one_line {
    ($($name:ident: $line:literal;)*) => {
        mod without_a_handler {
            mod fast { $(#[test] fn $name() {
                let test = concat!("without_a_handler::fast::", stringify!($name));
                crate::aborts(test, $line, crate::$name, crate::fast_domain);
            })* }
            mod fenced { $(#[test] fn $name() {
                let test = concat!("without_a_handler::fenced::", stringify!($name));
                crate::aborts(test, $line, crate::$name, crate::fenced_domain);
            })* }
        }
    };
}

abort_with_one_line! {
    unlock_without_section: "rcu: read_unlock without an open read-side section in thread 77";
    unlock_once_too_often: "rcu: read_unlock without an open read-side section in thread 77";
    offline_in_section: "rcu: offline inside a read-side section of thread 77: end the section first";
    exit_in_section: "rcu: thread 77 ended inside a read-side section";
    synchronize_in_section: "rcu: waiting for a grace period inside a read-side section of the same thread \
        77 would never end";
    expedite_in_section: "rcu: waiting for a grace period inside a read-side section of the same thread 77 \
        would never end";
    strangers_cookie: "rcu: cookie 0xc800000000000002 of domain 200 was given to domain 1";
    invented_cookie: "rcu: cookie 0x100000000000102 was never handed out";
}

/// What the handler is told, once, with the process going on.
fn reported(domain: &'static Domain, wrong: fn(&'static Domain)) -> Misuse {
    record_misuse(domain);
    wrong(domain);
    let seen = take_misuse();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(!seen[0].is_fatal());
    seen[0]
}

in_both_modes! {
    fn an_unlock_too_many_is_ignored(domain) {
        for wrong in [unlock_without_section, unlock_once_too_often] {
            assert_eq!(reported(domain, wrong), Misuse::UnbalancedUnlock { tid: TID });
        }
        let reader = explicit_reader(domain);
        for _ in 0..3 {
            unlock(&reader);
            assert_eq!(reader.nesting(), 0);
        }
        assert_eq!(take_misuse().len(), 3);
        let _section = reader.read_lock();
        assert!(held_up(domain));
    }

    fn offline_in_a_section_is_ignored(domain) {
        assert_eq!(reported(domain, offline_in_section), Misuse::OfflineInSection { tid: TID });
        let mut reader = explicit_reader(domain);
        reader.lock();
        reader.offline();
        assert!(!reader.is_offline());
        assert!(held_up(domain));
        unlock(&reader);
    }

    fn exit_in_a_section_ends_it(domain) {
        assert_eq!(reported(domain, exit_in_section), Misuse::ExitInSection { tid: TID });
        let reader = explicit_reader(domain);
        reader.lock();
        let cookie = domain.start_poll();
        reader.exit();
        assert!(domain.poll(cookie));
        assert_eq!(register(domain, 0).nesting(), 0);
    }

    fn a_strangers_cookie_never_elapses(domain) {
        let cookie = Cookie::from_bits(200 << 56 | 2);
        let tag = domain.snapshot().tag();
        assert_eq!(reported(domain, strangers_cookie), Misuse::StrangeCookie { cookie, tag });
        for _ in 0..10 {
            domain.advance(Demand::Expedite);
            assert!(!domain.poll(cookie));
        }
    }

    fn an_invented_cookie_has_not_elapsed(domain) {
        assert!(matches!(reported(domain, invented_cookie), Misuse::StrangeCookie { .. }));
    }

    fn an_odd_cookie_is_nobodys(domain) {
        record_misuse(domain);
        assert!(!domain.poll(Cookie::from_bits(domain.snapshot().to_bits() - 1)));
        assert_eq!(take_misuse().len(), 1);
    }

    fn an_honest_cookie_is_never_strange(domain) {
        record_misuse(domain);
        let _reader = reader(domain);
        for _ in 0..20 {
            for cookie in [domain.snapshot(), domain.start_poll()] {
                let _ = domain.poll(cookie);
            }
            domain.advance(Demand::Expedite);
        }
        assert_eq!(take_misuse(), []);
    }
}

/// Fatal: the handler is called, and the process ends all the same.
#[test]
fn waiting_in_a_section_is_fatal_even_with_a_handler() {
    if is_child() {
        let domain = fast_domain();
        domain.set_misuse_handler(|what| eprintln!("handler: fatal {}", what.is_fatal()));
        return synchronize_in_section(domain);
    }
    let output = rerun("waiting_in_a_section_is_fatal_even_with_a_handler");
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(lines.lines().next(), Some("handler: fatal true"));
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}

/// A handler may be called in a signal handler, and misuse there is told as anywhere.
#[test]
fn misuse_in_a_signal_handler_is_reported() {
    thread_local! {
        static CELL: std::cell::Cell<Option<&'static ReaderCell>> = const { std::cell::Cell::new(None) };
    }
    extern "C" fn unlock(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        if let Some(cell) = CELL.get() {
            // SAFETY: the interrupted thread owns the cell.
            unsafe { Reader::borrow_cell(cell).unlock() };
        }
    }
    let domain = fast_domain();
    record_misuse(domain);
    let reader = explicit_reader(domain);
    CELL.set(Some(reader.cell()));
    on_signal(libc::SIGUSR2, unlock);
    // SAFETY: the handler was installed just now.
    unsafe { libc::raise(libc::SIGUSR2) };
    assert_eq!(take_misuse().len(), 1);
    assert_eq!(reader.nesting(), 0);
}
