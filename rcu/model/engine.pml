/*
 * The grace-period engine of `rcu/`, over TSO store buffers. README.md maps every piece to the
 * Rust names; `cargo xtask spin` runs it, with the breakages below, each of which SPIN must find.
 *
 * What runs:   two readers (0 explicit from the start, 1 implicit until its first lock), or with
 *              -DALONE one that may do anything, for ever; one updater with ROUNDS blocks to retire;
 *              one expediter.
 * What holds:  no block is reused while a section that could find it is open (assertions), and
 *              every cookie elapses (`ltl progress`, under weak fairness).
 *
 * Build       -DFENCED          no membarrier: readers fence at each lock, the expediter fences
 *             -DLIVE_PASSIVE    readers announce or leave; nobody expedites
 *             -DLIVE_EXPEDITE   readers never announce: one loops through sections without a
 *                               pause, one may sleep for ever; only the expediter ends periods
 *             -DOFFER           (-DALONE) the reader is explicit and online for ever, and each pass
 *                               may offer it leave, and park it behind a barrier of that pass
 * Breakage    -DB_...           one defence removed
 * Witness     -DW_...           assert(false) at a state that must be reachable
 */

#if !defined(LIVE_PASSIVE) && !defined(LIVE_EXPEDITE)
#define SAFETY
#endif
#ifndef ROUNDS
#if defined(LIVE_PASSIVE) || defined(LIVE_EXPEDITE)
#define ROUNDS 2        /* blocks the updater retires */
#else
#define ROUNDS 1
#endif
#endif
#ifndef LAST
#define LAST 6          /* safety: no period starts at this sequence */
#endif
#ifndef STEPS0
#define STEPS0 1        /* safety of the pair: things each reader does; alone it never ends */
#define STEPS1 2
#endif
#ifndef SB
#define SB 3            /* depth of a reader's store buffer: one section's end, the next one's begin */
#endif
#define NONE 7          /* no block */

/* ---- the words that threads share ------------------------------------------------------------ */

byte seq;               /* even: idle, odd: a period is in flight */
byte needed;            /* the largest cookie asked for */
byte ptr;               /* the published block: 0, 1, 2, ... each replaces the one before */

#define EXPLICIT 1
#define OFFLINE  2
#define PARKED   4
#define OFFERED  8      /* explicit, and leave is on offer */
#define FLAGS    15
#define STATE(s, flags)  (((s) << 4) | (flags))
#define SETTLED(v, s)    (((v) & (OFFLINE | PARKED)) || ((v) >> 4) >= (s))

byte state[2];          /* the reader's announcement: sequence and flags */
#define ASKED    2      /* `nest` of an idle reader whose next lock is to be slow */
#define OPEN(n)  ((n) & 1)
byte nest[2];           /* a section is open (inner nesting changes nothing and is left out), or ASKED */
bit seen[2];            /* the expediter's snapshot of `turn` is from this period, after its barrier */
bit turned[2];          /* `turn` is no longer what that snapshot says (exact, without counting) */

/* ---- ghosts, for the assertions --------------------------------------------------------------- */

byte held[2] = NONE;    /* the block that the reader's open section has found */
byte reused;            /* blocks below this have been given out again */
#define over (reused == ROUNDS)         /* nothing is left that could go wrong */

/* ---- store buffers ---------------------------------------------------------------------------- */

/* A buffered store: to `nest` (the value), to `turn`, or, in two breakages, to `state`. */
#define NEST(value)  (value)
#define TURN         4
#define BUFFERED(v)  (8 + (v))
#define UPDATER 2       /* its id; readers are 0 and 1 */
#define EXPEDITER 3     /* stores nothing that is not at once visible */

chan buffer[2] = [SB] of { byte };
byte unlinking;         /* the updater's buffered store to `ptr`; 0: none */
hidden byte store;

inline drain_one(who)
{
    buffer[who]?store;
    if
    :: store < TURN -> nest[who] = store
    :: store == TURN -> turned[who] = seen[who]
    :: store > TURN -> state[who] = store - 8
    fi;
    store = 0
}

