//! Every number that was chosen, in one place: its unit, and why it has this value.
//!
//! "(tune)" marks a starting point that measuring may move; the others follow from a layout.

// ---- os ----------------------------------------------------------------------------------

/// Bytes of one line of ours on stderr; longer ones are cut. One `write` must stay atomic
/// on a pipe (PIPE_BUF is 4096) and the line lives on the caller's stack, maybe a signal's.
pub const LINE_BYTES: usize = 256;

/// Bytes of its caller's stack that a slow path needs at most, whatever it comes to: what coroutines with
/// stacks of 4 KiB can spare, less what lies between the caller and the place that asks. The test
/// `small_stack` reads it from the machine code.
pub const STACK_BYTES: usize = 2048 - 64;

/// Turns a waiter spins before it sleeps in the kernel (tune). A zone operation takes about
/// 100 ns; 64 pauses are one to three times that, far below the 5 us of sleep and wake.
pub const LOCK_SPINS: u32 = 64;

/// How long a thread that needs a lock of the heap waits for a fork that holds it, in nanoseconds, before it
/// takes it away: longer than a fork takes that waits for nobody (its time goes with the memory to copy: 10
/// ms are some GiB), and short for a program whose fork waits for the very thread.
pub const FORK_PATIENCE_NS: u64 = 10_000_000;

/// Bytes read at a time from /proc/self/environ when libc has no `environ` yet.
pub const ENV_CHUNK: usize = 512;

/// Bytes of one slot of a thread's table: top, low, high, magic and rest.
pub const SLOT_BYTES: usize = 32;

/// Slots of a thread's table: 64 size classes and the dummy, slot 0.
pub const SLOTS: usize = 65;

/// 64-bit words of a thread's table.
pub const TABLE_WORDS: usize = SLOTS * SLOT_BYTES / 8;

/// The same with the word behind it, where a thread cache names its reader's cell, and the tables of threads
/// without one name none.
pub const TABLE_AND_READER_WORDS: usize = TABLE_WORDS + 1;

// ---- page --------------------------------------------------------------------------------

/// log2 of the page: the only page size supported, checked at start.
pub const PAGE_SHIFT: u32 = 12;

/// Bytes of a page, order 0.
pub const PAGE: usize = 1 << PAGE_SHIFT;

/// Largest order of the zone. Order 10 is a unit.
pub const MAX_ORDER: u32 = 10;

/// Pages of a unit, the stretch inside which the zone coalesces.
pub const UNIT_PAGES: usize = 1 << MAX_ORDER;

/// Bytes of a unit: 4 MiB, as the kernel's largest buddy block.
pub const UNIT: usize = UNIT_PAGES * PAGE;

/// Bytes the window may grow to: more than machines have. It is a number and costs nothing; but where it and
/// its tables lie, each table wants pages of the kernel's page tables of its own, so a larger one is not free
/// either.
pub const WINDOW: usize = 4 << 40;

/// Units of the window.
pub const MAX_UNITS: usize = WINDOW / UNIT;

/// First stretch of ground in bytes: small programs never need a second (tune).
pub const FIRST_STEP: usize = 256 << 10;

/// Largest step in bytes; steps double up to here (tune).
pub const LAST_STEP: usize = UNIT;

/// Most holes in the window. Each may cost one mapping of the 65,530 that a process may have, and 16 bytes.
pub const HOLES: usize = 512;

/// Least step in bytes for a side table. One page of memdescs describes 2 MiB of heap;
/// four pages keep the system calls rare. Mapped is not touched.
pub const SIDE_STEP: usize = 16 << 10;

/// ... nor less than this share (as a shift) of what it has: the calls grow with the logarithm of the heap.
pub const SIDE_SHARE: u32 = 2;

/// Bytes of a huge page: a sparse table that is smaller cannot be given one.
pub const HUGE_PAGE: usize = 2 << 20;

