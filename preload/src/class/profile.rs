//! A profile of the heap: a sample of the blocks, and where each was asked for (`RCUMALLOC_PROFILE`).
//!
//! Bytes are sampled, not blocks: each byte that is allocated begins a sample with the same chance, so that
//! from one sample to the next there are `rate` bytes on average, exponentially distributed, and a block of s
//! bytes is one with the chance 1 - e^(-s/rate). It stands for the inverse of that many blocks, which keeps
//! sums over many samples true, whatever the sizes. A block in a magazine counts with the bytes of its class,
//! a large one with those that it was asked with.
//!
//! Two tables, mapped when a profile begins: the *stacks* that blocks were asked for from, with what was
//! allocated there in all, one behind the other and found by an index; and the *blocks* that are live, or
//! freed and waiting for a grace period, by the numbers of their pages, so that what is near each other is so
//! here, too. Index and blocks are open hash tables in which an entry has few places, all of which are looked
//! at, so that entries go without a trace. Where there is no place left a sample is lost, and counted. All
//! words are atomic, no lock is taken, and nobody waits: any thread, signal handlers and the child of a fork
//! among them. An entry is in somebody's hands while its key says so; what was in hand when a process forked
//! is not used in the child.

use crate::class::backlog::DOMAIN;
use crate::class::dice::Dice;
use crate::class::sampled;
use crate::constants::{GOLDEN, PAGE, PROFILE_BLOCKS, PROFILE_DEPTH, PROFILE_PLACES, PROFILE_STACKS};
use crate::os::places::{self, Call};
use crate::os::{arch, clock, map};
use crate::page::bounds;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};
use rcu::Cookie;

/// What the addresses in the notes are relative to: readers want a section of this name.
#[used]
#[unsafe(link_section = ".stapsdt.base")]
static PROBES: u8 = 0;

/// Keys of nobody's entry, and of one that somebody fills or empties.
const NOBODY: usize = 0; // (given) as an encoding
const IN_HAND: usize = 2; // (given) as an encoding
/// Added to the address of a block that was freed and waits.
const FREED: usize = 1; // (given) as an encoding
/// A number of blocks has so many bits behind the point.
const FRACTION: u32 = 16; // (given) as an encoding

/// Where blocks were asked for. Zero bytes are nobody's.
#[repr(C)]
struct Stack {
    /// The hash of its places.
    key: AtomicUsize,
    /// Samples.
    sampled: AtomicU64,
    /// The blocks that those stand for, ...
    blocks: AtomicU64,
    /// ... and the bytes that were asked for with them.
    bytes: AtomicU64,
    places: [AtomicUsize; PROFILE_DEPTH],
}

/// A sampled block. Zero bytes are none.
#[repr(C)]
struct Block {
    /// Its address, and whether it waits.
    key: AtomicUsize,
    /// The bytes that were asked for, ...
    size: AtomicUsize,
    /// ... and those that it was sampled by.
    held: AtomicUsize,
    /// What it waits for.
    cookie: AtomicU64,
    stack: AtomicU32,
    /// When it was allocated or, if it waits, freed.
    ms: AtomicU32,
}

/// What is known of a sampled block.
pub struct Sample {
    /// Number of its stack.
    pub stack: usize,
    /// Where it starts.
    pub addr: usize,
    /// The bytes that were asked for.
    pub size: usize,
    /// The bytes that it was sampled by.
    pub held: usize,
    /// It was freed, and a reader may still be at it.
    pub is_deferred: bool,
    /// Since it was allocated or freed, milliseconds.
    pub age_ms: u32,
}

/// What was allocated from one stack.
pub struct Site {
    /// Its number.
    pub stack: usize,
    /// Samples.
    pub sampled: u64,
    /// Blocks that they stand for.
    pub blocks: u64,
    /// Bytes that were asked for with these.
    pub bytes: u64,
}

