//! A read-side section with nothing in it: lock and unlock, in a loop of millions.
//!
//! Every loop holds a compiler barrier between the two, in C and in Rust, and nothing else. The loop
//! itself is not subtracted; it has a row of its own.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicPtr, Ordering::SeqCst, compiler_fence};
use std::ptr;
use std::time::Duration;

use rcu::{Reader, ReaderCell};

use super::peers::{self, Registered};
use super::subject::{Limit, Measure, Plan, Sample, Subject, time_loop};
use super::{fenced_note, new_domain, new_fenced_domain, new_reader};

/// ns.
pub const PAIR_LIMIT_NS: f64 = 1.5;

thread_local! {
    /// How an embedder finds the cell: one word of thread-local storage.
    static CELL: Cell<*const ReaderCell> = const { Cell::new(ptr::null()) };
}

/// A loop that can be told how often to run.
pub type Loop = Box<dyn Fn(u64)>;

/// The loops whose pairs are compared, ours first, and the reason where there is none.
pub struct PairLoop {
    /// Who.
    pub name: String,
    /// How it was set up.
    pub setting: String,
    /// Whether there is a limit for it.
    pub limited: bool,
    /// The loop, or why there is none.
    pub run: Result<Loop, String>,
}

impl PairLoop {
    fn new(name: &str, setting: &str, run: impl Fn(u64) + 'static) -> PairLoop {
        PairLoop { name: name.into(), setting: setting.into(), limited: false, run: Ok(Box::new(run)) }
    }

    fn limited(mut self) -> PairLoop {
        self.limited = true;
        self
    }
}

/// Sets everything up on the calling thread, which alone may run the loops and only while it is
/// registered.
pub fn loops(_: &Registered) -> Vec<PairLoop> {
    let domain = new_domain();
    let note = fenced_note(domain);
    let reader = new_reader(domain);
    section(&reader); // an explicit reader from now on, in the fast mode
    let through_tls = new_reader(domain);
    section(&through_tls);
    CELL.set(through_tls.cell());
    let nesting = new_reader(domain);
    let fenced = new_reader(new_fenced_domain());
    section(&fenced);
    let mut all = vec![
        PairLoop::new("rcu", &format!("cell's address at hand{note}"), move |n| pairs(&reader, n)).limited(),
        PairLoop::new(
            "rcu",
            &format!("cell's address from a thread-local, for each of the two{note}"),
            move |n| {
                let _keep = &through_tls;
                pairs_through_tls(n);
            },
        )
        .limited(),
        PairLoop::new("rcu", &format!("inside another section{note}"), move |n| {
            nesting.lock();
            pairs(&nesting, n);
            // SAFETY: opened above, by hand.
            unsafe { nesting.unlock() };
        }),
        PairLoop::new("rcu fenced", "without membarrier", move |n| pairs(&fenced, n)),
    ];
    for peer in peers::all() {
        match peer.found {
            Ok((version, flavor)) => {
                // SAFETY: no pointers; the thread is registered, as the caller promised.
                let pairs = move |n| unsafe { (flavor.pairs)(n) };
                all.push(PairLoop::new(&peer.name, version, pairs));
                // SAFETY: as above.
                let nested = move |n| unsafe { (flavor.nested_pairs)(n) };
                all.push(PairLoop::new(&peer.name, "inside another section", nested));
            }
            Err(reason) => all.push(PairLoop {
                name: peer.name,
                setting: String::new(),
                limited: false,
                run: Err(reason),
            }),
        }
    }
    let handle = crossbeam_epoch::Collector::new().register();
    all.push(PairLoop::new("crossbeam-epoch", "pin and unpin of a LocalHandle", move |n| {
        for _ in 0..n {
            let guard = handle.pin();
            compiler_fence(SeqCst);
            drop(guard);
        }
    }));
    all.push(PairLoop::new("crossbeam-epoch", "epoch::pin(), default collector", |n| {
        for _ in 0..n {
            let guard = crossbeam_epoch::pin();
            compiler_fence(SeqCst);
            drop(guard);
        }
    }));
    let collector = seize::Collector::new();
    all.push(PairLoop::new("seize", "guard of a collector of one's own", move |n| {
        for _ in 0..n {
            let guard = collector.enter();
            compiler_fence(SeqCst);
            drop(guard);
        }
    }));
    let hazard = haphazard::HazardPointer::new();
    let place = RefCell::new((AtomicPtr::new(Box::leak(Box::new(7_u64))), hazard));
    all.push(PairLoop::new("haphazard", "one pointer read, protected and let go", move |n| {
        let (pointer, hazard) = &mut *place.borrow_mut();
        for _ in 0..n {
            hazard.protect_ptr(pointer);
            compiler_fence(SeqCst);
            hazard.reset_protection();
        }
    }));
    all.push(PairLoop::new("empty loop", "one compiler barrier", empty));
    all
}

fn section(reader: &Reader) {
    drop(reader.read_lock());
}

#[inline(never)]
fn pairs(reader: &Reader, count: u64) {
    for _ in 0..count {
        reader.lock();
        compiler_fence(SeqCst);
        // SAFETY: opened above, by hand.
        unsafe { reader.unlock() };
    }
}

#[inline(never)]
fn pairs_through_tls(count: u64) {
    for _ in 0..count {
        // SAFETY: the calling thread set `CELL` to a registered cell of its own; see `loops`.
        unsafe { (*CELL.get()).lock_raw() };
        compiler_fence(SeqCst);
        // SAFETY: as above, and a section is open.
        unsafe { (*CELL.get()).unlock_raw() };
    }
}

#[inline(never)]
fn empty(count: u64) {
    for _ in 0..count {
        // An `asm!` block, for LLVM would delete a loop that holds only a `compiler_fence`.
        // SAFETY: no instruction.
        unsafe { core::arch::asm!("", options(nostack)) };
    }
}

/// Time of a pair.
pub fn measure(plan: &Plan) -> Measure {
    let registered = Registered::in_all();
    let loops = loops(&registered);
    let subjects = loops
        .into_iter()
        .map(|pair| {
            let subject = match pair.run {
                Ok(run) => Subject::new(pair.name, pair.setting, move |round: Duration| -> Sample {
                    time_loop(round, &run)
                }),
                Err(reason) => Subject::absent(pair.name, reason),
            };
            if pair.limited { subject.limited() } else { subject }
        })
        .collect();
    let mut measure =
        plan.measure("read_lock + read_unlock, one pair", "ns", Limit::Fixed(PAIR_LIMIT_NS), subjects);
    measure.notes.push(
        "Loop included. qsbr's pair is no instruction at all: its price is that every reader must announce. \
         Ours includes one announcement in 1024 pairs."
            .into(),
    );
    measure
}