/*
 * A full fence of `who`, or a membarrier's effect on it: every earlier store becomes visible. A fence
 * stands in one atomic step with the access behind it: nothing is lost, for the buffer may have
 * drained by itself at any time before that.
 */
inline fence(who)
{
    d_step {
        if
        :: who < UPDATER ->
            do
            :: nempty(buffer[who]) -> drain_one(who)
            :: empty(buffer[who]) -> break
            od
        :: who == UPDATER && unlinking -> ptr = unlinking; unlinking = 0
        :: else
        fi
    }
}

/* Buffers also drain by themselves, whenever they like; one process each, to be fair to each. */
proctype Drain(byte who)
{
end:do
    :: d_step { nempty(buffer[who]) -> drain_one(who) }
    od
}

proctype DrainUpdater()
{
end:do
    :: d_step { unlinking -> ptr = unlinking; unlinking = 0 }
    od
}

/* ---- Domain ------------------------------------------------------------------------------------ */

#ifdef B_COOKIE_IN_FLIGHT
#define COOKIE(s) (((s) + 2) & 254)     /* counts the period in flight, which began too early */
#else
#define COOKIE(s) (((s) + 3) & 254)
#endif

#ifdef SAFETY

/*
 * Who starts and who completes a period matters to progress, not to safety: a start is one
 * compare-and-swap, a completion a scan that only reads and one compare-and-swap. At most one scan
 * per period wins, it begins after the period did, and ends it: winning scans never overlap. So one
 * process that may start and scan at any time does all that any mix of threads could do, and more, for it
 * starts periods nobody asked for.
 */
proctype Anyone()
{
end:do
    :: d_step { !(seq & 1) && seq < LAST && !over -> seq++ }
    :: (seq & 1) && !over ->
        if
        :: SETTLED(state[0], seq) ->
            if
            :: SETTLED(state[1], seq) -> seq++
            :: else
            fi
        :: else
        fi
    od
}

#define try_complete(me) s = 0

inline start_poll(me, cookie)
{
    atomic {
#ifndef B_COOKIE_NO_FENCE
        fence(me);
#endif
        cookie = COOKIE(seq)
#ifdef W_IN_FLIGHT
        ; assert(!(seq & 1))
#endif
    };
    fence(me)
}

#else

/* Domain::start, if `goal` is beyond the sequence: `s` becomes the new period, or 0. */
inline start(goal)
{
    v = seq;
    atomic {
        if
        :: !(v & 1) && v < goal && seq == v -> seq = v + 1; s = v + 1
        :: else -> s = 0
        fi;
        v = 0
    }
}

/* A period in flight and a need that was read before: who ends it will see that need. */
#define PROMISED (s & 1)

/*
 * Domain::try_complete(s), and what follows from it: whoever completes starts the next period if
 * somebody asked for it, and whoever starts one scans at once, for all may be settled already and
 * then nobody else would. `s` even: nothing. Ends with s == 0.
 */
inline try_complete(me)
{
    do
    :: !(s & 1) -> s = 0; break
    :: else ->
        if
        :: SETTLED(state[0], s) ->
            if
            :: SETTLED(state[1], s) ->
                atomic {
                    if
                    :: seq == s -> seq = s + 1; s = 1
                    :: else -> s = 0
                    fi
                };
                if
                :: s == 1 ->
#ifdef B_NO_NEXT
                    s = 0
#else
                    atomic { fence(me); n = needed };
                    start(n);
                    n = 0;
#ifdef W_NEXT
                    assert(s == 0);
#endif
#ifdef B_START_NO_SCAN
                    s = 0
#endif
#endif
                :: else
                fi
            :: else -> s = 0
            fi
        :: else -> s = 0
        fi
    od
}