/// Where the window may lie: between where the kernel puts programs (0x55..) and where it
/// puts mappings (0x7f..), and above the range that AddressSanitizer claims (0x60.. to 0x64..).
pub const PLACES_LOW: usize = 0x6800_0000_0000;

/// Units of 4 MiB its place is drawn from: 8 TiB above [`PLACES_LOW`].
pub const PLACES: usize = 1 << 21;

/// Places tried before giving up; each is free unless somebody mapped it.
pub const PLACE_TRIES: usize = 8;

/// Smallest and largest k of the mark maps: blocks of 16 bytes to blocks of 16 KiB.
pub const MARK_SHIFTS: core::ops::RangeInclusive<u32> = 4..=14;

/// Free blocks of this order and up are purged first: 64 KiB a call is worth the call.
pub const PURGE_ORDER: u32 = 4;

/// Most pages that are out of the zone while they are purged, in one call: 4 MiB, some 100 us.
pub const PURGE_PAGES: usize = 1024;

/// Most stretches that a step of purging gives back, or looks through [`PURGE_LOOKS`] for (tune): 64 calls
/// for a page each take 0.1 ms, for 64 KiB each 0.4 ms.
pub const PURGE_CALLS: usize = 64;

/// Most stretches looked at under the zone's lock before it is let go of: some 5 us.
pub const PURGE_LOOKS: usize = 64;

/// Purges that may fail (`mlock`ed memory) before a caller gives up.
pub const PURGE_FAILURES: usize = 4;

/// Dirty free bytes past which freeing itself purges (tune): never below this, ... 32 MiB cost python3 2 %
/// of its peak RSS; 4 MiB gained git 2 % and cost python3 three times the faults.
pub const DIRTY_HIGH: usize = 8 << 20;

/// ... nor below this share (as a shift) of the heap in use: 1/8 (tune). Purging and faulting
/// a page again costs 1.3 us here, so a heap that breathes must not do it with each breath.
pub const DIRTY_SHARE: u32 = 3;

/// Most bytes a second that freeing gives back where a watcher gets to the rest: 2 % of a processor (tune).
pub const GIVE_MOST: usize = 64 << 20;

/// A heap that shrinks and grows again within so many milliseconds breathes.
pub const BREATH_MS: u64 = 2000;

/// Breaths running after which it is believed: one peak and one more is no rhythm yet.
pub const BREATHS: u32 = 2;

/// What a heap that breathes may hold beyond the most that it has given out, and what freeing leaves to a
/// watcher, as a part of the heap, as a shift (tune).
pub const LENIENCE_SHARE: u32 = 3;

/// Ticks of a decay period: what a whole period did not touch is idle.
pub const IDLE_TICKS: usize = 8;

/// One part in so many of what is idle goes in a tick: all but 1 % of it in two periods.
pub const IDLE_SHARE: usize = 4;

/// Default decay period in milliseconds (tune), by `scripts/bench-shrinker decay`. A heap that uses 48 MiB
/// for a moment every second: 0.5 s 66,000 faults and 35 MiB resident in the mean, 1 s 40,000 and 44, 2 s
/// 38,000 and 50. Used every 3 s, 1 s leaves 13 MiB in the mean, without decay and watermark 58.
pub const DECAY_MS: u32 = 1000;

/// Bytes for which it is worth waking somebody up, or looking once more.
pub const WORTH: usize = 1 << 20;

/// Bytes of blocks that were never used before which one refill takes during a quiet period (tune): their
/// pages may not be resident. `rcumalloc-bench pressure flood` in 128 MiB: one page was 1.4 times as slow as
/// no back-off, and with magazines that do not grow again meanwhile 2.0 times; four pages take 0.92 of the
/// time. Pairs of scan and refill: 74 without back-off, 3, 3 and 1 with.
pub const AFTER_SCAN: usize = 4 * PAGE;

/// Default quiet period after a scan in milliseconds (tune), by `scripts/bench-shrinker backoff`: with 0.2 s
/// there were 7 scans where there are 67 without, with 1 s 5, with 2 s 5, with 5 s 2.
pub const QUIET_MS: u32 = 2000;

