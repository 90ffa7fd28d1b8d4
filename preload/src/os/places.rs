//! Where a call came from: return addresses, read from the calling thread's stack.
//!
//! The heap is compiled without frame pointers and a program may be, too. What is certain is where a slow
//! path has its own frame, and that the return address of the call into the heap is the first one above it
//! that does not lead back into the heap. Behind that, frames are followed as far as the program keeps frame
//! pointers: a saved one that points further up the stack, and a return address beside it. Whatever is read
//! may not be there; the kernel is asked first.

use super::arch::{self, ADDRESS_BITS};
use super::{code, peers};
use crate::constants::{
    FRAME_WORDS, FRAMES_APART, FREEING_KNOWN, FREES_KNOWN, GOLDEN, OBJECT_PAGES, OBJECTS_KNOWN, OUR_WORDS,
    RETURNS_KNOWN, STACK_AROUND, STRANGE_PAGES,
};
// What can be read at all can be read to the end of the smallest page.
use crate::constants::LEAST_PAGE as PAGE;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The word at `addr`, if there is one: in an object's code or headers, or on the calling thread's stack,
/// none of which goes away meanwhile.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn peek(addr: usize) -> Option<usize> {
    const WORD: usize = size_of::<usize>();
    let last = addr.wrapping_add(WORD - 1);
    let is_there = |at: usize| peers::is_there(at & !3);
    let is_whole = is_there(addr) && (addr / PAGE == last / PAGE || is_there(last));
    // SAFETY: the kernel has just read of it.
    is_whole.then(|| unsafe { (addr as *const usize).read_unaligned() })
}

/// What a search keeps away from.
struct Around<'a> {
    /// The heap's own code: no place of the program's.
    heap: Range<usize>,
    /// Memory that holds no code, and may go away.
    data: &'a [Range<usize>],
}

/// Where the heap's own code lies, from and to.
static HEAP: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// What [`trace`] wants to be done before.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn prepare() {
    let code = own_code(prepare as *const () as usize);
    HEAP[0].store(code.start, Relaxed);
    HEAP[1].store(code.end, Relaxed);
}

/// Return addresses that were found to be some, by a hash: to ask the kernel takes a while.
static SEEN: [AtomicUsize; RETURNS_KNOWN] = [const { AtomicUsize::new(0) }; RETURNS_KNOWN];

impl Around<'_> {
    fn is_data(&self, addr: usize) -> bool {
        self.data.iter().any(|data| data.contains(&addr))
    }

    /// Whether `addr` is in an object's code, not the heap's, and follows a call instruction. `stack`: a
    /// place on the calling thread's.
    fn is_return(&self, addr: usize, stack: usize) -> bool {
        let is_stack = addr.wrapping_sub(stack).wrapping_add(STACK_AROUND) < 2 * STACK_AROUND;
        if addr < 16 * PAGE
            || addr >> ADDRESS_BITS != 0
            || is_stack
            || self.is_data(addr)
            || self.heap.contains(&addr)
        {
            return false;
        }
        let seen = &SEEN[addr.wrapping_mul(GOLDEN as usize) >> (usize::BITS - RETURNS_KNOWN.ilog2())];
        if seen.load(Relaxed) == addr {
            return true;
        }
        if !code::is_at(addr).unwrap_or_else(|| code_around(addr).is_some()) {
            return false;
        }
        let Some(code) = peek(addr - 8) else { return false };
        let is_return = arch::ends_in_call(code);
        if is_return {
            seen.store(addr, Relaxed);
        }
        is_return
    }
}

/// Objects whose code has been found, as pairs of from and to; 0: none yet. A word that is torn is looked for
/// once more.
static KNOWN: [[AtomicUsize; 2]; OBJECTS_KNOWN] =
    [const { [const { AtomicUsize::new(0) }; 2] }; OBJECTS_KNOWN];
