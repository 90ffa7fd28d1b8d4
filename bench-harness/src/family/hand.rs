//! A worker at work: the blocks it holds, the numbers it draws, and the calls it makes. It is passed from
//! thread to thread where threads end and hand on.

use std::hint::black_box;

use super::dice::Dice;
use super::program::{Habit, Lifetime, Order, Program};
use super::sizes::Table;
use crate::measure::pages::Pages;
use crate::workload::{Block, Touch, exhausted, touch};

/// See the module.
pub struct Hand<'p> {
    program: &'p Program,
    dice: Dice,
    table: Table,
    slots: Pages<Block>,
    /// Blocks in use of `slots`, for lifetimes that fill it up and empty it.
    len: usize,
    /// Where a queue stands.
    at: usize,
    /// Where a stack or a burst turns.
    target: usize,
    /// What lives on to the end.
    kept: Pages<Block>,
    kept_len: usize,
    /// Calls that gave a block.
    pub operations: u64,
    /// Of all calls so far: kind, size and place. Equal programs have equal sums.
    pub sum: u64,
}

/// Kinds of calls in the sum.
const FREE: u64 = 0;
const MALLOC: u64 = 1;
const CALLOC: u64 = 2;
const ALIGNED: u64 = 3;
const REALLOC: u64 = 4;

/// What an aligned block is aligned to.
const ALIGNMENT: usize = 64;
/// Blocks that live on to the end at most.
const KEPT: usize = 100_000;

