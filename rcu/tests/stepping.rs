//! Sections in signal handlers, exhaustively: every operation of a reader is interrupted at every single
//! instruction (the processor's trap flag raises SIGTRAP behind each) by a handler that opens a section,
//! checks that it is protected, and closes it. Afterwards the reader must be as good as new.
#![cfg(not(any(loom, rcu_tsan)))] // the sanitizer delivers signals later, not where they happen

mod common;

use std::arch::asm;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use common::*;
use quiescent::{Demand, Domain, Reader, ReaderCell};

const TRAP_FLAG: i64 = 1 << 8;

thread_local! {
    static STEPS_LEFT: Cell<u32> = const { Cell::new(0) };
    static TARGET: Cell<Option<(&'static Domain, &'static ReaderCell)>> = const { Cell::new(None) };
    static UNPROTECTED: Cell<bool> = const { Cell::new(false) };
    /// Raised at the step, and waited for until another thread takes it down.
    static PAUSED: Cell<Option<&'static AtomicBool>> = const { Cell::new(None) };
}

extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let left = STEPS_LEFT.get().saturating_sub(1);
    STEPS_LEFT.set(left);
    if left > 0 {
        return;
    }
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel hands a valid context to an SA_SIGINFO handler. Step no further.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP_FLAG };
    if let Some((domain, cell)) = TARGET.take() {
        // SAFETY: the interrupted thread owns the cell.
        let reader = unsafe { Reader::borrow_cell(cell) };
        let section = reader.read_lock();
        UNPROTECTED.set(!held_up(domain));
        drop(section);
    }
    if let Some(paused) = PAUSED.take() {
        paused.store(true, SeqCst);
        while paused.load(SeqCst) {
            std::thread::yield_now();
        }
    }
}

/// Runs `operation` and interrupts it behind its `step`th instruction; false if it has fewer.
fn interrupted_at(
    step: u32,
    domain: &'static Domain,
    reader: &mut Reader,
    operation: fn(&mut Reader),
) -> bool {
    TARGET.set(Some((domain, reader.cell())));
    trapped_at(step, || operation(reader));
    TARGET.take().is_none()
}

fn trapped_at(step: u32, operation: impl FnOnce()) {
    STEPS_LEFT.set(step);
    // SAFETY: sets and clears the trap flag, for which there is a handler. The compiler knows that
    // an asm block without `nostack` pushes.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    operation();
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and dword ptr [rsp], ~0x100", "popfq") };
}