const STACKS_BYTES: usize = PROFILE_STACKS * size_of::<Stack>();
const BLOCKS_BYTES: usize = PROFILE_BLOCKS * size_of::<Block>();
/// Places of the index: twice as many as it is for.
const INDEX: usize = 2 * PROFILE_STACKS; // (given) as a layout
const TABLES_BYTES: usize = STACKS_BYTES + BLOCKS_BYTES + INDEX * size_of::<AtomicU32>();

/// Bytes from one sample to the next, on average.
#[unsafe(link_section = ".data")]
static RATE: AtomicUsize = AtomicUsize::new(0);
/// The tables: stacks, blocks, index.
static TABLES: AtomicUsize = AtomicUsize::new(0);
/// Stacks that there are.
static STACKS: AtomicUsize = AtomicUsize::new(0);
static DICE: Dice = Dice::new();
/// When it began.
static BEGAN_MS: AtomicU32 = AtomicU32::new(0);
/// Samples without a place for the block, and without one for the stack.
static LOST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Begins a profile, and forgets an earlier one. False: one is under way, or there is no memory.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn begin(rate: usize) -> bool {
    if rate == 0 || sampled::is(sampled::PROFILE) {
        return false;
    }
    if TABLES.load(Acquire) == 0 {
        let Some(tables) = map::map(TABLES_BYTES) else { return false };
        places::prepare();
        // Release: who sees the tables may use them. Of two that come at once, one keeps its own.
        if TABLES.compare_exchange(0, tables, Release, Relaxed).is_err() {
            // SAFETY: nobody knows of them.
            unsafe { map::unmap(tables, TABLES_BYTES) };
        }
    }
    // Fresh tables are empty, and not touched for that.
    if sampled::is(sampled::PROFILED) {
        forget();
    }
    RATE.store(rate, Relaxed);
    BEGAN_MS.store(clock::now_coarse_ms(), Relaxed);
    sampled::begin(sampled::PROFILED);
    sampled::begin(sampled::PROFILE)
}

/// Ends it: no further block is sampled; those that are, are known on. False: none is under way.
pub fn end() -> bool {
    sampled::end(sampled::PROFILE)
}

/// Empties the tables. Who has an entry in hand at this moment leaves it to the new profile.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn forget() {
    for block in blocks().iter().filter(|block| block.key.load(Relaxed) != NOBODY) {
        block.key.store(NOBODY, Relaxed);
    }
    for place in index().iter().filter(|place| place.load(Relaxed) != 0) {
        place.store(0, Relaxed);
    }
    STACKS.store(0, Relaxed);
    for stack in stacks() {
        if stack.key.load(Relaxed) == NOBODY {
            break;
        }
        stack.sampled.store(0, Relaxed);
        stack.blocks.store(0, Relaxed);
        stack.bytes.store(0, Relaxed);
        stack.key.store(NOBODY, Release);
    }
    LOST.iter().for_each(|lost| lost.store(0, Relaxed));
}

/// Bytes from one sample to the next, on average; 0: there was no profile.
pub fn rate() -> usize {
    RATE.load(Relaxed)
}

/// How long it is since the profile began, milliseconds.
pub fn age_ms() -> u32 {
    clock::now_coarse_ms().wrapping_sub(BEGAN_MS.load(Relaxed))
}

/// Samples that found no place for the block, and none for their stack.
pub fn lost() -> [u64; 2] {
    [LOST[0].load(Relaxed), LOST[1].load(Relaxed)]
}

fn stacks() -> &'static [Stack] {
    let at = TABLES.load(Acquire) as *const Stack;
    if at.is_null() {
        return &[];
    }
    // SAFETY: mapped for so many, zero at first, and never taken away.
    unsafe { core::slice::from_raw_parts(at, PROFILE_STACKS) }
}

fn blocks() -> &'static [Block] {
    let at = TABLES.load(Acquire);
    if at == 0 {
        return &[];
    }
    // SAFETY: as above, behind the stacks.
    unsafe { core::slice::from_raw_parts((at + STACKS_BYTES) as *const Block, PROFILE_BLOCKS) }
}

