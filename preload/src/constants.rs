//! Every number that was chosen, in one place: its unit, and why it has this value.
//!
//! "(tune)" marks a starting point that measuring may move, and stands in no other file. What elsewhere is a
//! number that nobody can choose, because a layout, an encoding, another's interface or arithmetic gives it,
//! says "(given)" there: the test `lines` looks.

// ---- units -------------------------------------------------------------------------------

/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;

/// 2^64 by the golden ratio, odd: multiples of it are spread evenly, so the upper bits of a product are a
/// hash.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

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
pub const FORK_PATIENCE_NS: u64 = 10 * MS;

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

/// Bytes of the longest path in `RCUMALLOC_STATS` or `RCUMALLOC_PROFILE_FILE`, on the stack of an exit, ...
pub const STATS_PATH_BYTES: usize = 256;
/// ... and of the longest name that is made of it, with numbers and the zero byte at its end.
pub const STATS_NAME_BYTES: usize = 512;

/// Bytes of the longest value of an option that is looked at, on the stack of a start; a file's name has room
/// of its own.
pub const OPTION_BYTES: usize = 64;

/// Bytes of the longest text of a value that is written: a number of 64 bits, 20 digits, and a unit.
pub const NUMBER_BYTES: usize = 24;

/// Bytes of a kernel's line that are seen; of a longer one its beginning. What is looked for is a name and a
/// number.
pub const FILE_LINE_BYTES: usize = 128;

/// Bytes of the two lines of a file of stalls, which are some 120, and room for what a later kernel adds.
pub const PSI_BYTES: usize = 256;

/// Bytes read at a time from /proc/self/maps: some of the stack of whoever called malloc.
pub const MAPS_CHUNK: usize = 512;

/// Pages of which the kernel is asked at a time whether they are in memory, a byte each, on the stack of
/// whoever called malloc.
pub const RESIDENT_PAGES: usize = 256;

/// Bytes of the longest path of a control group's file, with its zero byte.
pub const CGROUP_PATH_BYTES: usize = 512;

/// Bytes of the list of a process's control groups that are seen: version 1 has a dozen lines, ...
pub const CGROUP_LIST_BYTES: usize = 1024;

/// ... and of one of their other files, or of a line of it.
pub const CGROUP_TEXT_BYTES: usize = 512;

/// Bytes apart from which on two places are on different stacks, as far as anybody can tell: as much as a
/// thread's stack has, where nobody says more.
pub const SAME_STACK: usize = 8 << 20;

/// Ranges of code that are known at most: a process of a hundred libraries has as many.
pub const CODE_RANGES: usize = 512;

/// How long they are good for, in milliseconds, ...
pub const CODE_GOOD_MS: u32 = 1000;

/// ... and so much longer for each line: some thousand times as long as it takes to read it.
pub const CODE_GOOD_MS_PER_LINE: u32 = 4;

/// Words above a slow path's frame in which its return address lies, at the most: what the heap has on the
/// stack, [`STACK_BYTES`].
pub const OUR_WORDS: usize = 256;

/// Words of one frame of the program that are looked through for the first saved frame pointer: larger frames
/// are rare, and a stack that ends there is no error.
pub const FRAME_WORDS: usize = 128;

/// Bytes around a place on a stack that are of the same for certain enough: the next library may be near.
pub const STACK_AROUND: usize = 32 << 10;

/// How far apart two frames of one stack may be, in bytes: no frame is a mebibyte.
pub const FRAMES_APART: usize = 1 << 20;

/// Pages in front of a place in an object's code that are looked at for its beginning: 32 MiB of code.
pub const OBJECT_PAGES: usize = 1 << 13;

/// Return addresses that were found to be some, of which so many are remembered, a power of two: to ask the
/// kernel takes a while.
pub const RETURNS_KNOWN: usize = 1 << 10;

/// Objects, a program and its libraries, whose code is remembered: few of them call malloc often.
pub const OBJECTS_KNOWN: usize = 8;

/// Pages that are remembered to be no object's code.
pub const STRANGE_PAGES: usize = 256;

/// The heap's functions that give memory back, at the most.
pub const FREES_KNOWN: usize = 32;

/// Return addresses of which it is remembered whether they are of such a call, a power of two.
pub const FREEING_KNOWN: usize = 256;

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
/// as a part of that, as a shift (tune). Without it, and without as much again for the watcher, programs of
/// random families held 2 % less, and large blocks were a tenth as fast.
pub const LENIENCE_SHARE: u32 = 3;

/// Ticks of a decay period: what a whole period did not touch is idle.
pub const IDLE_TICKS: usize = 8;