/// Interrupts `operation` everywhere, each time on a reader fresh from `prepare`.
fn interrupt_everywhere(
    domain: fn() -> &'static Domain,
    prepare: fn(&'static Domain) -> Reader,
    operation: fn(&mut Reader),
) {
    on_signal(libc::SIGTRAP, on_trap);
    let mut step = 1;
    loop {
        let domain = domain();
        // Never dropped: a failed assertion in a section would become an abort.
        let mut reader = ManuallyDrop::new(prepare(domain));
        if !interrupted_at(step, domain, &mut reader, operation) {
            assert!(step > 3, "no instruction was interrupted: does the trap flag work here?");
            return;
        }
        assert!(!UNPROTECTED.get(), "step {step}: the handler's section was not waited for");
        assert!(reader.is_explicit(), "step {step}: the handler's first lock was forgotten");
        while reader.nesting() > 0 {
            assert!(held_up(domain), "step {step}: the interrupted section is not waited for");
            unlock(&reader);
        }
        let section = reader.read_lock();
        assert!(held_up(domain), "step {step}: a section behind the interruption is not waited for");
        drop(section);
        let cookie = domain.start_poll();
        assert!(expedites_to_end(domain, cookie), "step {step}: periods do not end any more");
        step += 1;
    }
}

fn period_in_flight(domain: &'static Domain) {
    // Needs somebody to wait for, or it ends at once; the reader's own lag does that.
    domain.advance(Demand::Start);
}

fn implicit_and_lagging(domain: &'static Domain) -> Reader {
    let reader = reader(domain);
    period_in_flight(domain);
    reader
}

fn explicit_and_lagging(domain: &'static Domain) -> Reader {
    let reader = explicit_reader(domain);
    period_in_flight(domain);
    reader
}

fn parked(domain: &'static Domain) -> Reader {
    let reader = reader(domain);
    domain.advance(Demand::Expedite);
    assert!(reader.is_parked());
    reader
}

/// Explicit and idle since an expedite looked: the next one parks it.
fn rested(domain: &'static Domain) -> Reader {
    let reader = explicit_reader(domain);
    domain.advance(Demand::Expedite);
    reader
}

fn parked_after_it_rested(domain: &'static Domain) -> Reader {
    let reader = rested(domain);
    domain.advance(Demand::Expedite);
    assert!(reader.is_parked() && reader.is_explicit());
    reader
}

fn offline(domain: &'static Domain) -> Reader {
    let mut reader = explicit_reader(domain);
    reader.offline();
    reader
}

fn in_a_section_opened_offline(domain: &'static Domain) -> Reader {
    let reader = offline(domain);
    reader.lock();
    reader
}

fn online_in_a_section_opened_offline(domain: &'static Domain) -> Reader {
    let reader = in_a_section_opened_offline(domain);
    reader.online(); // the section is still in the cold mode, and nothing keeps a handler in it
    reader
}

fn about_to_take_its_turn(domain: &'static Domain) -> Reader {
    let reader = reader(domain);
    for _ in 0..1023 {
        drop(reader.read_lock());
    }
    reader.lock();
    period_in_flight(domain);
    reader
}

/// Runs `operation`; another thread forks when it stands behind its `step`th instruction, and `child` runs
/// in the child, where the operation will never go on. False if the operation has fewer instructions.
fn forked_at(step: u32, operation: impl FnOnce(), child: impl FnOnce() + Send + 'static) -> bool {
    paused_at(step, operation, move || in_forked_child(child))
}

/// Runs `operation`; another thread runs `meanwhile` when it stands behind its `step`th instruction, or has
/// come to its end. False if the operation has fewer instructions.
fn paused_at(step: u32, operation: impl FnOnce(), meanwhile: impl FnOnce() + Send + 'static) -> bool {
    let paused: &AtomicBool = leak(AtomicBool::new(false));
    let other = thread::spawn(move || {
        while !paused.load(SeqCst) {
            thread::yield_now();
        }
        let outcome = catch_unwind(AssertUnwindSafe(meanwhile));
        paused.store(false, SeqCst);
        outcome.expect("the other thread");
    });
    PAUSED.set(Some(paused));
    trapped_at(step, operation);
    let done = PAUSED.take().is_some();
    if done {
        paused.store(true, SeqCst); // the last one is beside a thread at rest
    }
    assert!(other.join().is_ok(), "step {step}");
    assert!(step > 3 || !done, "no instruction was interrupted: does the trap flag work here?");
    !done
}

fn forget_the_others(domain: &Domain) {
    // SAFETY: called first thing in a child, whose only thread this is.
    unsafe { domain.after_fork_in_child(None) };
}

#[test]
fn a_promise_outlives_a_fork_anywhere() {
    on_signal(libc::SIGTRAP, on_trap);
    let forked_while_a_period_ends = |&step: &u32| {
        let domain = fast_domain();
        let reader = implicit_and_lagging(domain);
        let cookie = domain.start_poll(); // the period behind the one in flight
        let child = move || {
            forget_the_others(domain);
            assert!(domain.poll(cookie), "nobody begins the period that was promised");
        };
        forked_at(step, || reader.quiescent_state(), child)
    };
    (1..).take_while(forked_while_a_period_ends).for_each(drop);
}

#[test]
fn a_cell_whose_registration_a_fork_cut_off_is_free() {
    on_signal(libc::SIGTRAP, on_trap);
    let forked_while_registering = |&step: &u32| {
        let domain = fast_domain();
        assert!(domain.add_block(block(1)));
        let child = move || {
            forget_the_others(domain);
            let heir = ManuallyDrop::new(domain.register(0).expect("the only cell is free"));
            assert!(!held_up(domain));
            let section = heir.read_lock();
            assert!(held_up(domain), "the heir is not looked at");
            drop(section);
            forget_the_others(domain);
            let heir = domain.register(0).expect("it is free again");
            let _section = heir.read_lock();
            assert!(held_up(domain));
        };
        forked_at(step, || drop(domain.register(0)), child)
    };
    (1..).take_while(forked_while_registering).for_each(drop);
}

/// A reader that has rested is parked by another thread while it stands at any instruction of `operation`:
/// what it reads behind that is protected.
fn park_everywhere(domain: fn() -> &'static Domain, operation: fn(&mut Reader)) {
    on_signal(libc::SIGTRAP, on_trap);
    let mut parked = 0;
    let parked_meanwhile = |&step: &u32| {
        let domain = domain();
        let mut reader = ManuallyDrop::new(rested(domain));
        let expedite = move || (0..2).for_each(|_| _ = domain.advance(Demand::Expedite));
        let interrupted = paused_at(step, || operation(&mut reader), expedite);
        parked += domain.counters().parked;
        while reader.nesting() > 0 {
            assert!(held_up(domain), "step {step}: the section is not waited for");
            unlock(&reader);
        }
        let section = reader.read_lock();
        assert!(held_up(domain), "step {step}: the next section is not waited for");
        drop(section);
        assert!(expedites_to_end(domain, domain.start_poll()), "step {step}: periods do not end any more");
        interrupted
    };
    (1..).take_while(parked_meanwhile).for_each(drop);
    assert!(parked > 0, "it was parked nowhere");
}

macro_rules! parked_everywhere {
    ($($name:ident: $operation:expr;)*) => {
        mod parked_fast { $(#[test] fn $name() {
            super::park_everywhere(super::fast_domain, $operation)
        })* }
        mod parked_fenced { $(#[test] fn $name() {
            super::park_everywhere(super::fenced_domain, $operation)
        })* }
    };
}