/* Domain::start_poll, with Domain::ensure: leaves the cookie in `cookie`. */
inline start_poll(me, cookie)
{
    n = needed;                         /* `promised` */
    atomic {
#ifndef B_COOKIE_NO_FENCE
        fence(me);
#endif
        s = seq;
        cookie = COOKIE(s)
    };
    if
    :: PROMISED && n >= cookie -> s = 0; n = 0
    :: else ->
        n = 0;
#ifndef B_NO_RECHECK
        s = 0;
#endif
        needed = (needed < cookie -> cookie : needed);
        fence(me);
#ifdef B_NO_RECHECK
        atomic {
            if
            :: !(s & 1) && seq == s -> seq = s + 1; s = s + 1
            :: else -> s = 0
            fi
        };
#else
        start(cookie);
#endif
#ifdef B_START_NO_SCAN
        s = 0;
#endif
        try_complete(me)
    fi
}

#endif

/* ---- readers ---------------------------------------------------------------------------------- */

/*
 * Every store to `state` by its owner is followed at once by a full fence, so it takes effect in one
 * step with it, after all earlier stores: as long as nothing stands between, a store that waits in the
 * buffer is the same as one that has not been executed yet.
 */
inline store_state(flags)
{
    atomic { fence(me); state[me] = STATE(s, flags); s = 0 }
}

/*
 * ReaderCell::come_online, with the fence of lock_slow. (B_ONLINE_STORE: a plain store and no fence.)
 * A first lock that finds the reader online does not announce: it does not scan.
 */
inline come_online()
{
    s = seq;
#ifdef W_UNPARK
    assert(!(state[me] & PARKED));
#endif
#ifdef B_ONLINE_STORE
    atomic { buffer[me]!BUFFERED(STATE(s, explicit)); s = 0 }
#else
    atomic {
#ifndef B_FIRST_LOCK_ANNOUNCES
        if
        :: !(state[me] & (OFFLINE | PARKED)) -> s = state[me] >> 4
        :: else
        fi;
#endif
        store_state(explicit)
    }
#endif
}

/* ReaderCell::quiescent_state, also what every TURN-th unlock does. */
inline announce()
{
    s = seq;
    if
    :: (!(s & 1) || SETTLED(state[me], s)) && !(state[me] & PARKED) -> s = 0
    :: else ->
#ifdef OFFER
        /* Of the bits it changes none; but who was parked arrives, and is implicit. */
        atomic { v = state[me]; store_state((v & PARKED -> 0 : v & FLAGS)); v = 0 }
#elif defined(SAFETY)
        store_state(explicit)
#else
        atomic { fence(me); state[me] = STATE(s, explicit) };
        try_complete(me)
#endif
    fi
}

/* ReaderCell::go_offline. */
inline go_offline()
{
#ifdef B_OFFLINE_NO_FENCE
    buffer[me]!BUFFERED(STATE(0, OFFLINE | explicit));
#else
    store_state(OFFLINE | explicit);
#endif
#if !defined(SAFETY) && !defined(B_OFFLINE_NO_COMPLETE)
    s = seq;
    try_complete(me)
#endif
}

#ifdef ALONE
#define MAY_LEAVE true
#define MORE      (!over)
#define STEP      skip
#else
#define MAY_LEAVE (me == 1)
#define MORE      (!over && steps < (me -> STEPS1 : STEPS0))
#define STEP      steps++
#endif

/*
 * The increment of `nest` by an explicit reader that may have been asked for the cold mode, and lock_slow.
 * The owner sees its own last store, also while it waits in the buffer. (-DFENCED: it is always cold.)
 */
inline lock_that_is_told()
{
    atomic {
        nfull(buffer[me]);
#ifdef FENCED
        cold = 1;
        buffer[me]!NEST(1)
#else
        cold = (!buffer[me]??[NEST(0)] && nest[me] == ASKED);
        buffer[me]!NEST(cold -> ASKED + 1 : 1)
#endif
    };
    if
    :: cold ->
        atomic {
#ifndef B_READER_NO_FENCE
            fence(me);
#endif
            v = state[me]
        };
        if
#ifdef B_LOCK_OVERLOOKS_OFFER
        :: v & (EXPLICIT | OFFERED) -> v = 0
#else
        :: (v & (EXPLICIT | OFFERED)) == EXPLICIT -> v = 0
#endif
        :: else -> v = 0; come_online()
        fi;
#ifndef FENCED
        atomic { fence(me); nest[me] = 1 };     /* rebase */
#endif
        cold = 0
    :: else
    fi
}

