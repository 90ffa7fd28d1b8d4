//! Every pair of steps that can race, explored by loom on the engine's own code.
//!
//! Run by `cargo xtask loom`, which says how many executions each model explored. Every safety model has
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
use quiescent::model::{self as thread, Point};
use quiescent::{Cookie, Demand, Domain, Reader, ReaderBlock, ReaderCell, ReaderWord};

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
        if self.is_found() {
            self.read();
        }
    }

    fn is_found(&self) -> bool {
        self.linked.load(Relaxed)
    }

    fn read(&self) {
        // SAFETY: the claim under test.
        let content = self.content.with(|content| unsafe { *content });
        assert_eq!(content, 7, "a block was reused inside a section that had begun before its free");
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
    domain.add_block(block_of(3));
    domain.init(); // under loom: membarrier works, readers leave the cold mode
    domain
}

fn fenced_domain() -> &'static Domain {
    let domain = leak(Domain::new(1));
    domain.add_block(block_of(3));
    domain.init_without_membarrier();
    domain
}

/// A block with room for so many readers, at most 32.
fn block_of(cells: usize) -> &'static ReaderBlock {
    let cells = (0..cells).map(|_| ReaderCell::new()).collect::<Vec<_>>().leak();
    leak(ReaderBlock::new(vec![ReaderWord::new()].leak(), cells))
}

fn implicit(domain: &'static Domain) -> Reader {
    domain.register(1).unwrap()
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
    explore_failing(usize::MAX, most, name, model);
}

/// As `explore_up_to`; membarrier is refused from its call number `working` on, counted from 0.
fn explore_failing(working: usize, most: usize, name: &str, model: impl Fn() + Sync + Send + 'static) {
    static EXECUTIONS: Plain = Plain::new(0);
    EXECUTIONS.store(0, PlainOrdering::Relaxed);
    let started = std::time::Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(usize::MAX).min(most));
    let bound = builder.preemption_bound.unwrap_or(usize::MAX);
    // Two periods and two readers take more steps than loom expects of a model that ends.
    builder.max_branches = builder.max_branches.max(3000);
    builder.check(move || {
        EXECUTIONS.fetch_add(1, PlainOrdering::Relaxed);
        thread::begin(working);
        model();
    });
    println!(
        "loom: {name}: {} executions, up to {bound} preemptions, {:.1} s",
        EXECUTIONS.load(PlainOrdering::Relaxed),
        started.elapsed().as_secs_f64()
    );
}

/// The shape of most models: `read` on a thread of its own against a writer on this one, who unlinks the
/// block, takes a cookie, moves the period along as `demands` say, and reuses the block if it may.
fn race(
    domain: &'static Domain,
    block: &'static Block,
    demands: &[Demand],
    read: impl FnOnce() + Send + 'static,
) {
    let reading = thread::spawn(read);
    block.unlink();
    let cookie = domain.start_poll();
    for &demand in demands {
        domain.advance(demand);
    }
    reuse_if_elapsed(domain, block, cookie);
    reading.join().unwrap();
}

/// Two tests of each model: with membarrier, and fenced.
macro_rules! with_membarrier_and_fenced {
    ($($model:ident up to $most:expr, $label:literal => $fast:ident, $fenced:ident;)*) => {$(
        #[test]
        fn $fast() {
            explore_up_to($most, $label, || $model(domain()));
        }

        #[test]
        fn $fenced() {
            explore_up_to($most, concat!($label, ", fenced"), || $model(fenced_domain()));
        }
    )*};
}

/// As many preemptions as `LOOM_MAX_PREEMPTIONS` says.
const ANY: usize = usize::MAX;