impl<'p> Hand<'p> {
    /// For these habits; `purpose` tells the workers of a program apart.
    pub fn new(program: &'p Program, habits: &[Habit], purpose: u64) -> Hand<'p> {
        let mut dice = Dice::new(program.seed, purpose);
        let table = habits[0].sizes.table(&mut dice);
        let slots = habits.iter().map(|habit| habit.slots).max().unwrap_or(1);
        let keeps = |habit: &Habit| (habit.slots * habit.survivors as usize / 1024 * 2).min(KEPT);
        Hand {
            program,
            dice,
            table,
            slots: Pages::new(slots),
            len: 0,
            at: 0,
            target: 0,
            kept: Pages::new(habits.iter().map(keeps).sum()),
            kept_len: 0,
            operations: 0,
            sum: 0,
        }
    }

    /// Takes up a habit; what is left of the one before is freed but for its survivors.
    pub fn change(&mut self, before: &Habit, next: &Habit) {
        for at in 0..self.slots.slice().len() {
            let block = self.swap(at, Block::NONE);
            let room = self.kept_len < self.kept.slice().len();
            if block != Block::NONE && room && self.dice.share(before.survivors) {
                self.kept.set(self.kept_len, block);
                self.kept_len += 1;
            } else {
                self.give(block);
            }
        }
        (self.len, self.at, self.target) = (0, 0, 0);
        self.table = next.sizes.table(&mut self.dice);
    }

    /// Frees all it holds; the habit can go on.
    pub fn clear(&mut self) {
        for at in 0..self.slots.slice().len() {
            let block = self.swap(at, Block::NONE);
            self.give(block);
        }
        (self.len, self.target) = (0, 0);
        for at in 0..self.kept_len {
            let block = self.kept.slice()[at];
            self.give(block);
        }
        self.kept_len = 0;
    }

    /// One allocation and what goes with it.
    #[inline]
    pub fn step(&mut self, habit: &Habit) {
        let slots = habit.slots;
        if self.program.calls.realloc > 0 && self.dice.share(self.program.calls.realloc) && self.resize(habit)
        {
            return;
        }
        match habit.lifetime {
            Lifetime::Random => {
                let at = self.dice.below(slots);
                self.replace(at);
            }
            Lifetime::Queue => {
                self.at = if self.at + 1 < slots { self.at + 1 } else { 0 };
                self.replace(self.at);
            }
            Lifetime::Stack => {
                if self.len >= self.target {
                    let floor = self.dice.below(self.len);
                    self.pop(floor);
                    self.target = floor + 1 + self.dice.below(slots - floor);
                }
                self.push();
            }
            Lifetime::Generations { survive } => {
                let young = slots / 8;
                self.at = if self.at + 1 < young { self.at + 1 } else { 0 };
                let old = self.swap(self.at, Block::NONE);
                if old != Block::NONE && self.dice.share(survive) {
                    let place = young + self.dice.below(slots - young);
                    let displaced = self.swap(place, old);
                    self.give(displaced);
                } else {
                    self.give(old);
                }
                let block = self.take();
                self.swap(self.at, block);
            }
            Lifetime::Bursts { order, short } => {
                if self.len >= self.target {
                    self.release(order);
                    self.target = slots / 2 + self.dice.below(slots / 2) + 1;
                }
                self.push();
                if short > 0 && self.dice.share(short) {
                    let at = self.dice.below(self.len);
                    self.drop_at(at);
                }
            }
        }
        for _ in 0..self.program.visits {
            self.visit(habit);
        }
    }

    /// Slots that may hold a block.
    #[inline(always)]
    pub fn span(&self, habit: &Habit) -> usize {
        match habit.lifetime {
            Lifetime::Stack | Lifetime::Bursts { .. } => self.len,
            _ => habit.slots,
        }
    }

    /// A place that may hold a block, if there is any.
    #[inline(always)]
    pub fn somewhere(&mut self, habit: &Habit) -> Option<usize> {
        let span = self.span(habit);
        (span > 0).then(|| self.dice.below(span))
    }

    /// Puts a block, or none, into a slot and takes out what was there.
    #[inline(always)]
    pub fn swap(&mut self, at: usize, block: Block) -> Block {
        std::mem::replace(&mut self.slots.slice_mut()[at], block)
    }

    /// A block of the next size.
    #[inline(always)]
    pub fn take(&mut self) -> Block {
        let size = self.table.draw(&mut self.dice);
        let calls = self.program.calls;
        self.operations += 1;
        let kind = match self.dice.next() >> 54 {
            drawn if drawn < u64::from(calls.calloc) => CALLOC,
            drawn if drawn < u64::from(calls.calloc + calls.aligned) => ALIGNED,
            _ => MALLOC,
        };
        self.note(kind, size);
        // SAFETY: none of them has a precondition; black_box keeps the pair from being optimised away.
        let block = unsafe {
            match kind {
                CALLOC => libc::calloc(1, size),
                ALIGNED => libc::memalign(ALIGNMENT, size),
                _ => libc::malloc(size),
            }
        };
        let block = black_box(block.cast::<u8>());
        if block.is_null() {
            exhausted(size);
        }
        if kind != CALLOC {
            touch(block, size, self.program.touch);
        }
        Block(block)
    }

    /// free, if it is a block.
    #[inline(always)]
    pub fn give(&mut self, block: Block) {
        self.note(FREE, usize::from(block != Block::NONE));
        if block != Block::NONE {
            // SAFETY: the caller holds the block and gives it up.
            unsafe { libc::free(block.0.cast()) };
        }
    }

    /// Adds to the sum.
    #[inline(always)]
    pub fn note(&mut self, kind: u64, what: usize) {
        let word = (what as u64) << 3 | kind;
        self.sum = (self.sum.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline(always)]
    fn replace(&mut self, at: usize) {
        let old = self.swap(at, Block::NONE);
        self.give(old);
        let block = self.take();
        self.swap(at, block);
    }

    #[inline(always)]
    fn push(&mut self) {
        let block = self.take();
        self.swap(self.len, block);
        self.len += 1;
    }

    fn pop(&mut self, to: usize) {
        while self.len > to {
            self.len -= 1;
            let block = self.swap(self.len, Block::NONE);
            self.give(block);
        }
    }

    #[inline(always)]
    fn drop_at(&mut self, at: usize) {
        self.len -= 1;
        let last = self.swap(self.len, Block::NONE);
        let block = if at == self.len { last } else { self.swap(at, last) };
        self.give(block);
    }

    fn release(&mut self, order: Order) {
        match order {
            Order::Backward => self.pop(0),
            Order::Forward => {
                for at in 0..self.len {
                    let block = self.swap(at, Block::NONE);
                    self.give(block);
                }
                self.len = 0;
            }
            Order::Shuffled => {
                while self.len > 0 {
                    let at = self.dice.below(self.len);
                    self.drop_at(at);
                }
            }
        }
    }

    /// realloc of some block; false where there is none.
    fn resize(&mut self, habit: &Habit) -> bool {
        let Some(at) = self.somewhere(habit) else { return false };
        let old = self.slots.slice()[at];
        if old == Block::NONE {
            return false;
        }
        let size = self.table.draw(&mut self.dice);
        self.operations += 1;
        self.note(REALLOC, size);
        // SAFETY: the block is in our slot, which gets the one returned.
        let block = black_box(unsafe { libc::realloc(old.0.cast(), size) }.cast::<u8>());
        if block.is_null() {
            exhausted(size);
        }
        touch(block, size, self.program.touch);
        self.swap(at, Block(block));
        true
    }

    /// Reads and writes the first byte of some block.
    #[inline(always)]
    fn visit(&mut self, habit: &Habit) {
        let Some(at) = self.somewhere(habit) else { return };
        let block = self.slots.slice()[at].0;
        if !block.is_null() {
            debug_assert!(self.program.touch != Touch::None);
            // SAFETY: a live block of one byte at least, whose first byte was written.
            unsafe { block.write_volatile(block.read_volatile().wrapping_add(1)) };
        }
    }
}