/* A whole section: lock, find a block, unlock. */
inline section()
{
#ifdef OFFER
    lock_that_is_told();
#else
    buffer[me]!NEST(1);
    if
    :: !explicit || offline -> explicit = 1; offline = 0; come_online()
    :: else
    fi;
#endif
    atomic {
#if defined(FENCED) && !defined(B_READER_NO_FENCE)
        fence(me);
#endif
        assert(ptr >= reused);
        held[me] = ptr
    };
    /* The last access may be as late as the store that ends the section is issued: TSO. */
    atomic { nfull(buffer[me]) -> held[me] = NONE; buffer[me]!NEST(0) };
    buffer[me]!TURN
}

proctype Reader(bit me; bit explicit)
{
    byte s, v, n;
    bit offline, cold;
    byte steps;
#if defined(LIVE_PASSIVE)
    do
    :: section(); announce()
    :: announce()
    :: go_offline(); break      /* exit */
    od
#elif defined(LIVE_EXPEDITE)
    if
    :: explicit ->
        do
        :: section()
        od
    :: else ->
        if
        :: true                 /* sleeps for ever, online */
        :: section()
        fi
    fi
#else
end:do
    :: MORE -> STEP; section()  /* while offline, too: a signal handler's */
    :: MORE && !offline -> STEP; announce()
#ifndef OFFER
    :: MORE && !offline && MAY_LEAVE -> STEP; go_offline(); offline = 1
    :: MORE && offline -> STEP; offline = 0; come_online()
#endif
    od
#endif
}

/* ---- the updater ------------------------------------------------------------------------------- */

proctype Updater()
{
    byte s, v, n;
    byte retired;               /* blocks below this are unlinked */
    byte cookie[ROUNDS];
    do
    :: retired < ROUNDS ->
        atomic { unlinking == 0 -> unlinking = retired + 1 };
        start_poll(UPDATER, cookie[retired]);
        retired++
    :: atomic { reused < retired && seq >= cookie[reused] -> cookie[reused] = 0 };  /* Domain::poll */
        atomic {
            assert(held[0] != reused && held[1] != reused);
            reused++;
#ifdef W_REUSE
            assert(reused < ROUNDS)
#endif
        }
    :: reused == ROUNDS -> break
    od
}

/* ---- the expediter ------------------------------------------------------------------------------ */

/* The compare-and-swap of ReaderCell::park and ReaderCell::announce_for. */
#define CAS_STATE(who, new)  if :: state[who] == v -> state[who] = (new) :: else fi

#if defined(B_PARK_EXPLICIT)
#define MAY_PARK true
#else
#define MAY_PARK !(v & EXPLICIT)
#endif

#if defined(B_NO_HEAVY) || defined(FENCED)
#define HEAVY_BARRIER
#elif defined(ALONE)
#define HEAVY_BARRIER fence(0);
#else
/* A membarrier reaches the threads one after the other, in no order one may count on. */
#define HEAVY_BARRIER  if :: fence(0); fence(1) :: fence(1); fence(0) fi;
#endif
#ifdef B_BARRIER_ONCE
#define HAD_BARRIER barrier
#define FORGET_BARRIER
#else
#define FORGET_BARRIER  if :: barrier != s -> barrier = 0 :: else fi
#define HAD_BARRIER (barrier == s)
#endif

/* One heavy barrier a period, which makes the snapshots of earlier periods worthless. */
inline need_barrier()
{
    if
    :: HAD_BARRIER
    :: !(HAD_BARRIER) ->
#ifdef B_SNAP_EARLY
        atomic { turned[0] = 0; seen[0] = 1; turned[1] = 0; seen[1] = 1 };
#else
        atomic { turned[0] = 0; seen[0] = 0; turned[1] = 0; seen[1] = 0 };
#endif
        HEAVY_BARRIER
        barrier = s
    fi
}