with_membarrier_and_fenced! {
    announce_and_advance up to ANY, "announce/advance"
        => announce_and_advance_with_membarrier, announce_and_advance_fenced;
    expedite_and_read_lock up to 2, "expedite/read_lock"
        => expedite_and_read_lock_with_membarrier, expedite_and_read_lock_fenced;
    one_section_beside_one_pass up to 2, "expedite/one section"
        => one_section_beside_one_pass_with_membarrier, one_section_beside_one_pass_fenced;
    one_section_beside_two_passes up to 2, "expedite twice/one section"
        => one_section_beside_two_passes_with_membarrier, one_section_beside_two_passes_fenced;
    one_section_beside_a_second_period up to 2, "expedite, expedite/one section"
        => one_section_beside_a_second_period_with_membarrier, one_section_beside_a_second_period_fenced;
    stamp_and_expedite up to 2, "stamp/expedite/one section"
        => stamp_and_expedite_with_membarrier, stamp_and_expedite_fenced;
    park_and_first_read_lock up to ANY, "park/read_lock"
        => park_and_first_read_lock_with_membarrier, park_and_first_read_lock_fenced;
    a_sleeper_beside_a_section up to ANY, "park/section beside it"
        => an_explicit_neighbour_is_not_parked_with_membarrier, an_explicit_neighbour_is_not_parked_fenced;
    park_and_announce up to ANY, "park/announce"
        => park_and_announce_with_membarrier, park_and_announce_fenced;
    register_and_scan up to ANY, "register/scan"
        => register_and_scan_with_membarrier, register_and_scan_fenced;
    unregister_and_scan up to 2, "unregister/scan"
        => unregister_and_scan_with_membarrier, unregister_and_scan_fenced;
    offline_and_complete up to ANY, "offline/complete"
        => offline_and_complete_with_membarrier, offline_and_complete_fenced;
    section_opened_while_offline up to ANY, "offline section/complete"
        => section_opened_while_offline_with_membarrier, section_opened_while_offline_fenced;
    a_rested_reader_locks up to 2, "offer/read_lock"
        => a_rested_reader_locks_with_membarrier, a_rested_reader_locks_fenced;
    a_rested_reader_comes_and_goes up to 2, "offer/offline and online"
        => a_rested_reader_comes_and_goes_with_membarrier, a_rested_reader_comes_and_goes_fenced;
    a_handler_of_a_rested_reader up to 2, "offer/handler in read_lock"
        => a_handler_of_a_rested_reader_with_membarrier, a_handler_of_a_rested_reader_fenced;
    a_handler_of_a_parked_reader up to 2, "parked/handler in read_lock"
        => a_handler_of_a_parked_reader_with_membarrier, a_handler_of_a_parked_reader_fenced;
}