/// Pages that are no object's code, by their numbers.
static NONE: [AtomicUsize; STRANGE_PAGES] = [const { AtomicUsize::new(0) }; STRANGE_PAGES];
/// Whose turn it is to be forgotten.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The code of the object, a program or a library, that `inside` may be a place of.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn code_around(inside: usize) -> Option<Range<usize>> {
    let known = |[from, to]: &[AtomicUsize; 2]| from.load(Relaxed)..to.load(Relaxed);
    if let Some(code) = KNOWN.iter().map(known).find(|code| code.contains(&inside)) {
        return Some(code);
    }
    // To find that out takes a while: the last pages that were none are remembered.
    let page = inside / PAGE;
    let none = &NONE[page % NONE.len()];
    if none.load(Relaxed) == page {
        return None;
    }
    let code = header(inside).and_then(code_of).filter(|code| code.contains(&inside));
    let Some(code) = code else {
        none.store(page, Relaxed);
        return None;
    };
    let place = &KNOWN[NEXT.fetch_add(1, Relaxed) % KNOWN.len()];
    place[0].store(code.start, Relaxed);
    place[1].store(code.end, Relaxed);
    Some(code)
}

/// Where the object begins that holds `inside`.
fn header(inside: usize) -> Option<usize> {
    const MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");
    let first = inside & !(PAGE - 1);
    let mut pages = (0..OBJECT_PAGES).map_while(|page| first.checked_sub(page * PAGE));
    // The kernel compares: what is there may go away any time.
    pages.find(|&at| peers::is(at, MAGIC))
}

/// Where the segments of the object that begins at `base` are described.
fn segments(base: usize) -> Option<usize> {
    Some(base + peek(base + 32)?)
}

/// The code of the object that begins at `base`.
fn code_of(base: usize) -> Option<Range<usize>> {
    const DYNAMIC: usize = libc::ET_DYN as usize;
    let half = |at: usize| peek(at).map(|word| word & 0xffff);
    let (first, size, count) = (segments(base)?, half(base + 54)?, half(base + 56)?);
    let is_code =
        |&at: &usize| peek(at).is_some_and(|word| word as u32 == libc::PT_LOAD && word >> 32 & 1 != 0);
    let at = (0..count).map(|number| first + number * size).find(is_code)?;
    // An object that is always at the same place says where it is.
    let bias = if half(base + 16)? == DYNAMIC { base } else { 0 };
    let start = bias + peek(at + 16)?;
    Some(start..start + peek(at + 40)?)
}

/// Where the code of the shared object lies that `inside` is a place of; nowhere, if it is the program
/// itself, whose own code that is, too.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn own_code(inside: usize) -> Range<usize> {
    // SAFETY: asks for a number.
    let of_program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    let is_program = header(inside).and_then(segments) == Some(of_program);
    if is_program { 0..0 } else { code_around(inside).unwrap_or(0..0) }
}

/// What a call was for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// To get memory.
    Allocates,
    /// To give it back.
    Frees,
}

/// Where the heap's functions begin that give memory back; 0: there are not so many.
static FREES: [AtomicUsize; FREES_KNOWN] = [const { AtomicUsize::new(0) }; FREES_KNOWN];

/// These give memory back. The stack of a slow path may still hold the return address of a call that was
/// there before, and as a rule that was one of these.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn know_frees(frees: &[&[usize]]) {
    for (place, &free) in FREES.iter().zip(frees.iter().copied().flatten()) {
        place.store(free, Relaxed);
    }
}

/// Return addresses, twice, of which is known whether they are of a call that gives memory back, and then one
/// more.
static FREEING: [AtomicUsize; FREEING_KNOWN] = [const { AtomicUsize::new(0) }; FREEING_KNOWN];

/// Whether the call that returns to `addr`, a place in code, goes to one of them.
fn is_freeing(addr: usize) -> bool {
    let known = &FREEING[addr.wrapping_mul(GOLDEN as usize) >> (usize::BITS - FREEING_KNOWN.ilog2())];
    let found = known.load(Relaxed);
    if found >> 1 == addr {
        return found & 1 != 0;
    }
    let callee = callee(addr);
    let is_freeing = callee.is_some_and(|callee| FREES.iter().any(|free| free.load(Relaxed) == callee));
    known.store(addr << 1 | usize::from(is_freeing), Relaxed);
    is_freeing
}

/// The function that the call which returns to `addr` goes to, as far as its code says.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
fn callee(addr: usize) -> Option<usize> {
    arch::callee(addr, peek)
}

/// A stack, read upwards.
struct Stack {
    at: usize,
    /// What is below this can be read.
    end: usize,
}

impl Stack {
    /// The next word.
    fn next(&mut self) -> Option<usize> {
        if self.at >= self.end {
            peek(self.at)?;
            self.end = (self.at & !(PAGE - 1)) + PAGE;
        }
        // SAFETY: an aligned word of a page that can be read: the calling thread's stack, above what runs.
        let word = unsafe { (self.at as *const usize).read_volatile() };
        self.at += 8;
        Some(arch::without_signature(word))
    }
}

