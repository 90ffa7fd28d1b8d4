/*
 * One reader and the signal handlers that interrupt it anywhere: `ReaderCell`'s slow paths, step by
 * step, with the cold mode of `nest`. README.md maps the names; `scripts/spin` runs this.
 *
 * engine.pml takes for granted that an open section stands under the flag EXPLICIT and neither OFFLINE
 * nor PARKED, from its first access to its last. That is what is asserted here. Sequences are left out:
 * a reader may be lagging, and be parked, at any time. Memory is sequentially consistent: engine.pml is
 * about what fences do, this is about what a handler finds, and leaves behind, when it interrupts a
 * slow path half-way. A handler runs to its end before the thread goes on.
 *
 * Breakage    -DB_...   a slow path does not reckon with a handler
 * Witness     -DW_...   assert(false) at a state that must be reachable
 */

#define EXPLICIT 1
#define OFFLINE  2
#define PARKED   4

byte state;             /* the flags; registered, online, never locked */
byte depth;             /* `nest` is one word: BIAS + depth if cold, else depth */
bit cold = 1;
bit said_offline;       /* owner's: a section's end goes offline, and none leaves the cold mode */
bit open[2];            /* the thread (0), its handler (1) is between a section's accesses */
bit in_handler;

#define PROTECTED ((state & (EXPLICIT | OFFLINE | PARKED)) == EXPLICIT)

/* ReaderCell::go_offline, without try_complete. */
inline go_offline()
{
#ifndef B_SAID_LATE
    said_offline = 1;
#endif
    atomic { if :: depth == 0 -> cold = 1 :: else fi };
    state = OFFLINE | (state & EXPLICIT)
#ifdef B_SAID_LATE
    ; said_offline = 1
#endif
}

/* ReaderCell::quiescent_state and announce, whatever the sequence. */
inline quiescent_state()
{
    v = state;
    if
    :: (v & OFFLINE) || depth
    :: else ->
#ifdef B_ANNOUNCE_STORE
        state = v & EXPLICIT            /* the copy may be older than a handler's first lock */
#else
        state = state & EXPLICIT        /* one read-modify-write: set_state */
#endif
    fi;
    v = 0
}

/* ReaderCell::online. */
inline online()
{
    said_offline = 0;
    v = state;
    if
    :: v & (OFFLINE | PARKED) ->
#ifdef B_ONLINE_STORE
        state = v & EXPLICIT
#else
        state = state & EXPLICIT        /* come_online */
#endif
    :: else
    fi;
    v = 0
}

/* A section of the thread (0) or of its handler (1): lock, lock_slow, its accesses, unlock. */
inline section(who)
{
    atomic { depth++; slow = cold };
    if
    :: !slow
    :: slow ->
        v = state;
        if
        :: (v & (EXPLICIT | OFFLINE)) != EXPLICIT -> state = EXPLICIT   /* come_online */
        :: else
        fi;
        v = 0;
        if
        :: said_offline
        :: else -> cold = 0
        fi
    fi;
    open[who] = 1;
#ifdef W_OFFLINE_SECTION
    assert(!(who == 1 && said_offline));
#endif
    atomic { open[who] = 0; depth--; slow = (cold && depth == 0) };
    if
    :: slow && said_offline -> go_offline()
    :: !(slow && said_offline)
    :: !(slow && said_offline) -> quiescent_state()     /* take_turn */
    fi;
    slow = 0
}

proctype Thread() provided (!in_handler)
{
    byte v;
    bit slow;
    do
    :: section(0)
    :: quiescent_state()
    :: go_offline()
    :: online()
    od
}

proctype Handler()
{
    byte v;
    bit slow;
    do
    :: in_handler = 1;
#ifdef W_INTERRUPTED_FIRST_LOCK
        assert(!(depth && !(state & EXPLICIT)));
#endif
        section(1);
        in_handler = 0
    od
}

proctype Expediter()
{
    byte v;
    do
    :: atomic { !(state & (EXPLICIT | OFFLINE | PARKED)) -> v = state };
        atomic { if :: state == v -> state = v | PARKED :: else fi; v = 0 }
    od
}

proctype Watcher()
{
    assert(!(open[0] || open[1]) || PROTECTED)      /* at any one time */
}

init
{
    atomic { run Thread(); run Handler(); run Expediter(); run Watcher() }
}