parked_everywhere! {
    at_its_lock: |reader| reader.lock();
    at_a_section: |reader| drop(reader.read_lock());
    at_its_second_section: |reader| {
        drop(reader.read_lock());
        reader.lock();
    };
    at_its_announcement: |reader| reader.quiescent_state();
    going_offline_and_back: |reader| {
        reader.offline();
        reader.online();
        reader.lock();
    };
}

macro_rules! everywhere {
    ($($name:ident: $prepare:ident, $operation:expr;)*) => {
        mod fast { $(#[test] fn $name() {
            super::interrupt_everywhere(super::fast_domain, super::$prepare, $operation)
        })* }
        mod fenced { $(#[test] fn $name() {
            super::interrupt_everywhere(super::fenced_domain, super::$prepare, $operation)
        })* }
    };
}

everywhere! {
    first_lock: implicit_and_lagging, |reader| reader.lock();
    first_lock_of_a_parked_reader: parked, |reader| reader.lock();
    lock: explicit_and_lagging, |reader| reader.lock();
    lock_of_one_that_rested: rested, |reader| reader.lock();
    lock_of_one_parked_after_it_rested: parked_after_it_rested, |reader| reader.lock();
    lock_and_unlock: explicit_and_lagging, |reader| drop(reader.read_lock());
    lock_while_offline: offline, |reader| reader.lock();
    unlock_of_a_section_opened_offline: in_a_section_opened_offline, |reader| crate::common::unlock(reader);
    unlock_behind_online: online_in_a_section_opened_offline, |reader| crate::common::unlock(reader);
    unlock_that_takes_its_turn: about_to_take_its_turn, |reader| crate::common::unlock(reader);
    announcement_of_an_implicit_reader: implicit_and_lagging, |reader| reader.quiescent_state();
    announcement_of_an_explicit_reader: explicit_and_lagging, |reader| reader.quiescent_state();
    announcement_of_a_parked_reader: parked, |reader| reader.quiescent_state();
    announcement_of_one_parked_after_it_rested: parked_after_it_rested, |reader| reader.quiescent_state();
    going_offline: explicit_and_lagging, |reader| reader.offline();
    going_offline_without_having_read: implicit_and_lagging, |reader| reader.offline();
    coming_online: offline, |reader| reader.online();
    coming_online_out_of_parking: parked, |reader| reader.online();
}
