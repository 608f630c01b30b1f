/* SPDX-License-Identifier: Apache-2.0
 *
 * ipc/doorbell_queue.h, step by step: Enqueuer is try_enqueue() with draw() and has_room() until it
 * succeeds, Dequeuer is try_dequeue() again and again. Names are the header's. An atomic access there is
 * an atomic step here, with what follows it that no other party can see. What the header says with `return` (full, or nothing there)
 * is here a wait for a change, so that a party that nobody would help is an invalid end state.
 * A slot keeps its word for a turn, so loading it and the compare-and-swap that follows are one step.
 * NEAR stands for Capacity - Capacity / 4. Hostile contents are not modelled: the unit test has them.
 *
 * Errors: a doorbell comes twice or never, or somebody waits for ever. Left out of account: a doorbell
 * whose enqueuer dies before the slot is filled, and one that a dead dequeuer had in its hands.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef ENQUEUERS
#define ENQUEUERS 3
#endif
#ifndef DEQUEUERS
#define DEQUEUERS 3
#endif
#define CAPACITY 2
#define NEAR 1
#define TICKETS 24
#ifndef LATE
#define LATE 0
#endif
/* LATE is how often a living enqueuer's slot is retired, or a ticket drawn beyond the end: without a
 * bound tail_ could grow for ever. */

#define turn_of(ticket) (1 + (ticket) / CAPACITY)

byte tail, head, head_seen;
byte turn[CAPACITY];
byte doorbell[CAPACITY];

/* For the check alone. */
bit abandoned[TICKETS];  /* whose enqueuer will not fill it: dead, or refused */
byte late = LATE;
byte crashes = CRASHES;
byte alive = DEQUEUERS;  /* the last one does not die */
byte expected = ENQUEUERS;
byte delivered;
bit got[ENQUEUERS + 1];

#define DIES crashes > 0 -> crashes--

inline has_room() {
  room = 1;
  if
  :: ticket - head_seen < CAPACITY
  :: else -> head_seen = head; room = ticket - head < CAPACITY
  fi
}

proctype Enqueuer(byte me) {
  byte ticket, seen_turn, seen_doorbell;
  bit room;

draw:
  atomic {
    room = 0; seen_turn = 0; seen_doorbell = 0;
    ticket = tail;
    if
    :: ticket - head_seen < NEAR
    :: else -> goto near_the_end
    fi
  };
  atomic {
    ticket = tail;
    if
    :: ticket - head_seen < CAPACITY
    :: ticket - head_seen >= CAPACITY && late > 0 -> late--
    :: else -> goto draw
    fi;
    tail++;
    assert(tail < TICKETS);
    goto drawn
  };
near_the_end:
  atomic {
    has_room();
    if
    :: !room -> goto no_room
    :: else
    fi;
    if
    :: ticket - head_seen < NEAR -> goto draw
    :: else
    fi
  };
  atomic {
    if
    :: tail == ticket -> tail++; assert(tail < TICKETS)
    :: else -> goto draw
    fi
  };
drawn:
  atomic {
    if
    :: true
    :: DIES; abandoned[ticket] = 1; expected--; goto end
    fi
  };
#if MUTANT != 1  /* no look whether head_ has passed the slot */
  atomic {
    has_room();
    if
    :: !room -> goto refused
    :: else
    fi
  };
#endif
  atomic {
    seen_turn = turn[ticket % CAPACITY];
    seen_doorbell = doorbell[ticket % CAPACITY];
    if
    :: seen_turn != turn_of(ticket) - 1 -> goto draw
    :: else
    fi;
#if MUTANT == 2 || MUTANT == 5
  };
  atomic {
#endif
    if
#if MUTANT == 2  /* the slot is filled by a store */
    :: true ->
#else
    :: turn[ticket % CAPACITY] == seen_turn && doorbell[ticket % CAPACITY] == seen_doorbell ->
#endif
      turn[ticket % CAPACITY] = turn_of(ticket);
      doorbell[ticket % CAPACITY] = me
    :: else ->
#if MUTANT == 5  /* a lost slot is taken for a filled one */
      skip
#else
      goto draw
#endif
    fi;
    goto end
  };
refused:
  abandoned[ticket] = 1;
no_room:
  atomic { (tail - head < CAPACITY || abandoned[head]); goto draw };
end:
  skip
}

proctype Dequeuer() {
  byte seen_head, seen_tail, seen_turn, seen_doorbell;

again:
  atomic {
    seen_tail = 0; seen_turn = 0; seen_doorbell = 0; seen_head = 0;
    if
    :: delivered == expected -> goto end
    :: else -> seen_head = head
    fi
  };
  atomic {
    seen_turn = turn[seen_head % CAPACITY];
    seen_doorbell = doorbell[seen_head % CAPACITY];
    if
    :: true
    :: alive > 1 && DIES; alive--; goto end
    fi;
    if
#if MUTANT == 7  /* the turn in the slot is not looked at */
    :: seen_doorbell != 0
#else
    :: seen_turn == turn_of(seen_head)
#endif
    :: else -> goto not_filled
    fi
  };
  atomic {
    if
#if MUTANT == 4  /* head_ is moved by a store */
    :: true ->
#else
    :: head == seen_head ->
#endif
      head = seen_head + 1;
      if
      :: seen_doorbell != 0 -> assert(!got[seen_doorbell]); got[seen_doorbell] = 1; delivered++
      :: else
      fi;
      if
      :: true
      :: seen_doorbell != 0 && alive > 1 && DIES; alive--; goto end  /* with a doorbell in its hands */
      fi
    :: else
    fi;
    goto again
  };
not_filled:
  seen_tail = tail;
  atomic {
#if MUTANT != 9  /* a stale head_ is not noticed */
    if
    :: head != seen_head -> goto again
    :: else
    fi;
#endif
    if
    :: seen_tail != seen_head -> goto looks
    :: else
    fi
  };
  /* nothing there */
  atomic {
    if
    :: tail != head -> goto again
    :: delivered == expected -> goto end
    fi
  };
looks:
  atomic {
    if
#if MUTANT != 3  /* holes are not retired */
    :: abandoned[seen_head]
    :: !abandoned[seen_head] && late > 0 -> late--
#endif
    :: (turn[seen_head % CAPACITY] != seen_turn || head != seen_head) -> goto again
    fi
  };
  atomic {
    if
#if MUTANT == 6  /* a hole is retired by a store */
    :: true ->
#else
    :: turn[seen_head % CAPACITY] == seen_turn && doorbell[seen_head % CAPACITY] == seen_doorbell ->
#endif
#if MUTANT == 8  /* a hole is passed, not retired */
      if
      :: head == seen_head -> head++
      :: else
      fi
#else
      turn[seen_head % CAPACITY] = turn_of(seen_head);
      doorbell[seen_head % CAPACITY] = 0
#endif
    :: else
    fi;
    goto again
  };
end:
  skip
}

init {
  byte i;
  atomic {
    for (i : 1 .. ENQUEUERS) { run Enqueuer(i) }
    for (i : 1 .. DEQUEUERS) { run Dequeuer() }
  }
}
