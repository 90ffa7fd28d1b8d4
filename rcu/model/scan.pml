/*
 * Who a scan looks at: cells with their announcements, the bits of `ReaderWord`, the counts of `ReaderBlock`
 * and `Summary` above them, the laggard at which a scan stops, and `resumes`, where the next one goes on.
 * README.md maps the names; `cargo xtask spin` runs this.
 *
 * engine.pml takes two things for granted, which are asserted here. A scan that ends a period leaves no
 * section open that had begun before the period did. And whoever changes something last ends the period: when
 * nobody has a step left to take, a period is in flight only if a reader is waited for that has not announced
 * it. Every load and store of a shared word is a step of its own. Memory is sequentially consistent: what the
 * owners of cells change here are locked instructions, and what the fences between them and a scan do is
 * engine.pml's and loom's. That a section is told from none is theirs, too: here every lock looks at its
 * bits.
 *
 * What runs:   two readers with STEPS0 and STEPS1 things to do, in any order; one who starts PERIODS periods
 *              and who parks PARKS times. Each scans where the code does.
 *
 * Build       -DTOGETHER    both cells in one word; otherwise each in a block of its own, in the two slots
 *                           that share a word of the summary
 * Breakage    -DB_...       one defence removed
 * Witness     -DW_...       assert(false) at a state that must be reachable
 */

#ifndef STEPS0
#define STEPS0 2        /* things each reader does */
#endif
#ifndef STEPS1
#define STEPS1 1
#endif
#ifndef PERIODS
#define PERIODS 2
#endif
#ifndef PARKS
#define PARKS 1
#endif
#define NONE 3          /* no cell */

#define BIT(c) (1 << (c))
#ifdef TOGETHER
#define SLOTS    1
#define SLOT(c)  0
#define CELLS(s) 3
#else
#define SLOTS    2
#define SLOT(c)  (c)
#define CELLS(s) BIT(s)
#endif
#define ONE(s)   (1 << (4 * (s)))       /* in the slot of the summary */

byte seq;               /* Domain::sequence */
byte laggard = NONE;    /* Scans::laggard */
byte in_slots;          /* Summary::in_slots: two counts in one word, so that one may borrow of the other */
byte in_group[SLOTS];   /* ReaderBlock::in_group */
byte is_active;         /* the bits of all words; a step reads or changes those of one */
byte explicit;
byte announced[2];
byte resumes[2];
byte parked;

/* Ghosts. */
byte open;              /* the reader is between a section's accesses */
byte old;               /* ... of one that began before the period in flight */
byte done;              /* readers that have nothing left to do */
bit busy;               /* the expediter */

#define LAGS(c) ((is_active | explicit) & BIT(c) && announced[c] < seq)

inline count_in(s)
{
    in_slots = in_slots + ONE(s);
    in_group[s]++
}

inline count_out(s)
{
    in_group[s]--;
    in_slots = in_slots - ONE(s)
}

/* ReaderBlock::arrive. */
inline arrive(locks)
{
#ifndef B_COUNT_LATE
    count_in(SLOT(me));
#endif
    atomic {
        b = (is_active | explicit) & BIT(me);
        is_active = is_active | BIT(me);
        explicit = explicit | (locks -> BIT(me) : 0)
    };
    if
#ifdef B_COUNT_LATE
    :: !b -> count_in(SLOT(me))
    :: else
#else
    :: b -> count_out(SLOT(me)); b = 0
    :: else
#endif
    fi
}

inline raise()
{
    p = seq;
    announced[me] = (announced[me] < p -> p : announced[me]);
    p = 0
}

/*
 * Domain::laggard_of(p) and, if it finds nobody, Domain::complete. `p` even: no period is in flight. Whether
 * where a scan stopped is worth noting depends on how far it went: here it may always be, or not. Ends with
 * every local at 0.
 */
inline try_complete()
{
    if
    :: !(p & 1)
    :: else ->
        hint = laggard;
        from = NONE;
        if
        :: hint != NONE ->
            /* ReaderCell::settled: the bit first. */
#ifdef B_ANNOUNCED_FIRST
            b = announced[hint] < p;
            if
            :: b && ((is_active | explicit) & BIT(hint)) -> found = hint
#else
            b = (is_active | explicit) & BIT(hint);
            if
            :: b && announced[hint] < p -> found = hint
#endif
            :: else ->
                b = 0;
                if
#if defined(B_RESUME_OLD)
                :: resumes[hint] && resumes[hint] <= p -> from = hint
#elif defined(B_HINT_IS_ENOUGH)
                :: true -> from = hint
#else
                :: resumes[hint] == p -> from = hint
#endif
                :: else
                fi
            fi
        :: else
        fi;
        if
        :: found != NONE ->
#ifdef B_NOTE_UNSEEN
            resumes[found] = p
#else
            skip
#endif
        :: else ->
            if
            :: from != NONE ->
#ifdef W_RESUMED
                assert(false);
#endif
                s = SLOT(from);
                rest = (is_active | explicit) & CELLS(s) & ~(BIT(from) - 1);
#ifdef W_NEWCOMER
                assert(!(from == 1 && LAGS(0) && seq == p));
#endif
                goto_cells = 1
            :: else -> s = 0
            fi;
            do
            :: s < SLOTS ->
                if
                :: goto_cells -> goto_cells = 0
                :: else ->
                    /* Summary::next_slot: one load says it of both. */
                    b = in_slots >> (4 * s);
                    s = (b & 15 -> s : (b -> s + 1 : SLOTS));
                    b = 0;
                    if
                    :: s < SLOTS ->
                        if
                        :: in_group[s] == 0 ->
#ifdef W_COUNT_SPARES_A_LOOK
                            assert(false);
#endif
                            skip
                        :: else ->
                            rest = (is_active | explicit) & CELLS(s);
#ifdef W_TOO_GREAT
                            assert(rest)
#endif
                        fi
                    :: else
                    fi
                fi;
                do
                :: rest ->
                    cell = (rest & 1 -> 0 : 1);
                    rest = rest & ~BIT(cell);
                    if
                    :: announced[cell] < p -> found = cell; rest = 0
                    :: else
                    fi
                :: else -> break
                od;
                if
                :: found != NONE -> break
                :: else -> s++
                fi
            :: else -> break
            od;
            if
            :: found == NONE ->
                atomic {
                    if
                    :: seq == p -> assert(!old); seq = p + 1
                    :: else
                    fi
                }
            :: else ->
                if
                :: resumes[found] = p
                :: from == NONE
                fi;
                laggard = found
            fi
        fi;
        d_step { found = NONE; from = NONE; hint = NONE; rest = 0; s = 0; b = 0; cell = 0 }
    fi;
    p = 0
}

