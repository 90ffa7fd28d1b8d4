//! Every pair of steps that can race, explored by loom on the engine's own code.
//!
//! Run by `scripts/loom`, which says how many executions each model explored. Every safety model has
//! the same shape: a *block* that readers may find through a *link*. A writer unlinks it, takes a
//! cookie, and writes to the block once the cookie has elapsed. Readers load the link inside a section
//! and, if they find the block, read it. The block is a loom `UnsafeCell`: a read and a write that are
//! not ordered by happens-before fail the model, whatever their values. The link is accessed with
//! relaxed operations, so all the order there is comes from the engine.
//!
//! The liveness models join all threads and then ask whether the cookie has elapsed: a lost wake-up of
//! the rule "whoever announces last ends the period" shows there.
#![cfg(loom)]

use std::sync::atomic::{AtomicUsize as Plain, Ordering as PlainOrdering};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::thread;
use rcu::{Cookie, Demand, Domain, Reader, ReaderCell};

/// A block that readers can find while `linked`.
struct Block {
    linked: AtomicBool,
    content: UnsafeCell<u32>,
}

// SAFETY: `content` is what the models check: loom fails an execution in which accesses race.
unsafe impl Sync for Block {}

impl Block {
    fn new() -> &'static Block {
        leak(Block { linked: AtomicBool::new(true), content: UnsafeCell::new(7) })
    }

    /// Inside a section: look for the block and read it if it is there.
    fn visit(&self) {
        if self.linked.load(Relaxed) {
            // SAFETY: the claim under test.
            let content = self.content.with(|content| unsafe { *content });
            assert_eq!(content, 7, "a block was reused inside a section that had begun before its free");
        }
    }

    fn unlink(&self) {
        self.linked.store(false, Relaxed);
    }

    fn reuse(&self) {
        // SAFETY: the claim under test.
        self.content.with_mut(|content| unsafe { *content = 0 });
    }
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn domain() -> &'static Domain {
    let domain = leak(Domain::new(1));
    domain.init(); // under loom: membarrier works, readers leave the cold mode
    domain
}

fn fenced_domain() -> &'static Domain {
    let domain = leak(Domain::new(1));
    domain.init_without_membarrier();
    domain
}

fn implicit(domain: &'static Domain) -> Reader {
    // SAFETY: the cell is new.
    unsafe { domain.register(leak(ReaderCell::new()), 1) }.unwrap()
}

fn explicit(domain: &'static Domain) -> Reader {
    let reader = implicit(domain);
    drop(reader.read_lock());
    reader
}

fn visit(reader: &Reader, block: &Block) {
    let _section = reader.read_lock();
    block.visit();
}

fn reuse_if_elapsed(domain: &Domain, block: &Block, cookie: Cookie) {
    if domain.poll(cookie) {
        block.reuse();
    }
}

/// Explores `model` up to the preemptions in `LOOM_MAX_PREEMPTIONS` and prints how many executions that
/// took.
fn explore(name: &str, model: impl Fn() + Sync + Send + 'static) {
    explore_up_to(usize::MAX, name, model);
}

/// For models whose executions grow so fast with preemptions that more than `most` take hours.
fn explore_up_to(most: usize, name: &str, model: impl Fn() + Sync + Send + 'static) {
    static EXECUTIONS: Plain = Plain::new(0);
    EXECUTIONS.store(0, PlainOrdering::Relaxed);
    let started = std::time::Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(usize::MAX).min(most));
    let bound = builder.preemption_bound.unwrap_or(usize::MAX);
    builder.check(move || {
        EXECUTIONS.fetch_add(1, PlainOrdering::Relaxed);
        model();
    });
    println!(
        "loom: {name}: {} executions, up to {bound} preemptions, {:.1} s",
        EXECUTIONS.load(PlainOrdering::Relaxed),
        started.elapsed().as_secs_f64()
    );
}

fn announce_and_advance(domain: &'static Domain) {
    let block = Block::new();
    let reader = explicit(domain);
    let thread = thread::spawn(move || {
        visit(&reader, block);
        reader.quiescent_state();
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Start);
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn announce_and_advance_with_membarrier() {
    explore("announce/advance", || announce_and_advance(domain()));
}

#[test]
fn announce_and_advance_fenced() {
    explore("announce/advance, fenced", || announce_and_advance(fenced_domain()));
}

fn expedite_and_read_lock(domain: &'static Domain) {
    let block = Block::new();
    let reader = explicit(domain);
    let thread = thread::spawn(move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Expedite);
    domain.advance(Demand::Expedite); // the second pass works from the first one's snapshot
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn expedite_and_read_lock_with_membarrier() {
    explore_up_to(2, "expedite/read_lock", || expedite_and_read_lock(domain()));
}

#[test]
fn expedite_and_read_lock_fenced() {
    explore_up_to(2, "expedite/read_lock, fenced", || expedite_and_read_lock(fenced_domain()));
}

#[test]
fn expedite_and_membarrier_failing_late() {
    explore_up_to(2, "expedite/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        let thread = thread::spawn(move || {
            visit(&reader, block);
            reader.quiescent_state();
            visit(&reader, block);
            std::mem::forget(reader);
        });
        block.unlink();
        let cookie = domain.start_poll();
        domain.init_without_membarrier();
        domain.advance(Demand::Expedite);
        reuse_if_elapsed(domain, block, cookie);
        thread.join().unwrap();
    });
}

