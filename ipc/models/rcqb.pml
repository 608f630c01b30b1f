/* SPDX-License-Identifier: Apache-2.0
 *
 * ipc/rcqb.h, step by step: Enqueuer is enqueue() with fill(), Dequeuer is dequeue() with take() and
 * take_locked(), again and again, Repairer takes drawn() and calls repair() after each death. Names
 * are the header's. An atomic access there is an atomic step here, with what follows it that no other
 * party can see; storing and taking the item are steps of their own. `waiting` is a wait for a change
 * of the slot, and so is calling repair() again while it is not 0.
 *
 * Errors: an item comes twice, torn, or never; somebody but an idle dequeuer waits for ever. Left out
 * of account: an item whose enqueuer dies before it is valid, and one that a dead party had in its
 * hands.
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
#define TICKETS 24
#define OWNERS (ENQUEUERS + DEQUEUERS + 2)
#define TORN 255

mtype = { kEmpty, kFilling, kValid, kTaking };
#define turn_of(ticket) ((ticket) / CAPACITY)
#define drawn_from(cursor, index) (turn_of(cursor) + (((cursor) % CAPACITY) > (index) -> 1 : 0))

byte tail, head;
byte turn[CAPACITY];
mtype state[CAPACITY] = kEmpty;
byte owner[CAPACITY];
byte item[CAPACITY];

/* For the check alone. */
byte crashes = CRASHES;
byte to_repair;
byte alive = DEQUEUERS;  /* the last one does not die */
bit dead[OWNERS];
byte expected = ENQUEUERS;
byte delivered;
bit got[ENQUEUERS + 1];

#define DIES crashes > 0 -> crashes--; to_repair++; dead[me] = 1
#define SLOT ticket % CAPACITY

inline deliver(what) {
  assert(what != TORN && what != 0 && !got[what]);
  got[what] = 1;
  delivered++
}

proctype Enqueuer(byte me) {
  byte ticket;

draw:
  atomic {
    ticket = tail;
    tail++;
    assert(tail < TICKETS);
    if
    :: true
    :: DIES; expected--; goto end
    fi
  };
waits:
  atomic {
    (turn[SLOT] > turn_of(ticket)
#if MUTANT == 1  /* the turn in the slot is not looked at */
     || state[SLOT] == kEmpty
#else
     || (turn[SLOT] == turn_of(ticket) && state[SLOT] == kEmpty)
#endif
    );
    if
    :: turn[SLOT] > turn_of(ticket) ->
#if MUTANT == 2  /* a lost slot is taken for a filled one */
      goto end
#else
      goto draw
#endif
    :: else
    fi;
#if MUTANT != 3  /* locking is a look and a store */
    state[SLOT] = kFilling;
    owner[SLOT] = me;
#endif
  };
#if MUTANT == 3
  atomic { state[SLOT] = kFilling; owner[SLOT] = me; turn[SLOT] = turn_of(ticket) };
#endif
#if MUTANT == 4  /* marked valid before the item is stored */
  state[SLOT] = kValid;
  item[SLOT] = TORN;
  item[SLOT] = me;
  goto end;
#endif
  /* the item is stored in two steps */
  atomic {
    item[SLOT] = TORN;
    if
    :: true
    :: DIES; expected--; goto end
    fi
  };
  atomic {
    item[SLOT] = me; state[SLOT] = kValid; owner[SLOT] = 0 };
end:
  skip
}

inline take_locked() {
  atomic {
    what = item[SLOT];
    if
    :: true
    :: me < OWNERS - 1 && alive > 1 && DIES; alive--; goto end
    fi
  };
  /* mark empty; who dies after that dies with an item in its hands */
  atomic {
    turn[SLOT] = turn_of(ticket) + 1;
    state[SLOT] = kEmpty;
    owner[SLOT] = 0;
    deliver(what);
    what = 0
  }
}