/// Numbers of stacks, plus one, by their hashes; 0: none.
fn index() -> &'static [AtomicU32] {
    let at = TABLES.load(Acquire);
    if at == 0 {
        return &[];
    }
    // SAFETY: as above, behind the blocks.
    unsafe { core::slice::from_raw_parts((at + STACKS_BYTES + BLOCKS_BYTES) as *const AtomicU32, INDEX) }
}

/// The places of an entry whose first one has this number.
fn places_of<T>(table: &'static [T], first: usize) -> impl Iterator<Item = &'static T> {
    (0..PROFILE_PLACES.min(table.len())).filter_map(move |place| table.get((first + place) % table.len()))
}

// ---- which blocks ----

/// A number that is exponentially distributed around 1.
fn exponential() -> f64 {
    // In (0, 1].
    -logarithm(((DICE.throw() >> 11) + 1) as f64 / (1_u64 << 53) as f64)
}

/// The natural logarithm of a normal positive number, to eight digits.
fn logarithm(of: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1; // (given) by the form of a float
    let bits = of.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut one = f64::from_bits(bits & MANTISSA | 1023 << 52);
    if one > core::f64::consts::SQRT_2 {
        one /= 2.0;
        exponent += 1;
    }
    // ln x = 2 artanh((x - 1) / (x + 1)), whose series is short near 1.
    let t = (one - 1.0) / (one + 1.0);
    let square = t * t;
    let series = 1.0 + square * (1.0 / 3.0 + square * (0.2 + square * (1.0 / 7.0 + square / 9.0)));
    2.0 * t * series + exponent as f64 * core::f64::consts::LN_2
}

/// e to the minus `x`, which is not negative.
fn decline(x: f64) -> f64 {
    const HALVINGS: u32 = 10; // (given) by arithmetic
    if x > 700.0 {
        return 0.0;
    }
    let part = x / f64::from(1 << HALVINGS);
    let small = 1.0 - part * (1.0 - part / 2.0 * (1.0 - part / 3.0 * (1.0 - part / 4.0)));
    (0..HALVINGS).fold(small, |power, _| power * power)
}

/// How many blocks of `bytes` each come before the next that is a sample.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn blocks_before(bytes: usize) -> usize {
    // A float that is too large becomes the largest number.
    (exponential() * rate() as f64 / bytes as f64) as usize
}

/// Throws the dice for one block of `bytes`.
pub fn is_sample(bytes: usize) -> bool {
    blocks_before(bytes.max(1)) == 0
}

/// How many blocks a sample of `bytes` stands for.
fn weight(bytes: usize) -> f64 {
    let chance = 1.0 - decline(bytes as f64 / rate().max(1) as f64);
    if chance > 0.0 { 1.0 / chance } else { 1.0 }
}

// ---- what becomes of them ----

/// The block at `addr`, which was asked for with `size` bytes and sampled by `held`, is a sample. `frame`: of
/// the slow path that asks.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn note(addr: usize, size: usize, held: usize, frame: usize) {
    let stack = stack_of(frame);
    let weight = weight(held);
    probe_alloc(addr, size, (weight * size as f64) as usize);
    if let Some(site) = stacks().get(stack) {
        site.sampled.fetch_add(1, Relaxed);
        site.blocks.fetch_add((weight * f64::from(1 << FRACTION)) as u64, Relaxed);
        site.bytes.fetch_add((weight * size as f64) as u64, Relaxed);
    }
    let Some(block) = places_of(blocks(), addr / PAGE).find(|block| block.take_unused()) else {
        LOST[0].fetch_add(1, Relaxed);
        return;
    };
    block.size.store(size, Relaxed);
    block.held.store(held, Relaxed);
    block.stack.store(stack as u32, Relaxed);
    block.ms.store(clock::now_coarse_ms(), Relaxed);
    block.key.store(addr, Release);
}

