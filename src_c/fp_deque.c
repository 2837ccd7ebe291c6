/* See fp_deque.h, and DESIGN.md for the steps (D.) marked here. */
#include "fp_deque.h"

#include "fp_check.h"

_Static_assert((FP_DEQUE_CAPACITY & (FP_DEQUE_CAPACITY - 1)) == 0, "positions are reduced by a mask");

static struct fp_deque_slot *slot(fp_deque *deque, size_t position)
{
    return &deque->slots[position & (FP_DEQUE_CAPACITY - 1)];
}

/* Relaxed, like its counterpart: the ends of the deque say whether the ticket is whole, and carry the order. */
static void slot_write(struct fp_deque_slot *slot, const fp_ticket *ticket)
{
    fp_size_store_relaxed(&slot->loop, (size_t)ticket->loop);
    fp_size_store_relaxed(&slot->root, ticket->root);
    fp_size_store_relaxed(&slot->depth, ticket->depth);
}

static void slot_read(const struct fp_deque_slot *slot, fp_ticket *ticket)
{
    ticket->loop = (struct fp_loop *)fp_size_load_relaxed(&slot->loop);
    ticket->root = fp_size_load_relaxed(&slot->root);
    ticket->depth = fp_size_load_relaxed(&slot->depth);
}

/* How many positions `above` lies over `below`; negative when it lies under it. */
static ptrdiff_t distance(size_t below, size_t above)
{
    return (ptrdiff_t)(above - below);
}

void fp_deque_init(fp_deque *deque)
{
    fp_size_init(&deque->top, 0);
    fp_size_init(&deque->bottom, 0);
}

bool fp_deque_push_owner(fp_deque *deque, const fp_ticket *ticket)
{
    size_t bottom = fp_size_load_relaxed(&deque->bottom); /* the owner's own */
    /* (D1) pairs with (D7): the thief that emptied this slot has finished reading it. */
    size_t top = fp_size_load_acquire(&deque->top);
    FP_CHECK(distance(top, bottom) >= 0, "top %zu, bottom %zu", top, bottom);
    if (distance(top, bottom) >= FP_DEQUE_CAPACITY)
        return false;
    slot_write(slot(deque, bottom), ticket);
    fp_size_store_release(&deque->bottom, bottom + 1); /* (D2) pairs with (D6): the ticket and its loop are visible */
    return true;
}

bool fp_deque_pop_owner(fp_deque *deque, fp_ticket *ticket)
{
    size_t bottom = fp_size_load_relaxed(&deque->bottom) - 1;
    fp_size_store_seq_cst(&deque->bottom, bottom);     /* (D3) before (D4), against (D5) before (D6) */
    size_t top = fp_size_load_seq_cst(&deque->top);    /* (D4) */
    bool is_there = distance(top, bottom) >= 0;
    if (is_there)
        slot_read(slot(deque, bottom), ticket);
    if (distance(top, bottom) <= 0) {
        if (is_there) /* the last ticket: thieves may be after it too, and (D7) or this takes it */
            is_there = fp_size_cas_seq_cst(&deque->top, top, top + 1);
        /* Relaxed: the deque is empty now, so nobody reads a slot on the strength of this. */
        fp_size_store_relaxed(&deque->bottom, bottom + 1);
    }
    return is_there;
}

bool fp_deque_has_newest_owner(const fp_deque *deque)
{
    /* Relaxed: a thief that comes right after the glance would be no different. */
    return distance(fp_size_load_relaxed(&deque->top), fp_size_load_relaxed(&deque->bottom)) > 0;
}

fp_theft fp_deque_steal_thief(fp_deque *deque, const fp_wish *wish, fp_ticket *ticket)
{
    size_t top = fp_size_load_seq_cst(&deque->top);       /* (D5) */
    size_t bottom = fp_size_load_seq_cst(&deque->bottom); /* (D6) acquires what (D2) released */
    if (distance(top, bottom) <= 0)
        return FP_THEFT_NOTHING;
    slot_read(slot(deque, top), ticket);
    if (!fp_wish_suits(wish, ticket))
        return FP_THEFT_NOTHING;
    /* (D7) pairs with (D1); fails if the ticket went meanwhile, and then what was read is thrown away. */
    return fp_size_cas_seq_cst(&deque->top, top, top + 1) ? FP_THEFT_TAKEN : FP_THEFT_LOST;
}
