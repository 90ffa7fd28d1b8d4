//! Every pair of steps that can race, explored by loom on the engine's own code.
//!
//! Run by `cargo xtask loom`, which says how many executions each model explored. Every safety model has
//! the same shape: a *block* that readers may find through a *link*. A writer unlinks it, takes a
//! cookie, and writes to the block once the cookie has elapsed. Readers load the link inside a section
//! and, if they find the block, read it. The block is a loom `UnsafeCell`: a read and a write that are
//! not ordered by happens-before fail the model, whatever their values. The link is accessed with
//! relaxed operations, so all the order there is comes from the engine.
//!
//! A file for each topic; what all share is here.
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

mod completion;
mod handlers;
mod membarrier;
mod parking;
mod scans;
mod sections;