/// Writes to `places` who called the slow path that has its frame at `frame` and is the calling thread's, the
/// innermost first; how many are known. `data`: memory that holds no code, and may go away.
#[inline(never)]
#[unsafe(link_section = ".text_rare")]
pub fn trace(call: Call, frame: usize, data: &[Range<usize>], places: &mut [usize]) -> usize {
    if frame == 0 || !frame.is_multiple_of(8) {
        return 0;
    }
    code::refresh();
    let around = Around { heap: HEAP[0].load(Relaxed)..HEAP[1].load(Relaxed), data };
    let mut stack = Stack { at: frame + 8, end: frame };
    let is_return = |&word: &usize| around.is_return(word, frame);
    let is_first = |word: &usize| is_return(word) && (call == Call::Frees || !is_freeing(*word));
    let first = (0..OUR_WORDS).find_map(|_| stack.next().filter(is_first));
    let (Some(first), Some(place)) = (first, places.first_mut()) else { return 0 };
    *place = first;
    let is_frame = |pointer: usize, at: usize| {
        pointer > at && pointer - at < FRAMES_APART && pointer.is_multiple_of(8) && !around.is_data(pointer)
    };
    let mut saved = stack.next();
    let found = (0..FRAME_WORDS).find_map(|_| {
        let (pointer, at) = (saved?, stack.at - 8);
        saved = stack.next();
        saved.filter(|word| is_frame(pointer, at) && is_return(word)).map(|word| (pointer, word))
    });
    let Some((mut pointer, mut word)) = found else { return 1 };
    for (count, place) in places.iter_mut().enumerate().skip(1) {
        *place = word;
        if pointer == 0 {
            return count + 1;
        }
        let mut frame = Stack { at: pointer, end: stack.end.max(pointer & !(PAGE - 1)) };
        let (Some(up), Some(next)) = (frame.next(), frame.next()) else { return count + 1 };
        stack.end = stack.end.max(frame.end);
        if !(up == 0 || is_frame(up, pointer)) || !is_return(&next) {
            return count + 1;
        }
        (pointer, word) = (up, next);
    }
    places.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::arch::asm;

    // Different, so that they have two addresses.
    extern "C" fn gives_back() {
        core::hint::black_box(1);
    }
    extern "C" fn takes() {
        core::hint::black_box(2);
    }

    static POINTER: extern "C" fn() = gives_back;

    /// Return addresses of calls to `gives_back`, directly and by a pointer, and of one to `takes`.
    fn calls() -> [usize; 3] {
        let (direct, indirect, other): (usize, usize, usize);
        // SAFETY: calls functions that do nothing, of C's convention.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!("lea r12, [rip + 2f]", "call {gives_back}", "2:", out("r12") direct,
                gives_back = sym gives_back, clobber_abi("C"));
            asm!("lea r12, [rip + 2f]", "call qword ptr [rip + {pointer}]", "2:", out("r12") indirect,
                pointer = sym POINTER, clobber_abi("C"));
            asm!("lea r12, [rip + 2f]", "call {takes}", "2:", out("r12") other,
                takes = sym takes, clobber_abi("C"));
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!("adr x20, 2f", "bl {gives_back}", "2:", out("x20") direct, gives_back = sym gives_back,
                clobber_abi("C"));
            asm!("adr x20, 2f", "adrp x9, {pointer}", "ldr x9, [x9, :lo12:{pointer}]", "blr x9", "2:",
                out("x20") indirect, pointer = sym POINTER, clobber_abi("C"));
            asm!("adr x20, 2f", "bl {takes}", "2:", out("x20") other, takes = sym takes, clobber_abi("C"));
        }
        [direct, indirect, other]
    }

    #[test]
    fn calls_that_give_back_are_told_from_others() {
        crate::own_process::in_own_process!();
        let (known, other) = (gives_back as *const () as usize, takes as *const () as usize);
        let calls = calls();
        assert_eq!(calls.map(callee), [Some(known), Some(known), Some(other)]);
        know_frees(&[&[known]]);
        assert_eq!(calls.map(is_freeing), [true, true, false]);
        // Asked again, it is remembered.
        assert_eq!(calls.map(is_freeing), [true, true, false]);
    }
}