proctype Dequeuer(byte me) {
  byte ticket, what;

draw:
  atomic {
    if
    :: delivered == expected -> goto end
    :: delivered != expected -> ticket = head; head++; assert(head < TICKETS)
    fi;
    if
    :: true
    :: alive > 1 && DIES; alive--; goto end
    fi
  };
waits:
  atomic {
    if
    :: turn[SLOT] > turn_of(ticket) -> goto draw
    :: turn[SLOT] == turn_of(ticket) && state[SLOT] == kTaking -> goto draw
    :: turn[SLOT] == turn_of(ticket) && state[SLOT] == kValid
    :: delivered == expected -> goto end
#if MUTANT == 5  /* the state is not waited for */
    :: turn[SLOT] == turn_of(ticket) && state[SLOT] == kFilling
#endif
    fi;
#if MUTANT != 6  /* the slot is not locked for taking */
    state[SLOT] = kTaking;
    owner[SLOT] = me
#endif
  };
  take_locked();
  goto draw;
end:
  skip
}

proctype Repairer(byte me) {
  byte drawn_tail, drawn_head, index, what, ticket;

wait:
  atomic {
    drawn_tail = 0; drawn_head = 0; index = 0; what = 0; ticket = 0;
    if
    :: to_repair > 0 -> to_repair--; drawn_tail = tail; drawn_head = head
    :: to_repair == 0 && delivered == expected && crashes == 0 -> goto end
    :: to_repair == 0 && delivered == expected && crashes > 0 -> goto end
    fi
  };
#if MUTANT == 7  /* nobody repairs */
  goto wait;
#endif
slot:
  atomic {
    if
    :: index == CAPACITY -> goto wait
    :: else
    fi;
    if
    :: turn[index] >= drawn_from(drawn_tail, index) && turn[index] >= drawn_from(drawn_head, index) ->
      index++;
      goto slot
    :: else
    fi;
    ticket = turn[index] * CAPACITY + index;
    if
#if MUTANT != 8  /* drawn tickets are not retired */
    :: state[index] == kEmpty -> turn[index] = turn[index] + 1; goto slot
#endif
#if MUTANT == 10  /* locks of the living are broken */
    :: state[index] == kFilling ->
#else
    :: state[index] == kFilling && dead[owner[index]] ->
#endif
#if MUTANT == 9  /* the slot of a dead enqueuer is taken for valid */
      state[index] = kValid; owner[index] = 0; goto slot
#else
      turn[index] = turn[index] + 1; state[index] = kEmpty; owner[index] = 0; goto slot
#endif
#if MUTANT != 11  /* a valid item whose dequeuer may be dead is left */
    :: state[index] == kValid && drawn_from(drawn_head, index) > turn[index]
#endif
#if MUTANT == 12  /* the lock of a living dequeuer is broken */
    :: state[index] == kTaking
#else
    :: state[index] == kTaking && dead[owner[index]]
#endif
    :: else ->
      /* unsettled, or nothing that matters here */
      if
#if MUTANT != 13  /* repair() is not called again */
      :: drawn_from(drawn_tail, index) > turn[index] + 1 ||
         drawn_from(drawn_head, index) > turn[index] + (state[index] == kTaking -> 1 : 0) ->
        what = state[index];
        (state[index] != what || turn[index] > turn_of(ticket) || dead[owner[index]] ||
         delivered == expected);
        what = 0;
        if
        :: delivered == expected -> index++
        :: else
        fi;
        goto slot
#endif
      :: else -> index++; goto slot
      fi
    fi;
    state[index] = kTaking;
    owner[index] = me
  };
  take_locked();
  goto slot;
end:
  skip
}

init {
  byte i;
  atomic {
    for (i : 1 .. ENQUEUERS) { run Enqueuer(i) }
    for (i : ENQUEUERS + 1 .. ENQUEUERS + DEQUEUERS) { run Dequeuer(i) }
    run Repairer(OWNERS - 1)
  }
}