/// One part in so many of what is idle goes in a tick: all but 1 % of it in two periods.
pub const IDLE_SHARE: usize = 4;

/// Default decay period in milliseconds (tune), by `rcumalloc-bench pressure decay`. A heap that uses 48
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

/// Default quiet period after a scan in milliseconds (tune). Of a flood of 64 threads in 80 MiB: with 0.2 s
/// there were 7 scans where there are 67 without, with 1 s 5, with 2 s 5, with 5 s 2. `rcumalloc-bench
/// pressure backoff` measures it.
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

/// Pages that a cache may hold, as a multiple of what it fetches (tune): one batch comes while another is
/// used, and a third lies between so that not each page that comes back goes on to the zone; ...
pub const BATCHES_HELD: usize = 3;

/// ... and at least, in pages: a few of the first batches.
pub const CACHE_LEAST: usize = 4 * BATCH_MIN;

/// Orders a block may be larger than a run that is to grow (tune): with two, what doubles in turn with others
/// grows in place four times in five and is 1.8 times as fast, with one and with three 1.1 and 1.4 times.
pub const GROWTH_ORDERS: u32 = 2;

/// Bits for units that had marked pages: those of 64 GiB. Two units that share one are both looked through.
pub const CHANGED_BITS: usize = 1 << 14;

/// Part of the limit, as a shift, that a scan frees beyond it (tune).
pub const LIMIT_SLACK: u32 = 3;

/// Part of the limit, as a shift, that must come together before the next scan where the last did not get
/// below (tune): memory that is not the heap's has little room, too.
pub const LIMIT_STEP: u32 = 5;

#[cfg(target_arch = "x86_64")]
/// From how many words on one instruction writes them faster than a loop (tune).
pub const STOSQ_FROM: usize = 32;

/// Quarters of a class, into which threads are spread (tune).
pub const QUARTERS: usize = 4;

/// Nodes of the map of ranges that are taken from the metadata at a time, ...
pub const RANGE_NODES: usize = 32;

/// ... whenever fewer are left: more than a change takes of a map that is seven levels high, and has 50,000
/// ranges at the least.
pub const RANGE_NODES_LEAST: usize = 24;

/// More than there are in a map of so many ranges as there may be. When these are used up, a handler has
/// jumped out of a look-up, for which nodes wait for ever: further runs come from the window.
pub const RANGE_NODES_MOST: usize = 2 * APART_MOST;

/// Fewest pages that a tick of decay purges: 256 KiB, worth a call.
pub const IDLE_LEAST_PAGES: usize = (256 << 10) / PAGE;

/// Shortest tick of decay in nanoseconds: a period of 0 means at once, not without pause.
pub const TICK_LEAST_NS: u64 = 10 * MS;

/// Decay periods running that came to nothing, after which the next ones are longer, ...
pub const IDLE_PERIODS: u32 = 3;

/// ... each twice the last, up to this power of two: what is left is held by somebody.
pub const IDLE_RAREST: u32 = 5;

/// Ticks that slow paths, which have done the last one, may miss before the watcher is to.
pub const RIDDEN_TICKS: u64 = 4;

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

/// Live caches from which on a registration looks for abandoned ones (tune); doubles with each search, so
/// that all searches together take as long as the registrations.
pub const SCAVENGE_FROM: usize = 64;

/// Readers of the first block of cells. Those behind it hold ...
pub const READERS_FIRST: usize = 32;

/// ... so many times as many as all before them, up to what a block can: few blocks, and what is not used is
/// not touched.
pub const READERS_GROW: usize = 7;

/// A row of seats holds so many times as many as all before it, ...
pub const SEATS_GROW: usize = 7;

/// ... but at most so many: 64 KiB of them.
pub const SEATS_ROW_MOST: usize = 4096;

/// Bytes of one cache's memory: pages of its own, so that they can go to the system.
pub const CACHE_BYTES: usize = (8usize << 10).next_multiple_of(PAGE);

/// Most caches whose memory is taken from the zone together: 512 KiB.
pub const CACHES_TOGETHER: usize = 64;

/// Pages that the reserve for `free` holds per live thread, ...
pub const RESERVE_PER_THREAD: usize = 1;

/// ... and most pages of the reserve: it must not make small programs big.
pub const RESERVE_MOST: usize = 16;

/// In which of libc's four rounds of key destructors (`PTHREAD_DESTRUCTOR_ITERATIONS`) the cache is given
/// back: every other destructor has run once before that. A round costs some 500 instructions.
pub const EXIT_ROUND: u32 = 2;

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

