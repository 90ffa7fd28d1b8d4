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

/// Bytes of the pages in which the figures are published under `RCUMALLOC_WATCH`: three times what they take
/// with slabs of every class, so that every number may have all its digits. What is not written takes no
/// memory.
pub const WATCH_BYTES: usize = 256 * 1024;

/// Groups whose blocks are hashed under `RCUMALLOC_LEDGER` at a time, ...
pub const PRINTS: usize = 32;
/// ... and blocks of one: a group that is sealed has 64 KiB, each block counting for 64 at least, and what
/// the magazine had that was the last.
pub const PRINTED: usize = 2040;

/// Blocks that can be trapped at a time under `RCUMALLOC_TRAP`: each is two pages of address space, one of
/// memory and two mappings of the 65530 that a process may have.
pub const TRAPS: usize = 256;

/// Bytes between two samples of a profile, on average, where nobody says more: at a gigabyte a second that is
/// 2000 samples, which take some 10 us each.
pub const PROFILE_BYTES: usize = 512 << 10;
/// Stacks that a profile tells apart.
pub const PROFILE_STACKS: usize = 4096;
/// Blocks that it knows at a time, live or waiting: 32 GiB at the usual rate.
pub const PROFILE_BLOCKS: usize = 1 << 16;
/// Return addresses that it keeps of a stack.
pub const PROFILE_DEPTH: usize = 32;

/// Milliseconds between two times that the figures are published: to write them takes some tenths of a
/// millisecond, so that all of it together is below a thousandth of one processor; people see no faster.
pub const PUBLISH_MS: u32 = 200;

/// Bytes read at a time from /proc/self/environ when libc has no `environ` yet.
pub const ENV_CHUNK: usize = 512;

/// Bytes of a configuration file, and one more: a page, which holds every option and what there is to say
/// about it.
pub const CONF_BYTES: usize = 4096;

/// Bytes of the longest path of a configuration file, and the zero byte at its end: what a start has on its
/// stack.
pub const CONF_PATH_BYTES: usize = 256;

/// Bytes of one slot of a thread's table: top, low, high, magic and rest.
pub const SLOT_BYTES: usize = 32;

/// Slots of a thread's table: 36 size classes and the dummy, slot 0.
pub const SLOTS: usize = 37;

/// 64-bit words of a thread's table.
pub const TABLE_WORDS: usize = SLOTS * SLOT_BYTES / 8;

/// The same with the word behind it, where a thread cache names its reader's cell, and the tables of threads
/// without one name none.
pub const TABLE_AND_READER_WORDS: usize = TABLE_WORDS + 1;

// ---- page --------------------------------------------------------------------------------

/// log2 of the page in which the heap counts. The kernel's may be smaller, not larger; checked at start.
/// `--cfg rcumalloc_page="16K"` or `"64K"` is for kernels whose pages are of that size.
pub const PAGE_SHIFT: u32 = if cfg!(rcumalloc_page = "64K") {
    16
} else if cfg!(rcumalloc_page = "16K") {
    14
} else {
    12
};

/// Bytes of a page, order 0.
pub const PAGE: usize = 1 << PAGE_SHIFT;

/// Bytes of the smallest page that a kernel has: what can be read at all can be read to the next multiple.
pub const LEAST_PAGE: usize = 4096;

/// Largest order of the zone, which is a unit's: 10 for pages of 4 KiB.
pub const MAX_ORDER: u32 = 22 - PAGE_SHIFT;

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

/// Pages from which on a run has a mapping of its own outside of the window: a huge page's (tune). Of 16
/// blocks of 2 to 6 MiB, touched, freed in any order, six times as many a second as out of the window, of 5
/// to 25 MiB 3.5 times; with 1 MiB, what is partly smaller was 40 % slower, with 4 MiB blocks of 1 to 8 MiB
/// 13 %.
pub const APART_LEAST: usize = HUGE_PAGE / PAGE;

/// Bytes of addresses behind the window in which these lie.
pub const APART_SPAN: usize = 8 << 40;

/// How often the larger of two neighbours finds its own length between them, while there are addresses
/// (tune): so much may it grow where it is, ...
pub const APART_GROWTH: usize = 64;

/// ... but at most so many bytes (tune).
pub const APART_ROOM: usize = 16 << 30;

/// Most mappings that they may be, of the 65,530 that a process may have: further runs come from the window.
pub const APART_MOST: usize = 1 << 14;