/// Longest quiet period in milliseconds (tune): each scan before the last one's has ended doubles it.
pub const QUIET_MOST_MS: u32 = 16_000;

/// Pages a cache's first refill fetches; it doubles with each refill (tune). Slow start.
pub const BATCH_MIN: usize = 4;

/// Most pages a refill fetches (tune): 256 KiB, and the lock is held for about 5 us.
pub const BATCH_MAX: usize = 64;

/// Most pages a cache may hold. Its length shares a memdesc word with the link: 8 bits.
pub const CACHE_MAX: usize = 192;

/// Pages of a run of metadata (order 4): descriptors of a small program fit in one run, and
/// what is not used of it is not touched.
pub const META_ORDER: u32 = 4;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Alignment in bytes of metadata objects: a cache line, so neighbours share none.
pub const META_ALIGN: usize = LINE;

// ---- threads -----------------------------------------------------------------------------

/// Bytes a thread carves from slabs before it gives back what it keeps of classes it has left (tune). With 1
/// MiB `git log -p` kept 1.4 % more and `fragmentation` no less; redis 0.8 % less. A look costs some 200 ns
/// and what it finds; the pages of so many bytes, touched for the first time, 200 us and more.
pub const LEAVE_STEP: usize = 2 << 20;

/// Functions that may wait for a grace period before those who queue more wait, too: a head and what it
/// stands for are some 64 bytes, so 4 MiB of them. A grace period that nobody delays takes 10 us, one with
/// idle threads some ms (tune).
pub const CALLS_MOST: u32 = 1 << 16;

/// How long, in nanoseconds, somebody waits who queues past that, and how often a barrier looks again: long
/// for a grace period, and short for a program in which a function waits for the very one who queues.
pub const CALLS_HOLD_NS: u64 = 10_000_000;

/// Nanoseconds after which a worker ends that nobody has given anything to do. To make one takes 50 us.
pub const CALLS_IDLE_NS: u64 = 1_000_000_000;

/// Bytes of stack that the kernel needs at least to call a handler on x86-64: the red zone of 128, the state
/// of the vector registers of 512 and a header, and the context and the signal's description of some 450.
pub const SIGNAL_FRAME: usize = 1024;

// ---- the watcher -------------------------------------------------------------------------

/// Bytes of the watcher's mapping: a guard page, its stack, its thread-local storage. What it calls
/// needs less than 8 KiB; what is not touched costs nothing.
pub const HELPER_BYTES: usize = 64 << 10;

/// Microseconds of the window a stall trigger watches. An unprivileged process may ask for whole
/// multiples of 2 s only.
pub const PSI_WINDOW_US: u64 = 2_000_000;

/// Percent of the time in which some thread waited for memory, from which on there is pressure (tune).
pub const PSI_SOME_PERCENT: u64 = 5;

/// Percent of the time in which all of them did, from which on it is full (tune).
pub const PSI_FULL_PERCENT: u64 = 10;

/// Bytes of heap from which on there is a watcher (tune): a smaller one has nothing to give that
/// would be worth a thread.
pub const WATCH_FROM: usize = 16 << 20;

/// Milliseconds between two looks of the watcher at the kernel's signals. For an unprivileged process
/// the kernel itself brings stall information up to date every 2 s.
pub const SAMPLE_MS: u32 = 1000;

/// Milliseconds from the watcher's end to its next start: a program whose threads come and go does
/// not pay for it each time.
pub const RESTART_MS: u32 = 1000;

/// Nanoseconds the watcher's timers may be late, so that the kernel can wake it with others.
pub const TIMER_SLACK_NS: usize = 50_000_000;

/// Most milliseconds the watcher sleeps. Where threads end without libc, that is how long it may
/// keep a process alive that has no other thread.
pub const LONGEST_NAP_MS: u32 = 30_000;