/// Bytes of it that a program's thread-local storage may take.
pub const HELPER_LOCAL_BYTES: usize = HELPER_BYTES / 4;

/// Bytes that its thread's control block is given. libc's is larger, but nothing of libc runs here that reads
/// the rest.
pub const CONTROL_ROOM: usize = 512;

/// Looks for a thread that has ended, until it is forgotten: well over 10 ms.
pub const ENDED_LOOKS: u32 = 20_000;

/// How long a thread that leaves waits for the watcher to end, in nanoseconds. It answers at once unless
/// it is in the middle of a scan.
pub const WATCHER_PATIENCE_NS: u64 = 1_000 * MS;

/// Most nanoseconds its starter waits for it to have read the control group's limit; usually one
/// thirtieth of it.
pub const WATCHER_READY_NS: u64 = 10 * MS;

// ---- what the heap tells -----------------------------------------------------------------

/// Milliseconds of a section past which it is reported, where `RCUMALLOC_STALL_MS` does not say: half of
/// what the kernel waits for its own.
pub const STALL_MS: u64 = 10_000;

/// Sections younger than this do not stall, in nanoseconds: a few ticks of the kernel's, in which a thread
/// may simply have lost its processor.
pub const STALL_LEAST_NS: u64 = 10 * MS;

/// Readers and places that are told apart; all others are booked together (tune): a screen full.
pub const STALLS_KEPT: usize = 32;

/// Bounds between the ages of what waits, in milliseconds: one for each power of ten that people tell apart.
pub const AGES_MS: [u32; 4] = [10, 100, 1000, 10_000];

/// Batches of one queue that are looked at for it: the rest is younger, and its age is not known.
pub const BATCHES_LOOKED_AT: usize = 256;

/// How often a magazine that its owner changes meanwhile is looked at.
pub const CHECK_LOOKS: usize = 4;

/// Scans that are remembered one by one: a screen full, 48 bytes each.
pub const SCANS_REMEMBERED: usize = 16;

/// Return addresses that a trap keeps of a call.
pub const TRAP_DEPTH: usize = 6;

/// Threads in sections that are remembered with each group that is hashed under `RCUMALLOC_LEDGER`.
pub const PRINT_READERS: usize = 4;

/// Places of a profile's table that one entry may have: with half of it in use one in 65,000 finds none.
pub const PROFILE_PLACES: usize = 16;

/// Bytes of a line of a profile that are put together before some are written: with the next number it stays
/// within [`LINE_BYTES`].
pub const PROFILE_PART: usize = 200;

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

/// Bytes of a slab, and its alignment. 16 bits of offset make the interior check one `movzx`.
pub const SLAB_BYTES: usize = 64 * 1024;

/// Blocks past 128 bytes are so many eighths of a power of two: `docs/decisions/classes.md` says what others
/// cost.
pub const EIGHTHS: [usize; 4] = [9, 11, 13, 16];

/// Largest size, in bytes, of which every block has its own class, to 16 bytes: what realloc grows up to here
/// gets no more than it asks for, so that `free_sized` tells an object from one that is 16 bytes larger.
pub const EXACT_MAX: usize = 128;

/// What grows by less than a quarter (as five of four parts) grows in small steps (tune), ...
pub const GROWS_SLOWLY: (usize, usize) = (5, 4);

/// ... and gets 3/8 more than it asks for (tune), as eleven of eight parts, as rpmalloc gives. With each step
/// a block of its own, a string that grows by 16 bytes to 4 KiB would move 26 times, not 15.
pub const GROWTH: (usize, usize) = (11, 8);

/// Least part of a block, as nine of sixteen parts, that must be filled for realloc to leave it where it is:
/// what [`GROWTH`] gave stays.
pub const LEAST_FILLED: (usize, usize) = (9, 16);

/// A tail that realloc cuts from a large block waits as a block of its own if it is more than this part of
/// what is left of the block, as a shift, ...
pub const TAIL_SHARE: u32 = 3;

/// ... or so many pages: else the block keeps it, as malloc may give as much too much, and a block that grows
/// again finds it there.
pub const TAIL_PAGES: usize = WORTH / PAGE;

/// Words of a magazine of each kind, head included: page-cut, so powers of two.
pub const KIND_WORDS: [usize; 6] = [16, 32, 64, 128, 256, 512];

/// Filling magazines of any class may have arrays of this kind: 124 blocks.
pub const FILLING_KIND: usize = 3;

/// Largest block, in bytes, for which each kind is used (tune): each doubling halves what a turn costs each
/// block, as long as what circulates stays near. With 508 blocks of 64 bytes in place of 252 a tight pair is
/// 1.07 times as fast and producer/consumer 1.1 times; with 124 in place of 252 it is 0.93.
pub const KIND_UP_TO: [usize; KIND_WORDS.len()] = [usize::MAX, usize::MAX, usize::MAX, usize::MAX, 128, 64];