fn park_and_first_read_lock(domain: &'static Domain) {
    let block = Block::new();
    let reader = implicit(domain);
    let thread = thread::spawn(move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Expedite);
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn park_and_first_read_lock_with_membarrier() {
    explore("park/read_lock", || park_and_first_read_lock(domain()));
}

#[test]
fn park_and_first_read_lock_fenced() {
    explore("park/read_lock, fenced", || park_and_first_read_lock(fenced_domain()));
}

fn park_and_announce(domain: &'static Domain) {
    let block = Block::new();
    let reader = implicit(domain);
    let thread = thread::spawn(move || {
        reader.quiescent_state();
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Expedite);
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn park_and_announce_with_membarrier() {
    explore("park/announce", || park_and_announce(domain()));
}

#[test]
fn park_and_announce_fenced() {
    explore("park/announce, fenced", || park_and_announce(fenced_domain()));
}

fn register_and_scan(domain: &'static Domain) {
    let block = Block::new();
    let thread = thread::spawn(move || {
        let reader = implicit(domain);
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Start);
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn register_and_scan_with_membarrier() {
    explore("register/scan", || register_and_scan(domain()));
}

#[test]
fn register_and_scan_fenced() {
    explore("register/scan, fenced", || register_and_scan(fenced_domain()));
}

fn unregister_and_scan(domain: &'static Domain) {
    let block = Block::new();
    let cell = leak(ReaderCell::new());
    // SAFETY: the cell is used with this domain only, here and below.
    let reader = unsafe { domain.register(cell, 1) }.unwrap();
    let thread = thread::spawn(move || {
        visit(&reader, block);
        reader.exit();
        // The cell's next owner.
        // SAFETY: as above.
        let reader = unsafe { domain.register(cell, 2) }.unwrap();
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Expedite);
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn unregister_and_scan_with_membarrier() {
    explore_up_to(2, "unregister/scan", || unregister_and_scan(domain()));
}

#[test]
fn unregister_and_scan_fenced() {
    explore_up_to(2, "unregister/scan, fenced", || unregister_and_scan(fenced_domain()));
}

fn offline_and_complete(domain: &'static Domain) {
    let block = Block::new();
    let reader = explicit(domain);
    let thread = thread::spawn(move || {
        visit(&reader, block);
        reader.offline();
        reader.online();
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Start);
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn offline_and_complete_with_membarrier() {
    explore("offline/complete", || offline_and_complete(domain()));
}

#[test]
fn offline_and_complete_fenced() {
    explore("offline/complete, fenced", || offline_and_complete(fenced_domain()));
}

fn section_opened_while_offline(domain: &'static Domain) {
    let block = Block::new();
    let reader = explicit(domain);
    reader.offline();
    let thread = thread::spawn(move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    domain.advance(Demand::Expedite);
    reuse_if_elapsed(domain, block, cookie);
    thread.join().unwrap();
}

#[test]
fn section_opened_while_offline_with_membarrier() {
    explore("offline section/complete", || section_opened_while_offline(domain()));
}

#[test]
fn section_opened_while_offline_fenced() {
    explore("offline section/complete, fenced", || section_opened_while_offline(fenced_domain()));
}

#[test]
fn stamp_and_announce() {
    // The writer only stamps; another thread starts the period, and the reader's announcement ends it.
    explore("stamp/announce", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            reader.quiescent_state();
            visit(&reader, block);
            std::mem::forget(reader);
        });
        let starting = thread::spawn(move || {
            domain.advance(Demand::Start);
        });
        block.unlink();
        let cookie = domain.snapshot();
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
        starting.join().unwrap();
    });
}

#[test]
fn announcement_seen_by_a_third_thread() {
    // The reader announces, another thread ends the period, the writer only polls: the end of the
    // reader's section must reach the writer through both.
    explore("announce/complete/poll", || {
        let (domain, block) = (fenced_domain(), Block::new());
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
            visit(&reader, block);
            reader.quiescent_state();
            std::mem::forget(reader);
        });
        block.unlink();
        let cookie = domain.snapshot();
        let completing = thread::spawn(move || {
            domain.advance(Demand::Start);
        });
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
        completing.join().unwrap();
    });
}

#[test]
fn two_advancers() {
    explore_up_to(2, "two advancers", || {
        let (domain, one, two) = (domain(), Block::new(), Block::new());
        let reader = explicit(domain);
        let write = move |block: &'static Block| {
            block.unlink();
            let cookie = domain.start_poll();
            domain.advance(Demand::Expedite);
            reuse_if_elapsed(domain, block, cookie);
        };
        let other = thread::spawn(move || write(one));
        let reading = thread::spawn(move || {
            let section = reader.read_lock();
            one.visit();
            two.visit();
            drop(section);
            std::mem::forget(reader);
        });
        write(two);
        other.join().unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn the_last_of_two_announcers_ends_the_period() {
    explore("announce/announce", || {
        let domain = domain();
        let (one, two) = (implicit(domain), implicit(domain));
        let cookie = domain.start_poll();
        let thread = thread::spawn(move || {
            one.quiescent_state();
            std::mem::forget(one);
        });
        two.quiescent_state();
        std::mem::forget(two);
        thread.join().unwrap();
        assert!(domain.poll(cookie), "both readers announced, the period is still in flight");
    });
}

#[test]
fn a_period_started_while_the_last_reader_goes_offline_ends() {
    explore("start/offline", || {
        let domain = domain();
        let reader = implicit(domain);
        let thread = thread::spawn(move || {
            reader.offline();
            std::mem::forget(reader);
        });
        let cookie = domain.start_poll();
        thread.join().unwrap();
        assert!(domain.poll(cookie), "no reader is online, the period is still in flight");
    });
}

#[test]
fn a_period_started_while_the_last_reader_exits_ends() {
    explore("start/exit", || {
        let domain = domain();
        let reader = implicit(domain);
        let thread = thread::spawn(move || reader.exit());
        let cookie = domain.start_poll();
        thread.join().unwrap();
        assert!(domain.poll(cookie), "no reader is left, the period is still in flight");
    });
}

#[test]
fn a_period_begun_while_another_is_being_expedited_ends() {
    // The expediter may still be busy with a period that somebody else has ended meanwhile. Whoever
    // begins the next one then finds the expediter's lock taken.
    explore("expedite/expedite", || {
        let domain = domain();
        let cookie = domain.start_poll(); // no reader: ends at once
        assert!(domain.poll(cookie));
        let thread = thread::spawn(move || domain.advance(Demand::Expedite));
        domain.advance(Demand::Start);
        domain.advance(Demand::Expedite);
        thread.join().unwrap();
        let counters = domain.counters();
        assert_eq!(counters.started, counters.completed, "no reader exists, a period is still in flight");
    });
}

#[test]
fn a_need_that_arrives_while_a_period_ends_is_not_lost() {
    explore("start_poll/complete", || {
        let domain = domain();
        let reader = implicit(domain);
        let first = domain.start_poll(); // in flight, waiting for the reader
        let thread = thread::spawn(move || {
            reader.offline();
            std::mem::forget(reader);
        });
        let second = domain.start_poll(); // may need the period after it
        thread.join().unwrap();
        assert!(domain.poll(first));
        assert!(domain.poll(second), "a promised period never started");
    });
}

#[test]
fn two_starters_promise_one_period() {
    explore("start_poll/start_poll", || {
        let domain = domain();
        let thread = thread::spawn(move || domain.start_poll());
        let mine = domain.start_poll();
        let other = thread.join().unwrap();
        assert!(domain.poll(mine) && domain.poll(other));
    });
}

#[test]
fn a_promise_does_not_lean_on_one_half_made() {
    // Two threads ask for the period after the one in flight while the reader ends that one. What the
    // other thread needs may be written down and not acted on yet.
    explore("start_poll/start_poll/complete", || {
        let domain = domain();
        let reader = implicit(domain);
        let first = domain.start_poll(); // in flight: the reader has not announced
        let asker = thread::spawn(move || {
            let announcer = thread::spawn(move || {
                reader.quiescent_state(); // ends the first period, and may begin the second
                reader
            });
            let cookie = domain.start_poll();
            let reader = announcer.join().unwrap();
            reader.quiescent_state();
            // Only the very next period: one later may wait for the other thread to end the one before it.
            if cookie.to_bits() == first.to_bits() + 2 {
                assert!(domain.poll(cookie), "a promise was not kept");
            }
            (reader, cookie)
        });
        let other = domain.start_poll(); // may be stopped anywhere
        let (reader, cookie) = asker.join().unwrap();
        reader.quiescent_state();
        reader.quiescent_state();
        assert!(domain.poll(cookie) && domain.poll(other), "a promise was forgotten");
        std::mem::forget(reader);
    });
}
