/*
 * One reader and the signal handlers that interrupt it anywhere: `ReaderCell`'s slow paths, step by
 * step, with the cold mode of `nest`, and `turn`. README.md maps the names; `cargo xtask spin` runs this.
 *
 * engine.pml takes two things for granted, which are asserted here. An open section stands under the
 * bit EXPLICIT from its first access to its last: it is waited for and nobody parks it, though leave may be
 * on offer. And where `turn` is not what an expediter
 * remembered while a section was open, that section has ended. Sequences are left out: a reader may be
 * lagging, and be parked, at any time. Memory is sequentially consistent: engine.pml is about what fences
 * do, this is about what a handler finds, and leaves behind, when it interrupts a slow path half-way. A
 * handler runs to its end before the thread goes on.
 *
 * Breakage    -DB_...   a slow path does not reckon with a handler
 * Witness     -DW_...   assert(false) at a state that must be reachable
 */

#define ACTIVE   1
#define EXPLICIT 2

byte bits = ACTIVE;     /* of the reader's word; registered, online, never locked */
byte depth;             /* `nest` is one word: BIAS (or ASKED) + depth if cold, else depth */
bit cold = 1;
bit said_offline;       /* owner's: a section's end goes offline, and none leaves the cold mode */
byte turn;              /* modulo TURNS: more than end between two passes here */
bit open[2];            /* the thread (0), its handler (1) is between a section's accesses */
bit watched[2];         /* ... and was, when the expediter remembered `turn` */
bit in_handler;

#define TURNS 8
#define PROTECTED (bits & EXPLICIT)

/* ReaderCell::go_offline, without try_complete. */
inline go_offline()
{
#ifndef B_SAID_LATE
    said_offline = 1;
#endif
    atomic { if :: depth == 0 -> cold = 1 :: else fi };
    bits = 0                                    /* one read-modify-write: depart */
#ifdef B_SAID_LATE
    ; said_offline = 1
#endif
}

/* ReaderCell::quiescent_state and announce, whatever the sequence. */
inline quiescent_state()
{
    if
    :: said_offline
    :: !said_offline ->
        if
        :: depth
        :: !depth ->
            v = bits;
            if
            :: v                                /* announces; the bits are not its business */
            :: !v ->                            /* was parked */
#ifdef B_ANNOUNCE_STORE
                bits = v | ACTIVE               /* the copy may be older than a handler's first lock */
#else
                bits = bits | ACTIVE            /* one read-modify-write: arrive */
#endif
            fi;
            v = 0
        fi
    fi
}

/* ReaderCell::online. */
inline online()
{
    said_offline = 0;
    v = bits;
    if
    :: !v ->
#ifdef B_ONLINE_STORE
        bits = v | ACTIVE
#else
        bits = bits | ACTIVE                    /* come_online, arrive */
#endif
    :: else
    fi;
    v = 0
}

/* A section of the thread (0) or of its handler (1): lock, lock_slow, its accesses, unlock. */
inline section(who)
{
#ifdef B_INNER_LEANS
    atomic { depth++; slow = cold && depth == 1 };  /* as if what it interrupted had looked */
#else
    atomic { depth++; slow = cold };
#endif
    if
    :: !slow
    :: slow ->
        v = bits;
        if
#ifdef B_LOCK_OVERLOOKS_OFFER
        :: !(v & EXPLICIT) -> bits = ACTIVE | EXPLICIT
#else
        :: v != (ACTIVE | EXPLICIT) -> bits = ACTIVE | EXPLICIT         /* come_online, arrive */
#endif
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
    /* The decrement. It came out as 0, or as BIAS, or neither. */
    atomic { open[who] = 0; watched[who] = 0; depth--; outer = (depth == 0); slow = cold };
    if
    :: !outer ->
#ifdef B_INNER_COUNTS
        turn = (turn + 1) % TURNS
#else
        skip
#endif
    :: outer && !slow ->
        /* One instruction: arch::unlock. take_turn announces, and the bit of who was in a section is set. */
        turn = (turn + 1) % TURNS
    :: outer && slow ->
        if
        :: !cold                    /* unlock_inner: a handler has left the cold mode, and counted */
        :: cold ->
            w = turn;
#ifdef W_COUNTING
            assert(!(who == 0 && turn != w));
#endif
            turn = (w + 1) % TURNS;             /* handlers' counts in between are lost */
            w = 0;
            if
            :: said_offline -> go_offline()
            :: else                             /* take_turn, as above */
            fi
        fi
    fi;
    slow = 0; outer = 0
}

proctype Thread() provided (!in_handler)
{
    byte v, w;
    bit slow, outer;
    do
    :: section(0)
    :: quiescent_state()
    :: go_offline()
    :: online()
    od
}

proctype Handler()
{
    byte v, w;
    bit slow, outer;
    do
    :: in_handler = 1;
#ifdef W_INTERRUPTED_FIRST_LOCK
        assert(!(depth && !(bits & EXPLICIT)));
#endif
        section(1);
        in_handler = 0
    od
}

/* ReaderBlock::park. */
proctype Parker()
{
    do
    :: bits = (bits == ACTIVE -> 0 : bits)
    od
}

/*
 * Domain::offer_leave and what Domain::ask makes of it. That an increment may go over ASKED, and what the
 * barrier is for, is engine.pml's: here an increment is one step and every store is seen at once.
 */
proctype Offerer()
{
    do
    :: atomic { if :: depth == 0 && !cold -> cold = 1 :: else fi };     /* ask_for_cold_mode */
        atomic { bits == (ACTIVE | EXPLICIT) -> bits = EXPLICIT };      /* offer */
        if
#ifdef B_PARK_UNSEEN
        :: true ->
#else
        :: depth == 0 && cold ->                                        /* is_at_rest */
#endif
#ifdef B_PARK_IN_SPITE
            atomic { bits = (bits & EXPLICIT -> 0 : bits) }
#else
            atomic { bits = (bits == EXPLICIT -> 0 : bits) }            /* park */
#endif
#ifdef W_PARKED
            ; assert(bits)
#endif
        :: else                                                         /* the offer stays */
        fi
    od
}

/* ReaderCell::is_quiet: remembers `turn` while a section is open, and goes by what it is later. */
proctype Expediter()
{
    byte seen;
    do
    :: atomic { depth && !(open[0] && watched[0]) && !(open[1] && watched[1]) ->
            seen = turn; watched[0] = open[0]; watched[1] = open[1] };
        if
        :: atomic { turn != seen -> assert(!watched[0] && !watched[1]) }
        :: atomic { depth == 0 -> assert(!watched[0] && !watched[1]) }
        fi;
        atomic { watched[0] = 0; watched[1] = 0; seen = 0 }
    od
}

proctype Watcher()
{
    assert(!(open[0] || open[1]) || PROTECTED)      /* at any one time */
}

init
{
    atomic { run Thread(); run Handler(); run Parker(); run Offerer(); run Expediter(); run Watcher() }
}