/// Most of them that stay when they are free.
pub const APART_FREE: usize = 128;

/// Most places looked at for one.
pub const APART_LOOKS: usize = 64;

/// Look-ups of addresses outside of the window that take no lock at the same time, a multiple of 32: a thread
/// loses its processor in the middle of one in a million.
pub const APART_READERS: usize = 64;

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
pub const PURGE_ORDER: u32 = 16 - PAGE_SHIFT;

/// Most pages that are out of the zone while they are purged, in one call: 4 MiB, some 100 us.
pub const PURGE_PAGES: usize = (4 << 20) / PAGE;

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

/// ... and most bytes past the watermark that it leaves to the watcher (tune): heaps that swing by so much
/// are common.
pub const LATER_MOST: usize = 64 << 20;

/// A heap that shrinks and grows again within so many milliseconds breathes.
pub const BREATH_MS: u64 = 2000;

/// Breaths running after which it is believed: one peak and one more is no rhythm yet.
pub const BREATHS: u32 = 2;

/// What a heap that breathes, or that a watcher looks after, may hold beyond the most that it has given out,
/// as a part of that, as a shift (tune).
pub const LENIENCE_SHARE: u32 = 3;

/// Ticks of a decay period: what a whole period did not touch is idle.
pub const IDLE_TICKS: usize = 8;

/// One part in so many of what is idle goes in a tick: all but 1 % of it in two periods.
pub const IDLE_SHARE: usize = 4;

/// Default decay period in milliseconds (tune), by `cargo xtask bench-shrinker decay`. A heap that uses 48
/// MiB for a moment every second: 0.5 s 66,000 faults and 35 MiB resident in the mean, 1 s 40,000 and 44, 2 s
/// 38,000 and 50. Used every 3 s, 1 s leaves 13 MiB in the mean, without decay and watermark 58.
pub const DECAY_MS: u32 = 1000;

/// Bytes for which it is worth waking somebody up, or looking once more.
pub const WORTH: usize = 1 << 20;

/// Bytes of blocks that were never used before which one refill takes during a quiet period (tune): their
/// pages may not be resident. `rcumalloc-bench pressure flood` in 128 MiB: one page was 1.4 times as slow as
/// no back-off, and with magazines that do not grow again meanwhile 2.0 times; four pages take 0.92 of the
/// time. Pairs of scan and refill: 74 without back-off, 3, 3 and 1 with.
pub const AFTER_SCAN: usize = (16usize << 10).next_multiple_of(PAGE);

/// Default quiet period after a scan in milliseconds (tune), by `cargo xtask bench-shrinker backoff`: with
/// 0.2 s there were 7 scans where there are 67 without, with 1 s 5, with 2 s 5, with 5 s 2.
pub const QUIET_MS: u32 = 2000;

/// Longest quiet period in milliseconds (tune): each scan before the last one's has ended doubles it.
pub const QUIET_MOST_MS: u32 = 16_000;

/// Pages a cache's first refill fetches, 16 KiB; it doubles with each refill (tune). Slow start.
pub const BATCH_MIN: usize = (16usize << 10).div_ceil(PAGE);

/// Most pages a refill fetches (tune): 256 KiB, and the lock is held for about 5 us.
pub const BATCH_MAX: usize = (256 << 10) / PAGE;

/// Most pages a cache may hold: 768 KiB. Its length shares a memdesc word with the link: 8 bits.
pub const CACHE_MAX: usize = (768 << 10) / PAGE;

/// log2 of the pages of a run of metadata, 64 KiB: descriptors of a small program fit in one run, and
/// what is not used of it is not touched.
pub const META_ORDER: u32 = 16 - PAGE_SHIFT;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Alignment in bytes of metadata objects: a cache line, so neighbours share none.
pub const META_ALIGN: usize = LINE;

// ---- threads -----------------------------------------------------------------------------

/// Bytes a thread carves from slabs before it gives back what it keeps of classes it has left (tune). With 1
/// MiB `git log -p` kept 1.4 % more and `fragmentation` no less; redis 0.8 % less. A look costs some 200 ns
/// and what it finds; the pages of so many bytes, touched for the first time, 200 us and more.
pub const LEAVE_STEP: usize = 2 << 20;

/// The same where the heap has grown by as much since somebody last looked (tune): docs/decisions/classes.md.
pub const LEAVE_GROWTH: usize = 128 << 10;