fn announce_and_advance(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Start], move || {
        visit(&reader, block);
        reader.quiescent_state();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn expedite_and_read_lock(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    // The second pass works from the first one's snapshot.
    race(domain, block, &[Demand::Expedite, Demand::Expedite], move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn one_section_beside_one_pass(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn one_section_beside_two_passes(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Expedite; 2], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// The barrier of an earlier period proves nothing. (The reader has not rested since: no leave is offered,
/// and the barrier behind that does not stand in.)
fn one_section_beside_a_second_period(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    assert!(domain.advance(Demand::Expedite));
    drop(reader.read_lock());
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// The writer only stamps; the period is another's, whose own fence is the one between its begin and the look
/// at a section that was opened before the stamp.
fn stamp_and_expedite(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    let expediting = thread::spawn(move || domain.advance(Demand::Expedite));
    let writing = thread::spawn(move || {
        block.unlink();
        let cookie = domain.snapshot();
        expediting.join().unwrap();
        reuse_if_elapsed(domain, block, cookie);
    });
    visit(&reader, block);
    std::mem::forget(reader);
    writing.join().unwrap();
}

fn park_and_first_read_lock(domain: &'static Domain) {
    let (block, reader) = (Block::new(), implicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// Two readers of one word, the one asleep and implicit, which is parked, the other explicit, which is not.
fn a_sleeper_beside_a_section(domain: &'static Domain) {
    let (block, asleep, reader) = (Block::new(), implicit(domain), explicit(domain));
    race(domain, block, &[Demand::Park], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
    std::mem::forget(asleep);
}

fn park_and_announce(domain: &'static Domain) {
    let (block, reader) = (Block::new(), implicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        reader.quiescent_state();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn register_and_scan(domain: &'static Domain) {
    let block = Block::new();
    race(domain, block, &[Demand::Start], move || {
        let reader = implicit(domain);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn unregister_and_scan(domain: &'static Domain) {
    let (block, reader) = (Block::new(), implicit(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        reader.exit();
        // The cell's next owner.
        let reader = implicit(domain);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn offline_and_complete(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    race(domain, block, &[Demand::Start], move || {
        visit(&reader, block);
        reader.offline();
        reader.online();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn section_opened_while_offline(domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    reader.offline();
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// An explicit reader that an expedite has found idle: the next one offers it leave.
fn rested(domain: &'static Domain) -> Reader {
    let reader = explicit(domain);
    assert!(domain.advance(Demand::Expedite));
    reader
}

fn a_rested_reader_locks(domain: &'static Domain) {
    let (block, reader) = (Block::new(), rested(domain));
    race(domain, block, &[Demand::Expedite], move || {
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// It leaves and comes back while the expediter is at it.
fn a_rested_reader_comes_and_goes(domain: &'static Domain) {
    let (block, reader) = (Block::new(), rested(domain));
    race(domain, block, &[Demand::Expedite], move || {
        reader.offline();
        reader.online();
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

fn a_handler_of_a_rested_reader(domain: &'static Domain) {
    let (block, reader) = (Block::new(), rested(domain));
    let cell = reader.cell();
    race(domain, block, &[Demand::Expedite], move || {
        thread::interrupt(Point::Locking, move || {
            // SAFETY: a handler of the thread that owns the cell.
            let handlers = unsafe { Reader::borrow_cell(cell) };
            visit(&handlers, block);
        });
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

/// What it interrupted has opened a section and not looked yet whether anybody waits for it.
fn a_handler_of_a_parked_reader(domain: &'static Domain) {
    let (block, reader) = (Block::new(), rested(domain));
    assert!(domain.advance(Demand::Expedite) && reader.is_parked());
    let cell = reader.cell();
    race(domain, block, &[], move || {
        thread::interrupt(Point::Locking, move || {
            // SAFETY: a handler of the thread that owns the cell.
            let handlers = unsafe { Reader::borrow_cell(cell) };
            visit(&handlers, block);
        });
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

#[test]
fn a_rested_reader_is_not_parked_in_its_section() {
    // The lock falls between the look at `nest` and the parking. Its section holds up the period behind.
    explore_up_to(2, "offer/read_lock/next period", || {
        let (domain, block) = (domain(), Block::new());
        let reader = rested(domain);
        let reading = thread::spawn(move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
        domain.advance(Demand::Expedite);
        block.unlink();
        let cookie = domain.start_poll();
        domain.advance(Demand::Start);
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
    });
}

#[test]
fn a_rested_reader_whose_barrier_is_lost() {
    // Leave is offered, and the barrier behind it refused: what the expediter wrote proves nothing to the
    // next one, who goes by its own fence.
    explore_failing(1, 2, "offer/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = rested(domain);
        race(domain, block, &[Demand::Expedite; 2], move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
    });
}

#[test]
fn an_offer_that_was_not_heard_proves_nothing() {
    // As above, in one pass: the increment may go over what the expediter wrote.
    explore_failing(1, 2, "offer/membarrier lost, one pass", || {
        let (domain, block) = (domain(), Block::new());
        let reader = rested(domain);
        race(domain, block, &[Demand::Expedite], move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
    });
}

#[test]
fn expedite_and_membarrier_failing_late() {
    explore_up_to(2, "expedite/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        let reading = thread::spawn(move || {
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
        reading.join().unwrap();
    });
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
fn a_section_that_began_in_the_period_in_flight() {
    // One reader has announced the period and reads; the other ends it.
    explore("section/period in flight ends", || {
        let (domain, block) = (domain(), Block::new());
        let (reader, last) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        reader.quiescent_state();
        let reading = thread::spawn(move || {
            visit(&reader, block);
            std::mem::forget(reader);
        });
        block.unlink();
        let cookie = domain.snapshot();
        last.quiescent_state();
        assert!(domain.poll(first), "both have announced");
        reuse_if_elapsed(domain, block, cookie);
        std::mem::forget(last);
        reading.join().unwrap();
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

#[test]
fn an_announcement_that_was_overtaken_takes_nothing_back() {
    // A handler comes in when the reader has seen one period and not announced it, ends that one, reads, and
    // has the next one announced for the reader.
    explore("late announcement/announced for", || {
        let domain = domain();
        let (late, own) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        own.quiescent_state();
        let cell = late.cell();
        thread::interrupt(Point::Announcing, move || {
            assert!(domain.advance(Demand::Expedite) && domain.poll(first));
            // SAFETY: a handler of the thread that owns the cell.
            drop(unsafe { Reader::borrow_cell(cell) }.read_lock());
            own.lock(); // keeps the period in flight
            std::mem::forget(own);
            let _ = domain.start_poll();
            domain.advance(Demand::Expedite);
            assert!(is_settled(domain, 0));
        });
        late.quiescent_state();
        assert!(is_settled(domain, 0), "an announcement took a younger one back");
        std::mem::forget(late);
    });
}

/// Whether nobody waits for the reader of this number.
fn is_settled(domain: &Domain, id: u32) -> bool {
    domain.stalled(u64::MAX, 0).all(|stall| stall.id != id)
}

#[test]
fn an_announcement_that_comes_late_holds_up_no_younger_period() {
    // While the reader is at it, an expediter ends the period, begins the next, and parks the reader. The
    // expediter's own section keeps that one in flight.
    explore_up_to(2, "late announcement/parked", || {
        let domain = domain();
        let (late, own) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        own.quiescent_state();
        let announcing = thread::spawn(move || {
            late.quiescent_state();
            std::mem::forget(late);
        });
        domain.advance(Demand::Expedite);
        let section = own.read_lock();
        let second = domain.start_poll();
        domain.advance(Demand::Expedite);
        let was_settled = domain.poll(first) && is_settled(domain, 0);
        announcing.join().unwrap();
        assert!(!was_settled || is_settled(domain, 0), "who was settled holds the period up");
        drop(section);
        own.quiescent_state();
        assert!(!was_settled || domain.poll(second), "both are settled, the period is still in flight");
        std::mem::forget(own);
    });
}

// ---- membarrier that fails from some call on, and the change from the fast mode to the cold one ----

/// The expediter is neither the reader, who leaves the cold mode meanwhile, nor the writer.
fn change_over(domain: &'static Domain, passes: usize) {
    let (block, reader) = (Block::new(), implicit(domain));
    let reading = thread::spawn(move || {
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
    block.unlink();
    let cookie = domain.start_poll();
    let expediting = thread::spawn(move || {
        for _ in 0..passes {
            domain.advance(Demand::Expedite);
        }
    });
    reuse_if_elapsed(domain, block, cookie);
    reading.join().unwrap();
    expediting.join().unwrap();
}

#[test]
fn change_over_by_a_third_thread() {
    for working in [0, 1] {
        explore_failing(working, 2, "change-over/third expediter", || change_over(domain(), 2));
    }
    explore_up_to(2, "change-over/third expediter, fenced", || change_over(fenced_domain(), 2));
}

#[test]
fn cold_to_hot_while_membarrier_is_lost() {
    for passes in [1, 2] {
        explore_failing(0, 2, "cold to hot/membarrier lost", move || {
            let (domain, block) = (domain(), Block::new());
            let reader = implicit(domain);
            race(domain, block, &[Demand::Expedite; 2][..passes], move || {
                visit(&reader, block);
                visit(&reader, block);
                std::mem::forget(reader);
            });
        });
    }
}

#[test]
fn behind_the_cold_mode_while_membarrier_is_lost() {
    // As above, and the block is visited in the first section of the fast mode only, by the thread that runs
    // first.
    explore_failing(0, 2, "behind the cold mode/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = implicit(domain);
        let writing = thread::spawn(move || {
            block.unlink();
            let cookie = domain.start_poll();
            for _ in 0..2 {
                domain.advance(Demand::Expedite);
            }
            reuse_if_elapsed(domain, block, cookie);
        });
        drop(reader.read_lock());
        visit(&reader, block);
        std::mem::forget(reader);
        writing.join().unwrap();
    });
}

#[test]
fn what_is_remembered_outlives_membarrier() {
    // The first pass has a barrier and remembers; the second may be another thread's, and has none.
    explore_failing(1, 2, "snapshot/membarrier lost", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        race(domain, block, &[Demand::Expedite; 2], move || {
            visit(&reader, block);
            visit(&reader, block);
            std::mem::forget(reader);
        });
    });
}

#[test]
fn two_expediters_of_one_period() {
    explore_up_to(2, "two expediters", || {
        let (domain, block) = (domain(), Block::new());
        let reader = explicit(domain);
        block.unlink();
        let cookie = domain.start_poll();
        let reading = thread::spawn(move || {
            visit(&reader, block);
            visit(&reader, block);
            std::mem::forget(reader);
        });
        let other = thread::spawn(move || domain.advance(Demand::Expedite));
        domain.advance(Demand::Expedite);
        reuse_if_elapsed(domain, block, cookie);
        other.join().unwrap();
        reading.join().unwrap();
    });
}

// ---- the summary, and scans that go on where another stopped ----

#[test]
fn going_away_and_coming_back_while_another_announces() {
    explore("offline and online/announce", || {
        let domain = domain();
        let (one, two) = (implicit(domain), implicit(domain));
        let cookie = domain.start_poll();
        let thread = thread::spawn(move || {
            one.offline();
            one.online();
            std::mem::forget(one);
        });
        two.quiescent_state();
        std::mem::forget(two);
        thread.join().unwrap();
        assert!(domain.poll(cookie), "one was away, the other announced, the period is still in flight");
    });
}

#[test]
fn coming_back_while_another_announces() {
    explore("online/announce", || {
        let domain = domain();
        let (last, back) = (implicit(domain), implicit(domain));
        let cookie = domain.start_poll();
        back.offline();
        let thread = thread::spawn(move || {
            back.online();
            std::mem::forget(back);
        });
        last.quiescent_state();
        std::mem::forget(last);
        thread.join().unwrap();
        assert!(domain.poll(cookie), "one was away, the other announced, the period is still in flight");
    });
}

#[test]
fn a_scan_goes_on_behind_a_newcomer() {
    // The newcomer takes the lowest cell, which the scan has passed already.
    explore_up_to(2, "register/resumed scan", || {
        let (domain, block) = (domain(), Block::new());
        domain.add_block(block_of(1));
        let (gone, one, two, three) =
            (implicit(domain), implicit(domain), implicit(domain), implicit(domain));
        gone.exit();
        block.unlink();
        let cookie = domain.start_poll(); // stops at `one`
        let reading = thread::spawn(move || {
            let reader = implicit(domain);
            visit(&reader, block);
            std::mem::forget(reader);
        });
        for reader in [one, two, three] {
            reader.quiescent_state();
            std::mem::forget(reader);
        }
        assert!(domain.poll(cookie) || reading_in_the_way(domain));
        reuse_if_elapsed(domain, block, cookie);
        reading.join().unwrap();
    });
}

/// The newcomer may be waited for, if it read the sequence before the period began.
fn reading_in_the_way(domain: &Domain) -> bool {
    domain.stalled(u64::MAX, 0).next().is_some()
}

#[test]
fn a_scan_does_not_go_on_where_one_of_an_older_period_stopped() {
    explore_up_to(2, "old resume point", || {
        let (domain, block) = (domain(), Block::new());
        let (low, high) = (explicit(domain), explicit(domain));
        let first = domain.start_poll();
        low.quiescent_state(); // the scan stops at `high`
        high.quiescent_state();
        assert!(domain.poll(first));
        let reading = thread::spawn(move || {
            visit(&low, block);
            std::mem::forget(low);
        });
        block.unlink();
        let cookie = domain.start_poll();
        high.quiescent_state();
        reuse_if_elapsed(domain, block, cookie);
        std::mem::forget(high);
        reading.join().unwrap();
    });
}

#[test]
fn three_announcers_resume_each_other() {
    explore_up_to(2, "announce/announce/announce", || {
        let domain = domain();
        let readers = [implicit(domain), implicit(domain), implicit(domain)];
        let cookie = domain.start_poll();
        let [one, two, three] = readers;
        let threads = [two, three].map(|reader| {
            thread::spawn(move || {
                reader.quiescent_state();
                std::mem::forget(reader);
            })
        });
        one.quiescent_state();
        std::mem::forget(one);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(domain.poll(cookie), "all announced, the period is still in flight");
    });
}

#[test]
fn a_younger_demand_is_taken_over() {
    explore_up_to(2, "expedite/younger expedite", || {
        let domain = domain();
        let reader = explicit(domain);
        let thread = thread::spawn(move || domain.advance(Demand::Expedite));
        domain.advance(Demand::Expedite);
        thread.join().unwrap();
        let counters = domain.counters();
        assert_eq!(counters.started, counters.completed, "a period was left to nobody");
        std::mem::forget(reader);
    });
}

// ---- a handler between the steps of the fast path, against two passes ----

fn handler_at(point: Point, domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    let cell = reader.cell();
    race(domain, block, &[Demand::Expedite; 2], move || {
        thread::interrupt(point, move || {
            // SAFETY: a handler of the thread that owns the cell.
            let handlers = unsafe { Reader::borrow_cell(cell) };
            visit(&handlers, block);
        });
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

#[test]
fn a_handler_between_two_steps() {
    for point in [Point::Locking, Point::Unlocking] {
        explore_up_to(2, "handler/turn/snapshot", move || handler_at(point, domain()));
    }
}

#[test]
fn a_handler_between_two_steps_fenced() {
    for point in [Point::Locking, Point::Unlocking, Point::Counting] {
        explore_up_to(2, "handler/turn/snapshot, fenced", move || handler_at(point, fenced_domain()));
    }
}

/// The reader finds the block, takes the steps of an inner section, at which it may execute a barrier, and
/// reads it then: what it reads behind a barrier is ordered by the end of its section alone. It runs first,
/// and both give way where the other is to go on: that takes no preemption.
fn a_barrier_within_a_section(passes: usize, sections_before: usize) {
    let (domain, block) = (domain(), Block::new());
    let reader = explicit(domain);
    (0..sections_before).for_each(|_| drop(reader.read_lock()));
    let writing = thread::spawn(move || {
        block.unlink();
        let cookie = domain.start_poll();
        for _ in 0..passes {
            domain.advance(Demand::Expedite);
            loom::thread::yield_now();
        }
        reuse_if_elapsed(domain, block, cookie);
    });
    let section = reader.read_lock();
    let is_found = block.is_found();
    loom::thread::yield_now();
    drop(reader.read_lock());
    loom::thread::yield_now();
    if is_found {
        block.read();
    }
    drop(section);
    loom::thread::yield_now(); // before the fence of who waits
    std::mem::forget(reader);
    writing.join().unwrap();
}

#[test]
fn an_inner_section_does_not_count() {
    explore_up_to(2, "inner section/snapshot", || a_barrier_within_a_section(2, 0));
}

#[test]
fn a_section_with_a_barrier_in_it_ends_before_reuse() {
    // Its end announces nothing: that is what the section before is for.
    explore_up_to(2, "inner section/one pass", || a_barrier_within_a_section(1, 1));
}