/// Blocks of any magazine under the fuzzer, whose inputs are short.
pub const FUZZED_BLOCKS: usize = 4;

#[cfg(target_arch = "x86_64")]
/// Turns of magazines before the processor is asked for BMI2: CPUID traps in virtual machines, 4 us
/// a leaf, which a small program never earns back.
pub const BMI2_AFTER: u8 = 64;

/// Quarters of a slab's blocks that were out and have come back, from which on it is mostly returned.
pub const MOSTLY_QUARTERS: usize = 3;

/// Size in bytes from which on a block comes from pages where no slab is to be had, but pages are: smaller
/// ones would take a page each.
pub const PAGES_FROM: usize = 1024;

/// What a large block counts for as work, in small blocks: its run goes back to the zone, its descriptor to
/// the pool.
pub const LARGE_BLOCK: usize = 4;

/// What a look into another thread's cache counts for: as many cache lines.
pub const LOOK_AT_CACHE: usize = 4;

/// Runs that go back under one lock: each takes some 100 ns.
pub const RUNS_AT_ONCE: u32 = 16;

/// Counters of large blocks, each a cache line, over which threads are spread.
pub const LARGE_SHARDS: usize = 8;

// ---- what waits --------------------------------------------------------------------------

/// Default budget as a percentage of the heap in use: one eighth.
pub const BUDGET_PERCENT: u32 = 12;

/// Parts of the budget: one is what the ledgers of all threads together may not have posted, and by so much a
/// backlog over its budget must grow before the next attempt.
pub const BUDGET_STEPS: usize = 8;

/// Default age limit, in milliseconds. Long against a period (microseconds), short against what
/// a person watching memory notices.
pub const AGE_MS: u32 = 1000;

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

/// The part of the heap, as a shift, that the filling magazines of all threads may hold (tune). With a
/// 16th programs of random families were as fast and held 4 % more; with a 64th servers with blocks of many
/// sizes were 0.87 times as fast, where most threads sleep 0.77 times.
pub const FILL_SHARE: u32 = 5;

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

/// One class alone may fill one part in so many of what a thread's filling magazines may hold (tune).
pub const CLASS_PART: usize = 4;

/// How often a round that is due finds the last one waiting before who does not come by is parked, ...
pub const PARK_AFTER: u8 = 3;

/// ... and before what waits joins a group.
pub const GROUP_AFTER: u8 = 4;

/// Empty magazines of one kind a thread keeps before it gives half of them to the store: a thread
/// that only allocates or only frees must not hoard them.
pub const SPARE_MAGAZINES: usize = 20;

/// Most slow paths between two looks at the coarse clock: its cost (some 40 instructions) spread thin.
pub const CLOCK_TURNS: u32 = 32;

/// A thread whose last two looks were further apart than this part (as a shift) of the age limit looks at
/// each slow path: 32 of them may take it half a minute, ...
pub const CLOCK_SELDOM: u32 = 3;

/// ... and one whose looks are closer together than this part needs only half as many.
pub const CLOCK_OFTEN: u32 = 4;

/// A batch of large blocks is closed when it has reached this part of the thread's share, as a shift.
pub const LARGE_BATCH_SHARE: u32 = 2;

/// A large block that is ready serves requests down to 1/9 less than its pages (as a shift of the request).
pub const READY_WASTE: u32 = 3;

/// Walks over all threads that sleep, which find all the groups that are too many: the first notes who
/// works, the second takes.
pub const SURPLUS_WALKS: u64 = 2;

/// Ranges of sizes that may be excepted from a mode.
pub const EXCEPTIONS: usize = 8;

// ---- under pressure ----------------------------------------------------------------------

/// The heap is to stay below so many quarters of what the control group allows (tune), unless the user has
/// said what else. The rest is for what is not the heap's, and for what comes in during a scan.
pub const CGROUP_QUARTERS: u64 = 3;

/// Milliseconds between two looks at the kernel's files by a solo process. The kernel itself settles
/// stalls every 2 s for those without privileges.
pub const SOLO_MS: u32 = 2000;

/// Most nanoseconds a thread waits for the one that serves, each time it wants more memory: a scan
/// takes a few milliseconds if it gets a processor.
pub const THROTTLE_NS: u64 = 20 * MS;

/// Of so many objects of a typed pool that begin to wait, one asks whether others have waited long enough
/// (tune).
pub const POOL_LOOK: usize = 16;