impl Block {
    /// Takes it in hand if it is nobody's, or its block has waited long enough.
    fn take_unused(&self) -> bool {
        let key = self.key.load(Acquire);
        let is_unused = key == NOBODY || key & FREED != 0 && !self.waits();
        is_unused && self.take_in_hand(key)
    }

    /// Takes it in hand, if its key is still this one. Who sees what is stored then, sees that it is in hand.
    fn take_in_hand(&self, key: usize) -> bool {
        let is_taken = self.key.compare_exchange(key, IN_HAND, Acquire, Relaxed).is_ok();
        fence(Release);
        is_taken
    }

    /// Whether what its block waits for has not come yet.
    fn waits(&self) -> bool {
        !DOMAIN.poll(Cookie::from_bits(self.cookie.load(Relaxed)))
    }
}

/// The block at `addr` was freed. `defers`: it waits for a grace period.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn freed(addr: usize, defers: bool) {
    let of_addr = |block: &&Block| block.key.load(Relaxed) == addr && block.take_in_hand(addr);
    let Some(block) = places_of(blocks(), addr / PAGE).find(of_addr) else { return };
    probe_free(addr);
    let mut key = NOBODY;
    if defers {
        block.cookie.store(DOMAIN.snapshot().to_bits(), Relaxed);
        block.ms.store(clock::now_coarse_ms(), Relaxed);
        key = addr | FREED;
    }
    block.key.store(key, Release);
}

// ---- probes ----
//
// Each is a `nop`, and a note in a section that is in the file and not in memory, which says where it is,
// what it is called and where its arguments are. A debugger or a profiler in the kernel puts a breakpoint
// there.

/// `otel_memory:alloc(address, size, weight)`: a sample, and the bytes that it stands for.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn probe_alloc(addr: usize, size: usize, bytes: usize) {
    arch::probe!(PROBES, "alloc", addr, size, bytes);
}

/// `otel_memory:free(address)`: of a sample.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn probe_free(addr: usize) {
    arch::probe!(PROBES, "free", addr);
}

/// The number of the stack above `frame`; of the table's length, if there is no place for it.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn stack_of(frame: usize) -> usize {
    let mut found = [0; PROFILE_DEPTH];
    let (tables, window) = (TABLES.load(Relaxed), bounds::base());
    let data = [tables..tables + TABLES_BYTES, window..window + bounds::horizon()];
    let depth = places::trace(Call::Allocates, frame, &data, &mut found);
    let mix = |hash: usize, place: &usize| (hash ^ place).wrapping_mul(GOLDEN as usize).rotate_left(29);
    let hash = found[..depth].iter().fold(depth, mix);
    // No key that means something else.
    let key = hash | 4;
    let mut own = None;
    for place in places_of(index(), hash >> 32) {
        // Acquire: pairs with the Release below, the stack is seen.
        let mut known = place.load(Acquire) as usize;
        if known == 0 {
            let Some(new) = own.or_else(|| add_stack(key, &found)) else { break };
            own = Some(new);
            match place.compare_exchange(0, new as u32 + 1, Release, Acquire) {
                Ok(_) => return new,
                Err(other) => known = other as usize,
            }
        }
        if stacks().get(known - 1).is_some_and(|stack| stack.is(key, &found)) {
            return known - 1;
        }
    }
    LOST[1].fetch_add(1, Relaxed);
    PROFILE_STACKS
}

/// One more stack, which is in no index yet.
fn add_stack(key: usize, found: &[usize]) -> Option<usize> {
    let number =
        STACKS.fetch_update(Relaxed, Relaxed, |number| (number < PROFILE_STACKS).then_some(number + 1));
    let stack = stacks().get(number.ok()?)?;
    for (place, &found) in stack.places.iter().zip(found) {
        place.store(found, Relaxed);
    }
    stack.key.store(key, Release);
    number.ok()
}

