/*
 * The range map's walk against a writer that replaces leaves: publish, mark dead, retire, use again.
 *
 * A parent has one slot; it points to one of NODES leaves. Each leaf holds one value, the number of the
 * change that it was written for. A writer, again and again: takes a free leaf, writes its content,
 * stores it into the slot, marks the old leaf dead, returns (`returned`: what the world knows to have
 * happened), and uses the old leaf again behind a grace period. A reader has a cursor: in one section it
 * makes two steps, and keeps its leaf from the first to the second. Memory is x86-TSO: the writer's
 * stores wait in a buffer, in order; the reader makes none. README.md maps the names; `cargo xtask
 * spin` runs this.
 *
 * Claims: a step never gives a value that a change had replaced which returned before the step began; a
 * reader never reads a leaf that is being used again; and a step ends (the reader begins again at the root
 * at most as often as there are changes).
 *
 * Breakage    -DB_...   a defence is removed
 * Witness     -DW_...   assert(false) at a state that must be reachable
 */

#define NODES   3
#define CHANGES 3
#define NONE    255

byte slot;                      /* the parent's slot, in memory */
byte content[NODES];            /* written while free, read by readers as plain memory */
bit  dead[NODES];
bit  writing[NODES];            /* the leaf is free or being written */
byte returned;                  /* the number of the last change that returned */
bit  reading;                   /* a section is open */
bit  waits_for_section;         /* the grace period in flight waits for the section that was open */

/* The writer's store buffer: two stores, to the slot and to a mark, in order. */
byte buffer_slot = NONE, buffer_dead = NONE;
bit  dead_first;                /* which of the two is the older */

inline drain_one()
{
    atomic {
        if
        :: buffer_slot != NONE && (!dead_first || buffer_dead == NONE) ->
            slot = buffer_slot; buffer_slot = NONE
        :: buffer_dead != NONE && (dead_first || buffer_slot == NONE) ->
            dead[buffer_dead] = 1; buffer_dead = NONE
        fi
    }
}

proctype Drain()
{
    do
    :: buffer_slot != NONE || buffer_dead != NONE -> drain_one()
    od
}

active proctype Writer()
{
    byte change = 1, old, fresh, waiting = NONE;
end:
    do
    :: change <= CHANGES ->
        /* A free leaf: not the one in the tree, and not the one that waits. */
        atomic {
            old = (buffer_slot != NONE -> buffer_slot : slot);
            fresh = 0;
            do
            :: fresh == old || fresh == waiting -> fresh++
            :: else -> break
            od
        };
#ifdef B_EDIT
        fresh = old;
#endif
        /* Not before the slot is free in the buffer: one store of each kind at a time. */
        atomic { buffer_slot == NONE && buffer_dead == NONE -> writing[fresh] = 1 };
        content[fresh] = change;
        atomic { writing[fresh] = 0; dead[fresh] = 0 };
#ifndef B_EDIT
#ifdef B_MARK_FIRST
        atomic { buffer_dead = old; dead_first = 1 };
        buffer_slot = fresh;
#else
        buffer_slot = fresh;
        atomic { buffer_dead = old; dead_first = 0 };
#endif
#endif
        /* The lock is let go by an exchange, and a cookie is taken behind a fence: the buffer is empty. */
        atomic { buffer_slot == NONE && buffer_dead == NONE -> returned = change };
#ifndef B_NO_GRACE
        /* A grace period: a section that is open now has ended before the leaf is used again. */
        waits_for_section = reading;
        !waits_for_section;
#endif
        change++
    :: else -> break
    od
}

inline step()
{
    began = returned;
    do
    :: true ->
        if
        :: leaf == NONE -> leaf = slot
        :: else
        fi;
        assert(!writing[leaf]);         /* plain memory: nobody writes it while we may read it */
        value = content[leaf];
        assert(!writing[leaf]);
#ifndef B_NO_DEAD_CHECK
        if
        :: dead[leaf] ->
#ifdef W_RESTART
            assert(false);
#endif
            leaf = NONE; restarts++;
            assert(restarts <= 2 * CHANGES)     /* each restart is one more change that was seen */
        :: else -> break
        fi
#else
        break
#endif
    od;
    assert(value >= began);
#ifdef W_LATE
    assert(value >= returned);          /* the step may give what a change that has just returned replaced */
#endif
}

active proctype Reader()
{
    byte leaf = NONE, value, began, restarts;
endreader:
    do
    :: reading = 1;
       restarts = 0;
       step();
       step();
       atomic { leaf = NONE; value = 0; began = 0; restarts = 0 };
       atomic { reading = 0; waits_for_section = 0 }
    od
}

init
{
    run Drain()
}
