/* SPDX-License-Identifier: Apache-2.0
 *
 * ipc/rcqs.h, step by step: Enqueuer is try_enqueue() until it succeeds, Dequeuer is try_dequeue()
 * again and again, Repairer calls repair() after each death. Names are the header's. An atomic access
 * there is an atomic step here, with what follows it that no other party can see. What the header says
 * with `return` (full, or nothing there) is here a wait for a change, so that a party that nobody
 * would help is an invalid end state.
 * A compare-and-swap that fails is tried again with what it found, so that and the load are one step.
 *
 * Errors: an item comes twice or never, or somebody waits for ever. Left out of account: an item whose
 * enqueuer dies before the slot is filled, and one that a dead dequeuer had in its hands.
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
#ifndef LATE
#define LATE 0
#endif
/* LATE is how often a dequeuer ends the ticket of an enqueuer that is alive: without a bound the
 * cursors could grow for ever. Beyond it the dequeuer waits for the enqueuer here. */
#define CAPACITY 2
#define TICKETS 24

#define turn_of(ticket) ((ticket) / CAPACITY)

byte tail, head;
byte turn[CAPACITY];
byte item[CAPACITY];

/* For the check alone. */
bit abandoned[TICKETS];  /* whose enqueuer is dead or has gone on to another ticket */
byte late = LATE;
byte crashes = CRASHES;
byte alive = DEQUEUERS;  /* the last one does not die */
byte to_repair;
byte expected = ENQUEUERS;
byte delivered;
bit got[ENQUEUERS + 1];

#define DIES crashes > 0 -> crashes--; to_repair++

inline deliver(what) {
  assert(!got[what]);
  got[what] = 1;
  delivered++
}

proctype Enqueuer(byte me) {
  byte ticket, seen_turn, seen_item;

draw:
  /* looks_full */
  atomic { (tail - head < CAPACITY || head > tail) };
  d_step { seen_turn = 0; seen_item = 0; ticket = tail; tail++; assert(tail < TICKETS) };
  atomic {
    if
    :: true
    :: DIES; abandoned[ticket] = 1; expected--; goto end
    fi;
    seen_turn = turn[ticket % CAPACITY];
    seen_item = item[ticket % CAPACITY];
#if MUTANT == 3 || MUTANT == 5
  };
again:
  atomic {
#else
again:
#endif
    if
#if MUTANT == 1  /* a slot in a later turn is filled */
    :: seen_item == 0
#elif MUTANT == 2  /* an item of an earlier turn is overwritten */
    :: seen_turn <= turn_of(ticket)
#else
    :: seen_turn <= turn_of(ticket) && seen_item == 0
#endif
    :: else -> abandoned[ticket] = 1; goto draw
    fi;
    if
#if MUTANT == 3  /* the slot is filled by a store */
    :: true ->
#else
    :: turn[ticket % CAPACITY] == seen_turn && item[ticket % CAPACITY] == seen_item ->
#endif
      turn[ticket % CAPACITY] = turn_of(ticket);
      item[ticket % CAPACITY] = me;
      goto end
    :: else
    fi;
    seen_turn = turn[ticket % CAPACITY];
    seen_item = item[ticket % CAPACITY];
    goto again
  };
end:
  skip
}

proctype Dequeuer() {
  byte ticket, seen_turn, seen_item;

draw:
  /* looks_empty */
  atomic {
    ticket = 0; seen_turn = 0; seen_item = 0;
    if
    :: delivered == expected -> goto end
    :: head < tail
    fi
  };
  d_step { ticket = head; head++; assert(head < TICKETS) };
  atomic {
    if
    :: true
    :: alive > 1 && DIES; alive--; goto end
    fi;
    seen_turn = turn[ticket % CAPACITY];
    seen_item = item[ticket % CAPACITY];
#if MUTANT == 3 || MUTANT == 5
  };
again:
  atomic {
#else
again:
#endif
    if
#if MUTANT == 4  /* the turn in the slot is not looked at */
    :: true
#else
    :: seen_turn <= turn_of(ticket)
#endif
    :: else -> goto draw
    fi;
    if
    :: seen_item != 0 || abandoned[ticket]
    :: seen_item == 0 && late > 0 && !abandoned[ticket] -> late--
    :: turn[ticket % CAPACITY] != seen_turn || item[ticket % CAPACITY] != seen_item
    :: delivered == expected
    fi;
    /* take */
    if
#if MUTANT == 5  /* the slot is emptied by a store */
    :: true ->
#else
    :: turn[ticket % CAPACITY] == seen_turn && item[ticket % CAPACITY] == seen_item ->
#endif
#if MUTANT == 6  /* an empty slot is passed, its turn not ended */
      if
      :: seen_item == 0 -> goto draw
      :: else
      fi;
#endif
      turn[ticket % CAPACITY] = turn_of(ticket) + 1;
      item[ticket % CAPACITY] = 0;
      if
      :: seen_item != 0 -> deliver(seen_item)
      :: else
      fi;
      if
      :: true
      :: seen_item != 0 && alive > 1 && DIES; alive--; goto end  /* with an item in its hands */
      fi;
      goto draw
    :: else
    fi;
    seen_turn = turn[ticket % CAPACITY];
    seen_item = item[ticket % CAPACITY];
    goto again
  };
end:
  skip
}

proctype Repairer() {
  byte seen_head, seen_turn, seen_item, index, ends;

wait:
  atomic {
    seen_head = 0; seen_turn = 0; seen_item = 0; index = 0; ends = 0;
    if
    :: to_repair > 0 -> to_repair--; seen_head = head
    :: to_repair == 0 && delivered == expected -> goto end
    fi
  };
#if MUTANT != 7  /* nobody repairs */
slot:
  atomic {
    if
    :: index == CAPACITY -> goto wait
    :: else
    fi;
    seen_turn = turn[index];
    seen_item = item[index];
    ends = turn_of(seen_head) + (seen_head % CAPACITY > index -> 1 : 0);
#if MUTANT == 8  /* empty slots are left alone */
    if
    :: seen_turn >= ends || seen_item == 0 -> index++; goto slot
    :: else
    fi;
#else
    if
    :: seen_turn >= ends -> index++; goto slot
    :: else
    fi;
#endif
#if MUTANT == 9
  };
  atomic {
#endif
    if
#if MUTANT == 9  /* repair empties by a store */
    :: true ->
#else
    :: turn[index] == seen_turn && item[index] == seen_item ->
#endif
      turn[index] = ends;
      item[index] = 0;
      if
      :: seen_item != 0 -> deliver(seen_item)
      :: else
      fi;
      index++
    :: else
    fi;
    goto slot
  };
#else
  goto wait;
#endif
end:
  skip
}

init {
  byte i;
  atomic {
    for (i : 1 .. ENQUEUERS) { run Enqueuer(i) }
    for (i : 1 .. DEQUEUERS) { run Dequeuer() }
    run Repairer()
  }
}
