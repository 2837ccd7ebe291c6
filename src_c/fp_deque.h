/* The work-stealing deque: a place's open invitations to help with its loops, the newest at the bottom.
 *
 * The owner pushes and pops at the bottom, thieves take from the top. It holds tickets by value and knows nothing of
 * loops. A place has at most one ticket out for each loop it is in, so the ring is small and never grows; when it is
 * full a loop simply does without further help.
 *
 * D. Chase, Y. Lev: Dynamic circular work-stealing deque, SPAA 2005, with orders after N. M. Le, A. Pop, A. Cohen,
 * F. Zappa Nardelli: Correct and efficient work-stealing for weak memory models, PPoPP 2013; where they have fences,
 * the operations on the two ends are sequentially consistent (DESIGN.md, 8).
 */
#ifndef FP_DEQUE_H
#define FP_DEQUE_H

#include "fp_atomic.h"

struct fp_loop;

/* An invitation to help with a loop: whoever takes it holds one of the loop's references. */
typedef struct fp_ticket {
    struct fp_loop *loop;
    uintptr_t root; /* names the outermost loop around it */
    size_t depth;   /* how many loops are around it */
} fp_ticket;

/* Which tickets a thief may take: any, or those it can help with while it waits at the end of a loop. */
typedef struct fp_wish {
    const struct fp_loop *loop; /* NULL: any ticket will do */
    uintptr_t root;
    size_t depth;
} fp_wish;

/* Deeper in the same call, or the loop itself: the rule that keeps waiting free of cycles (DESIGN.md, 10). */
static inline bool fp_wish_suits(const fp_wish *wish, const fp_ticket *ticket)
{
    return wish->loop == NULL || ticket->loop == wish->loop ||
           (ticket->root == wish->root && ticket->depth > wish->depth);
}

enum { FP_DEQUE_CAPACITY = 32, FP_CACHE_LINE = 64 };

/* The slots from top to bottom hold tickets: 0 <= bottom - top <= capacity, but that bottom is one less for a moment
 * while the owner pops. Positions only grow, and wrap after 2^64 tickets. */
typedef struct fp_deque {
    fp_atomic_size_t top; /* raised by whoever takes the ticket there, by compare-and-swap */
    char apart[FP_CACHE_LINE - sizeof(fp_atomic_size_t)];
    fp_atomic_size_t bottom; /* written by the owner */
    struct fp_deque_slot {
        fp_atomic_size_t loop, root, depth; /* written by the owner; a thief may read a torn ticket, and its CAS fails */
    } slots[FP_DEQUE_CAPACITY];
} fp_deque;

typedef enum fp_theft {
    FP_THEFT_NOTHING, /* there was no ticket, or none that suits */
    FP_THEFT_TAKEN,
    FP_THEFT_LOST, /* somebody else was faster: look again */
} fp_theft;

/* Before it is shared, or when nobody else is left. */
void fp_deque_init(fp_deque *deque);

/* False: it is full. What the owner wrote before is visible to whoever takes the ticket. */
bool fp_deque_push_owner(fp_deque *deque, const fp_ticket *ticket);

/* The newest ticket. False: thieves have taken all. */
bool fp_deque_pop_owner(fp_deque *deque, fp_ticket *ticket);

/* Whether the ticket of the owner's latest push is still there; no order, thieves may be at it. */
bool fp_deque_has_newest_owner(const fp_deque *deque);

/* The oldest ticket, if it suits. Any thread. */
fp_theft fp_deque_steal_thief(fp_deque *deque, const fp_wish *wish, fp_ticket *ticket);

#endif
