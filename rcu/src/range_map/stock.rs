//! The stock: where nodes come from and where they wait.
//!
//! ```text
//!   the caller's source ---> free ---> in the tree ---> open ---> waiting (two batches at most) ---> free
//!                                       replaced, marked dead  closed behind a cookie      elapsed
//! ```
//!
//! A writer asks for its worst case before it begins ([`Stock::provide`]) and takes nodes without asking
//! ([`Stock::take`]), so it cannot fail in the middle. What came from the source never goes back: nodes are
//! type-stable. Everything here is under the map's lock.

use crate::batch::{Batch, Stamped};
use crate::cookie::{ACTIVE_COOKIES, Cookie};
use crate::demand::Demand;
use crate::domain::Domain;
use crate::range_map::NodeSource;
use crate::range_map::node::Node;

/// Replaced nodes from which on a batch is closed: a closing costs a full fence, and asks for a period.
const BATCH: u32 = if cfg!(loom) { 1 } else { 16 };
/// Nodes that wait, from which on their period is ended by force: 32 KiB.
const MANY: u32 = if cfg!(loom) { 1 } else { 128 };

/// Nodes linked through their states, youngest first. Closed, a batch.
pub(crate) struct Chain {
    head: *mut Node,
    tail: Option<&'static Node>,
    len: u32,
    cookie: Cookie,
}

impl Chain {
    pub(crate) const fn new() -> Chain {
        Chain { head: core::ptr::null_mut(), tail: None, len: 0, cookie: Cookie::from_bits(0) }
    }

    pub(crate) fn push(&mut self, node: &'static Node) {
        node.set_next(self.head);
        self.head = core::ptr::from_ref(node).cast_mut();
        self.tail.get_or_insert(node);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<&'static Node> {
        // SAFETY: null or a node of the chain, and nodes live for ever.
        let node = unsafe { self.head.as_ref() }?;
        self.head = node.next();
        if self.head.is_null() {
            self.tail = None;
        }
        self.len -= 1;
        Some(node)
    }

    /// Marks every node dead, for they have been replaced.
    pub(crate) fn die(&self) {
        let mut next = self.head;
        // SAFETY: as in `pop`.
        while let Some(node) = unsafe { next.as_ref() } {
            node.die();
            next = node.next();
        }
    }

    /// Puts the nodes of `other` in front.
    fn append(&mut self, other: Chain) {
        let Some(last) = other.tail else { return };
        last.set_next(self.head);
        self.tail.get_or_insert(last);
        self.head = other.head;
        self.len += other.len;
    }
}

impl Batch for Chain {
    fn entries(&self) -> u32 {
        self.len
    }

    fn cookie(&self) -> Cookie {
        self.cookie
    }

    fn set_cookie(&mut self, cookie: Cookie) {
        self.cookie = cookie;
    }
}

pub(crate) struct Stock<N> {
    source: N,
    free: Chain,
    /// Dead, and behind no cookie yet.
    open: Chain,
    waiting: [Option<Stamped<Chain>>; ACTIVE_COOKIES],
}

// SAFETY: the chains' nodes are the stock's alone, or shared with readers who read them as they are.
unsafe impl<N: Send> Send for Stock<N> {}

impl<N: NodeSource> Stock<N> {
    pub(crate) const fn new(source: N) -> Self {
        Stock { source, free: Chain::new(), open: Chain::new(), waiting: [const { None }; ACTIVE_COOKIES] }
    }

    /// Has at least `nodes` free ones. False if the source has no more.
    pub(crate) fn provide(&mut self, nodes: usize, domain: &Domain) -> bool {
        if self.free.len as usize >= nodes {
            return true;
        }
        self.close(domain);
        self.settle(domain);
        while (self.free.len as usize) < nodes {
            let Some(node) = self.source.node() else { return false };
            self.free.push(node);
        }
        true
    }

    /// A free node, of those that were provided.
    pub(crate) fn take(&mut self) -> &'static Node {
        let node = self.free.pop().expect("a writer provides its worst case");
        node.revive();
        node
    }

    /// Puts nodes by that readers may still be in.
    pub(crate) fn retire(&mut self, chain: Chain, domain: &Domain) {
        self.open.append(chain);
        if self.open.len >= BATCH {
            self.close(domain);
        }
    }

    /// Puts nodes by that nobody can be in.
    pub(crate) fn free(&mut self, chain: Chain) {
        self.free.append(chain);
    }

    // By itself, as what puts a change together is: the stack of either is not there in the other.
    /// Closes the open batch, if one of the two places is free, and hurries if many nodes wait.
    #[inline(never)]
    fn close(&mut self, domain: &Domain) {
        self.settle(domain);
        if self.open.len > 0
            && let Some(place) = self.waiting.iter_mut().find(|place| place.is_none())
        {
            let batch = core::mem::replace(&mut self.open, Chain::new());
            *place = Some(Stamped::close_and_start(batch, domain));
        }
        let waiting: usize = self.waiting.iter().flatten().map(Stamped::len).sum();
        if !N::EXPEDITES {
            domain.end_if_settled();
        } else if waiting + self.open.len as usize >= MANY as usize {
            domain.advance(Demand::Expedite);
        }
    }

    /// Forgets every node that is not in the tree: whoever was changing the chains will not finish.
    pub(crate) fn abandon(&mut self) {
        (self.free, self.open) = (Chain::new(), Chain::new());
        self.waiting = [const { None }; ACTIVE_COOKIES];
    }

    /// Takes back what has waited long enough.
    fn settle(&mut self, domain: &Domain) {
        for place in &mut self.waiting {
            match place.take().map(|batch| batch.open_if_passed(domain)) {
                Some(Ok(chain)) => self.free.append(chain),
                Some(Err(batch)) => *place = Some(batch),
                None => {}
            }
        }
    }
}
