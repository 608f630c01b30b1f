/* SPDX-License-Identifier: Apache-2.0
 *
 * ipc/bell.h: wakers publish items, sleepers take them and sleep while there are none.
 *
 * Names are the header's: rings, sleepers, announce, sleep, withdraw, wake, ring; `items` stands for
 * what is published (tail_ - head_ of a queue). Memory is TSO and a little weaker: a store that is
 * not seq_cst stays in its process's store buffer for as long as it likes, and a load that is not
 * seq_cst may be done before the seq_cst step that precedes it. Error: a sleeper sleeps while there
 * is an item, or an item is left over.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#define WAKERS 3
#define SLEEPERS 2

byte items;
byte rings;
byte sleepers;
byte taken;
byte asleep;              /* in the kernel's queue of the futex */
byte woken;               /* of those, to go on */
bit buffered_items[WAKERS];
bit buffered_sleepers[SLEEPERS];

proctype Waker(byte me) {
  bit somebody;

  /* publish: the seq_cst step of the queue */
#if MUTANT == 1  /* the publishing step is not seq_cst */
  buffered_items[me] = 1;
  somebody = sleepers != 0;
#elif MUTANT == 3  /* wake(): the look at sleepers is not seq_cst */
  somebody = sleepers != 0;
  items++;
#elif MUTANT == 8  /* nobody looks at sleepers after publishing */
  items++;
  somebody = 0;
#else
  items++;
  /* wake */
  somebody = sleepers != 0;
#endif
  if
  :: somebody ->
    /* ring */
#if MUTANT != 6  /* a ring does not change rings */
    rings++;
#endif
    d_step {
      if
      :: asleep > woken -> woken++
      :: else
      fi
    }
  :: else
  fi;
  /* the store buffer empties at some time */
  if
  :: buffered_items[me] -> d_step { items++; buffered_items[me] = 0 }
  :: else
  fi
}

proctype Sleeper(byte me) {
  byte seen;
  bit nothing;

  do
  :: taken == WAKERS -> break
  :: d_step { items > 0 -> items--; taken++ }
  :: items == 0 && taken < WAKERS ->
    /* announce */
#if MUTANT == 2  /* announce() is not seq_cst */
    buffered_sleepers[me] = 1;
    seen = rings;
    nothing = items == 0;
    /* before the sleep, which is a system call, or after */
    if
    :: d_step { sleepers++; buffered_sleepers[me] = 0 }
    :: skip
    fi;
#elif MUTANT == 4  /* the last look is not seq_cst */
    nothing = items == 0;
    sleepers++;
    seen = rings;
#elif MUTANT == 5  /* no last look */
    sleepers++;
    seen = rings;
    nothing = 1;
#elif MUTANT == 7  /* announce(): rings is not loaded with acquire, so the look may come first */
    sleepers++;
    nothing = items == 0;
    seen = rings;
#else
    sleepers++;
    seen = rings;
    /* the last look */
    nothing = items == 0;
#endif
    if
    :: nothing ->
      /* sleep: the kernel compares and queues in one step */
      atomic {
        if
        :: rings != seen
        :: else ->
          asleep++;
          (woken > 0 || taken == WAKERS);
          if
          :: woken > 0 -> woken--
          :: else
          fi;
          asleep--
        fi
      }
    :: else
    fi;
    if
    :: buffered_sleepers[me] -> d_step { sleepers++; buffered_sleepers[me] = 0 }
    :: else
    fi;
    /* withdraw */
    sleepers--
  od
}

init {
  byte i;
  atomic {
    for (i : 0 .. WAKERS - 1) { run Waker(i) }
    for (i : 0 .. SLEEPERS - 1) { run Sleeper(i) }
  }
}