impl Stack {
    fn is(&self, key: usize, found: &[usize]) -> bool {
        self.key.load(Relaxed) == key
            && self.places.iter().zip(found).all(|(place, found)| place.load(Relaxed) == *found)
    }
}

// ---- what there is to say of it ----

/// Calls `visit` with each stack and its places, the innermost first.
pub fn for_each_site(mut visit: impl FnMut(Site, &mut dyn Iterator<Item = usize>)) {
    for (number, stack) in stacks().iter().enumerate() {
        let sampled = stack.sampled.load(Relaxed);
        if stack.key.load(Acquire) <= IN_HAND || sampled == 0 {
            continue;
        }
        let site = Site {
            stack: number,
            sampled,
            blocks: (stack.blocks.load(Relaxed) + (1 << (FRACTION - 1))) >> FRACTION,
            bytes: stack.bytes.load(Relaxed),
        };
        visit(
            site,
            &mut stack.places.iter().map(|place| place.load(Relaxed)).take_while(|&place| place != 0),
        );
    }
}

/// Calls `visit` with each sampled block that is live, or waits.
pub fn for_each_sample(mut visit: impl FnMut(Sample)) {
    let now = clock::now_coarse_ms();
    for block in blocks() {
        let key = block.key.load(Acquire);
        if key <= IN_HAND || key & FREED != 0 && !block.waits() {
            continue;
        }
        let sample = Sample {
            stack: block.stack.load(Relaxed) as usize,
            addr: key & !FREED,
            size: block.size.load(Relaxed),
            held: block.held.load(Relaxed),
            is_deferred: key & FREED != 0,
            age_ms: (now.wrapping_sub(block.ms.load(Relaxed)) as i32).max(0) as u32,
        };
        // Somebody else's by now, if it has changed. Behind the loads of the rest; pairs with the fence in
        // `take_in_hand`.
        fence(Acquire);
        if block.key.load(Relaxed) == key {
            visit(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_library() {
        for step in 1..2000 {
            let x = f64::from(step) / 1999.0;
            assert!((logarithm(x) - x.ln()).abs() < 1e-7, "{x}");
            let x = f64::from(step) * 0.01;
            assert!((decline(x) - (-x).exp()).abs() < 1e-9, "{x}");
        }
        assert!(
            (logarithm(f64::from_bits(0x3ca0_0000_0000_0000)) - f64::from(-53) * 2_f64.ln()).abs() < 1e-6
        );
        assert_eq!((decline(0.0), decline(1e9)), (1.0, 0.0));
    }

    /// As many blocks as there should be, of each size; and what they stand for is what there was.
    #[test]
    fn samples_stand_for_what_there_is() {
        crate::own_process::in_own_process!();
        const RATE_OF_IT: usize = 64 << 10;
        RATE.store(RATE_OF_IT, Relaxed);
        for bytes in [16, 1000, 16 << 10, 64 << 10, 300 << 10] {
            let blocks = (2000 * RATE_OF_IT).div_ceil(bytes).max(4000);
            let sampled = (0..blocks).filter(|_| is_sample(bytes)).count() as f64;
            let chance = 1.0 - (-(bytes as f64) / RATE_OF_IT as f64).exp();
            let (wanted, error) = (blocks as f64 * chance, (blocks as f64 * chance * (1.0 - chance)).sqrt());
            assert!((sampled - wanted).abs() < 4.0 * error + 1.0, "{bytes}: {sampled} of {wanted}");
            let stands_for = sampled * weight(bytes);
            assert!((stands_for / blocks as f64 - 1.0).abs() < 0.1, "{bytes}: {stands_for} of {blocks}");
            // By the next, as by each for itself.
            let mut mean = 0.0;
            for _ in 0..4000 {
                mean += blocks_before(bytes) as f64 / 4000.0;
            }
            let wanted = (1.0 - chance) / chance;
            assert!((mean - wanted).abs() < 0.1 * wanted + 0.1, "{bytes}: {mean} and {wanted}");
        }
    }
}