#define LOCALS \
    byte p, hint = NONE, from = NONE, found = NONE, rest, s, b, cell; \
    bit goto_cells

proctype Reader(bit me)
{
    LOCALS;
    byte steps;
    bit offline, locks, arrives;
    do
    :: steps < (me -> STEPS1 : STEPS0) ->
        steps++;
        if
        :: !(open & BIT(me)) && !offline ->     /* lock, with lock_slow; or an announcement */
            if
            :: locks = 1;
                if
                :: (is_active & explicit) & BIT(me)
                :: else ->                      /* come_online */
                    b = (is_active | explicit) & BIT(me);
                    if
                    :: !b -> raise()
                    :: else
                    fi;
                    b = 0;
                    arrives = 1
                fi
            :: true ->                          /* ReaderCell::quiescent_state, announce */
                p = seq;
                if
                :: (!(p & 1) || announced[me] >= p) && !(parked & BIT(me)) -> p = 0
                :: else ->
                    announced[me] = (announced[me] < p -> p : announced[me]);
                    if
                    :: parked & BIT(me) -> parked = parked & ~BIT(me); arrives = 1
                    :: else
                    fi
                fi
            fi;
            if
            :: arrives -> arrives = 0; arrive(locks)
            :: else
            fi;
            if
            :: locks -> locks = 0; open = open | BIT(me)
            :: else ->
#ifdef B_ANNOUNCE_NO_SCAN
                p = 0;
#endif
                try_complete()
            fi
        :: open & BIT(me) ->                    /* unlock */
            d_step { open = open & ~BIT(me); old = old & ~BIT(me) }
        :: !(open & BIT(me)) && !offline ->     /* ReaderCell::go_offline, ReaderBlock::depart */
            offline = 1;
            atomic {
                b = (is_active | explicit) & BIT(me);
                is_active = is_active & ~BIT(me);
                explicit = explicit & ~BIT(me)
            };
            if
            :: b -> b = 0; count_out(SLOT(me))
            :: else
            fi;
#ifndef B_OFFLINE_NO_SCAN
            p = seq;
            try_complete()
#endif
        :: offline ->                           /* ReaderCell::online */
            offline = 0;
            /* come_online: nobody has set the bit. */
#ifdef B_BIT_FIRST
            count_in(SLOT(me));
            is_active = is_active | BIT(me);
            raise()
#else
            raise();
#ifdef B_COUNT_LATE
            is_active = is_active | BIT(me);
            count_in(SLOT(me))
#else
            count_in(SLOT(me));
            is_active = is_active | BIT(me)
#endif
#endif
        fi
    :: else -> break
    od;
    done++
}

/*
 * An expediter: Domain::begin, by whoever asks for a period, and the scan behind it (Domain::start); and
 * ReaderBlock::park, of implicit readers, and the scan behind that.
 */
proctype Other()
{
    LOCALS;
    byte periods, parks;
end:do
    :: atomic { periods < PERIODS && !(seq & 1) -> busy = 1; periods++; seq++; old = open; p = seq };
#ifdef B_START_NO_SCAN
        p = 0;
#endif
        try_complete();
        busy = 0
    :: atomic { parks < PARKS -> busy = 1; parks++ };
        if :: cell = 0 :: cell = 1 fi;
#ifdef B_PARK_COUNTS_FIRST
        count_out(SLOT(cell));
#endif
        atomic {
            if
            :: is_active & ~explicit & BIT(cell) -> is_active = is_active & ~BIT(cell); b = 1
            :: else
            fi
        };
        if
        :: b ->
            b = 0;
#ifndef B_PARK_COUNTS_FIRST
            count_out(SLOT(cell));
#endif
            parked = parked | BIT(cell)
        :: else ->
#ifdef B_PARK_COUNTS_FIRST
            count_in(SLOT(cell))
#else
            skip
#endif
        fi;
        cell = 0;
        p = seq;
        try_complete();
        busy = 0
    od
}

proctype Watcher()
{
    atomic { done == 2 && !busy -> assert(!(seq & 1) || LAGS(0) || LAGS(1)) }
}

init
{
    atomic {
        /* Two implicit readers, registered and online. */
        is_active = 3;
#ifdef TOGETHER
        in_slots = 2;
        in_group[0] = 2;
#else
        in_slots = ONE(0) + ONE(1);
        in_group[0] = 1;
        in_group[1] = 1;
#endif
        run Reader(0);
        run Reader(1);
        run Other();
        run Watcher()
    }
}