/* Domain::new_barrier: of this pass, whatever barriers the period has had. */
inline new_barrier()
{
    if
    :: HAD_BARRIER
    :: !(HAD_BARRIER) -> atomic { turned[0] = 0; seen[0] = 0; turned[1] = 0; seen[1] = 0 }
    fi;
    HEAVY_BARRIER
    barrier = s
}

/*
 * Domain::offer_leave, of a reader that may have rested or not, which is only a guess; and what Domain::ask
 * makes of it behind the barrier.
 */
inline offer_leave(who)
{
#ifndef FENCED
    atomic { if :: nest[who] == 0 -> nest[who] = ASKED :: else fi };
#endif
    atomic { if :: state[who] & EXPLICIT -> state[who] = state[who] | OFFERED :: else fi };
#ifdef B_BARRIER_OF_THE_PERIOD
    need_barrier();
#else
    new_barrier();
#endif
    if
#if defined(FENCED) || defined(B_REST_IS_ENOUGH)
    :: !OPEN(nest[who]) ->
#else
    :: nest[who] == ASKED ->
#endif
        atomic {
            v = state[who];
            if
#ifdef B_PARK_IN_SPITE
            :: v & EXPLICIT ->
#else
            :: v & OFFERED ->
#endif
                state[who] = STATE(v >> 4, PARKED)
#ifdef W_OFFER
                ; assert(false)
#endif
            :: else
            fi;
            v = 0
        }
    :: else
    fi
}

/* One reader in a pass of Domain::expedite over period `s`. */
inline expedite_reader(who)
{
    atomic { v = state[who]; if :: SETTLED(v, s) -> v = OFFLINE :: else fi };
    if
    :: SETTLED(v, s)
    :: !SETTLED(v, s) && MAY_PARK ->
#ifdef B_PARK_STORE
        state[who] = v | PARKED
#else
        atomic { CAS_STATE(who, v | PARKED) }
#endif
#ifdef W_PARK
        ; assert(false)
#endif
    :: !SETTLED(v, s) && !(MAY_PARK) ->
        need_barrier();
        if
        :: !OPEN(nest[who]) -> atomic { CAS_STATE(who, STATE(s, v & FLAGS)) }
#ifdef W_BEHALF
            ; assert(false)
#endif
        :: OPEN(nest[who]) ->
            if
            :: !seen[who] -> atomic { turned[who] = 0; seen[who] = 1 }
#ifndef B_NO_TURN
            :: seen[who] && turned[who] -> atomic { CAS_STATE(who, STATE(s, v & FLAGS)) }
#ifdef W_TURN
                ; assert(false)
#endif
#endif
            :: else
            fi
        fi
    fi;
    v = 0
}

proctype Expediter()
{
    byte s, v, n;
    byte barrier;               /* the period of the last heavy barrier */
end:do
    :: atomic { (seq & 1) && !over -> s = seq; FORGET_BARRIER };
#ifdef ALONE
        if
        :: need_barrier()       /* another reader's need of it */
        :: true
#ifdef OFFER
        :: offer_leave(0)
#endif
        fi;
        expedite_reader(0);
#else
        expedite_reader(0);
        expedite_reader(1);
#endif
        try_complete(EXPEDITER)
    od
}

ltl progress { <> (reused == ROUNDS) }

init
{
    atomic {
#ifdef ALONE
        state[1] = STATE(0, OFFLINE);
#ifdef OFFER
        state[0] = STATE(0, EXPLICIT);
        run Reader(0, 1);
#else
        run Reader(0, 0);
#endif
#else
        state[0] = STATE(0, EXPLICIT);
        run Reader(0, 1);
        run Reader(1, 0);
        run Drain(1);
#endif
        run Drain(0);
        run DrainUpdater();
        run Updater();
#ifdef SAFETY
        run Anyone();
#endif
#ifndef LIVE_PASSIVE
        run Expediter()
#endif
    }
}