/// ... and, in a larger heap, by this part of it, as a shift (tune).
pub const LEAVE_SHARE: u32 = 5;

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

/// Bytes of the watcher's mapping, 64 KiB: a guard page, its stack, its thread-local storage. What it calls
/// needs less than 8 KiB; what is not touched costs nothing.
pub const HELPER_BYTES: usize = PAGE + (60usize << 10).next_multiple_of(PAGE);

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

// ---- blocks, magazines, slabs ------------------------------------------------------------

/// Largest block cut from a slab, in bytes; above it blocks are page runs of their own (tune). A slab holds
/// two to seven blocks of 8 to 32 KiB, so each class pinned what others missed: with 32 KiB `git log -p` kept
/// 1.2 MiB more, and so did python3.
pub const SMALL_MAX: usize = 16 * 1024;

/// Requests up to this many bytes find their slot by one table look-up (tune). 4 KiB of table, of which a
/// program touches what its sizes need; with half of that, blocks of 1 to 2 KiB took the slow path's entry,
/// and threads that work with sizes up to 2 KiB were a fifth slower.
pub const LOOKUP_MAX: usize = 2048;

/// Most bytes of blocks in one magazine (tune): past 64 KiB the L1 misses outweigh the turns saved,
/// and a thread has a few magazines of every class it uses, so 64 KiB cost twice the
/// memory of 32 KiB for no time that could be measured.
pub const MAGAZINE_BYTES: usize = 32 * 1024;

/// Blocks that a busy class's magazine may take whatever their size (tune): with two or three blocks a turn,
/// turning costs more than all the rest.
pub const LEAST_BUSY: usize = 12;

/// Bytes of blocks in the first magazine of a class.
pub const FIRST_BYTES: usize = 1024;

/// Threads up to which first magazines are as large as they get (tune): of all classes they hold up to 5 MiB
/// then.
pub const FEW_THREADS: usize = 128;

/// Least budget, in bytes (G3). 2 MiB (tune): on a larson-like run 8 MiB were no faster and cost
/// 6 MiB more; 1 MiB the same speed again, and a shorter quarantine.
pub const LEAST_BUDGET: usize = 2 << 20;

/// Bytes of blocks a class's depot keeps before it flushes (tune). Enough for sixteen magazines
/// of the largest blocks; small blocks are bounded by `DEPOT_MAGAZINES` first.
pub const DEPOT_BYTES: usize = 1 << 20;

/// Magazines a class's depot keeps before it flushes (tune).
pub const DEPOT_MAGAZINES: usize = 64;

/// Bytes a class keeps in any case, though all depots together are past their share of the budget
/// (many classes must not add up): a few magazines to trade (tune).
pub const SPARED_BYTES: usize = 128 * 1024;

/// Partial slabs among which the fullest is chosen (tune): 1 cost python3 4 % of its RSS, more than
/// 8 gained nothing.
pub const SLABS_LOOKED_AT: usize = 8;

/// Slabs whose deferred blocks one taker of blocks takes up (tune): the lock is held meanwhile.
pub const SLABS_SETTLED: usize = 32;

/// What a look at a slab's pages counts for as work, in small blocks, ...
pub const LOOK_AT_SLAB: usize = 4;

/// ... and giving some of them to the system (tune).
pub const SLAB_PURGE_CALL: usize = 8;

/// Small blocks that one call gives back (tune): 16 full magazines, 0.1 ms to 0.3 ms.
pub const MOST_BLOCKS: usize = 2048;

// ---- RCUMALLOC_STRESS --------------------------------------------------------------------

/// Most bytes of a round, and of what is freed on the fast path: four small blocks.
pub const STRESS_FILL: usize = 256;

/// Most blocks that a magazine gets from the slabs.
pub const STRESS_BLOCKS: usize = 4;

/// One slow path in so many, and one end of a section, is delayed: half of them would leave a program little
/// time for itself.
pub const STRESS_ONE_IN: u64 = 4;

/// A delay is of 1, 2, 4, ... pauses of the processor, as many as there are such powers: 2^11 take some 30
/// to 100 microseconds, long against a free and a malloc, and short against a clock tick.
pub const STRESS_PAUSES: u64 = 12;

// ---- a thread's cache --------------------------------------------------------------------

/// The part of the heap, as a shift, that the filling magazines of all threads may hold (tune).
pub const FILL_SHARE: u32 = 4;

/// However small the heap, those of all threads may hold so many bytes (tune): as much again waits, and twice
/// as much lies ready, so a small heap with many threads is larger by four times this. With 2 MiB programs
/// of random families were as fast and held 5 % more, those whose threads end 20 %; ...
pub const FILL_TOGETHER: usize = 512 << 10;

/// ... of which a thread gets so many at least (tune): 5000 idle ones hold 1.04 times what they hold under
/// glibc, with 32 KiB 1.33 times; ...
pub const FILL_LEAST: usize = 8 << 10;

/// ... and at most (tune); one class alone then fills a quarter of it, 32 KiB. With half of it freed blocks
/// come back twice as soon to a program whose threads look at them without a section.
pub const FILL_ENOUGH: usize = 128 << 10;

/// Most bytes that a thread's may hold in a large heap: past that turns cost little already.
pub const FILL_MOST: usize = 1 << 20;

/// The part of that, as a shift, which makes a group (tune): a seal costs as much as some turns.
pub const SEAL_SHARE: u32 = 1;

/// Most bytes of a group: one group is the least that a call gives back at a time.
pub const SEAL_MOST: usize = 64 << 10;

/// Most bytes on a thread's shelf, of all classes, before the depot gets some (tune). With 1 MiB two threads
/// that each reuse what they free in twenty classes gave some to the depot, and it flushed it to the slabs.
pub const SHELF_MOST: usize = 2 << 20;

/// ... and as a multiple of what it may have in filling magazines (tune): two or three groups wait, up to
/// half of that each, and as much again lies ready.
pub const SHELF_FILLS: usize = 4;

/// Least share, in bytes: two magazines of the larger kinds (tune).
pub const SHARE_LEAST: usize = 64 * 1024;

/// Looks at the clock in a decay period that make a thread busy (tune): some 512 turns. With 4, a thousand
/// threads that each use 200 blocks and sleep borrow, and hold 15 % more.
pub const BUSY_LOOKS: u32 = 16;

/// What the smallest blocks count for on the way to a sealed group, in bytes each (tune): 1024 of them are
/// worth a period's cost, and less memory is on its way than if only bytes counted.
pub const LEAST_CHARGE: usize = 64;

/// Local: reusable blocks of one class a thread keeps in its full stack, in bytes (tune). What lies
/// there pins its slabs: 512 KiB cost python3 7 % of its RSS and saved no time.
pub const LOCAL_BYTES: usize = 32 * 1024;

/// Groups that a thread takes out of the queue for all threads before it carves from slabs (tune): a few
/// groups tend to hold every class that is in use, and the work in one call stays bounded.
pub const SHARED_LOOKS: usize = 4;

/// Waiting groups that a thread over budget keeps for its own next refills (tune).
pub const KEPT_GROUPS: usize = 2;

/// Most blocks that are ready (tune): a program that works with more sizes at a time than this
/// gets the others from the zone, which is no slower than without.
pub const READY_MOST: usize = 8;

/// In a solo process ready blocks hold at most this part of the thread's share, as a shift (tune), but for
/// one larger block of a size that is freed again and again: with all of the share python3 kept 2 MiB more,
/// `git log -p` 0.6. Where frees are deferred a batch or two circulate: the whole share.
pub const READY_SOLO_SHARE: u32 = 2;

/// Most bytes of the thread's share that are for large blocks (tune): with 2 MiB a batch of the smallest held
/// more blocks than may be ready.
pub const READY_SHARE_MOST: usize = 1 << 20;

/// Most vacant caches (tune): as many threads can end and be followed by others without a magazine being
/// opened.
pub const VACANT_MOST: usize = 64;

/// What one may hold, as a part of the budget, a shift (tune): a thread that held more was no short one.
pub const VACANT_PART: u32 = 1;

/// Bytes of a typed pool's name, and a zero byte.
pub const POOL_NAME: usize = 32;

/// Most objects of one slab of a typed pool: three sets of them are in its descriptor.
pub const POOL_OBJECTS: usize = 512;

/// Bytes of a slab of a typed pool, as a slab of small blocks has, unless so many objects are less or one is
/// more.
pub const POOL_SLAB: usize = 64 * 1024;

/// Largest object of a typed pool, in bytes: what is larger has pages of its own, and would better be a
/// block.
pub const POOL_SIZE_MAX: usize = 1 << 20;
