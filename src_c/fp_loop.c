/* See fp_loop.h, and DESIGN.md for the steps (L.) marked here.
 *
 * Long because pieces, scratch, members, waiting and the caller all work on one `struct part`, which nobody else may see.
 */
#include "fp_loop.h"

#include "fp_check.h"
#include "fp_hint.h"

#include <stdlib.h>
#include <string.h>

enum {
    PIECE_NS = 20000,       /* a timed piece: its overhead is below 1 %, and the end of a loop waits half of it */
    LEAST_PIECE_NS = 1000,  /* towards the end pieces become shorter, but not shorter than this */
    ALONE_NS = 2000,        /* work before it says anything about the rest */
    SHARE_NS = 4000,        /* left over for that many ns: worth a helper that is awake */
    WAKE_NS = 60000,        /* worth one that must be woken: 3 us for a system call, and tens of us until it comes */
    BUSY_NS = 150000,       /* worth an invitation although all are at work: one of them may be done before we are */
    WAIT_SPIN_NS = 30000,   /* a member ends its piece before that, mostly */
    MOST_SPIN_NS = 1000000, /* and if the pieces are long, waiting awake is worth this much to save a wake-up */
    POLL_NS = 50000000,
    RELAXES_A_CLOCK = 16,
    FRACTION = 4,
};

static const uint32_t WAITING = UINT32_C(1) << 31;

static _Thread_local struct fp_loop *current;

/* One thread's part in a loop, on its stack. */
struct part {
    struct fp_loop *loop;
    fp_place *place;      /* NULL while a caller is alone */
    fp_member *member;    /* NULL while a caller is alone and needs no scratch */
    uint32_t number;      /* 0: the caller */
    int64_t piece;        /* grains of PIECE_NS, if they last as long as the ones before */
    int64_t least_piece;  /* grains of LEAST_PIECE_NS */
    bool has_ticket;      /* it posted one, which may have been taken meanwhile */
    uint64_t now_ns;      /* when its last piece ended */
    uint64_t spent_ns;    /* in pieces, so far */
    uint64_t n_spent;     /* grains in them */
    uint64_t poll_ns;     /* the caller's: when to poll next */
};

const struct fp_loop *fp_loop_current(void)
{
    return current;
}

void fp_loop_forget(void)
{
    current = NULL;
}

int64_t fp_units_begin(const fp_units *units, uint32_t unit)
{
    if (unit == units->n_units) /* the last one may be smaller: what is behind it need not be a number */
        return units->n;
    return unit * units->size + (unit < units->n_longer ? unit : units->n_longer);
}

/* ------------------------------------------------------------------------------------------- ending before time */

static bool is_stopped(const struct fp_loop *loop)
{
    return fp_u32_load_relaxed(&loop->is_stopped) != 0; /* relaxed: members only stop; why is under the lock */
}

bool fp_loop_is_stopping(const struct fp_loop *loop)
{
    for (; loop != NULL; loop = loop->parent) /* they last: their callers wait for whom we are inside of */
        if (is_stopped(loop) || (loop->options->stop != NULL && fp_stop_requested(loop->options->stop)))
            return true;
    return false;
}

static void stop(struct fp_loop *loop, fp_outcome outcome, const fp_failure *failure)
{
    fp_mutex_lock(&loop->lock);
    if (outcome == FP_FAILED && (loop->outcome != FP_FAILED || failure->index < loop->failure.index))
        loop->failure = *failure;
    if (loop->outcome == FP_DONE || outcome == FP_FAILED)
        loop->outcome = outcome;
    fp_mutex_unlock(&loop->lock);
    fp_u32_store_relaxed(&loop->is_stopped, 1);
}

/* What the outside may want between two pieces. A loop inside a stopped one stops as well. */
static void look_around(struct part *part)
{
    struct fp_loop *loop = part->loop;
    const fp_options *options = loop->options;
    if (options->stop != NULL && fp_stop_requested(options->stop))
        stop(loop, FP_STOPPED, NULL);
    if (loop->parent != NULL && fp_loop_is_stopping(loop->parent))
        stop(loop, FP_STOPPED, NULL);
    if (part->number == 0 && options->poll != NULL && part->now_ns >= part->poll_ns) {
        part->poll_ns = part->now_ns + POLL_NS;
        if (options->poll(options->poll_context) != 0)
            stop(loop, FP_STOPPED, NULL);
    }
}

/* ------------------------------------------------------------------------------------------------------ pieces */

static int64_t at_least_1(int64_t n)
{
    return n > 1 ? n : 1;
}

/* So many grains in units, at least one and at most `most`. */
static uint32_t as_units(const struct fp_loop *loop, int64_t n_grains, uint32_t most)
{
    int64_t n = loop->unit_grains == 1 ? n_grains : n_grains / loop->unit_grains; /* a division is worth a branch */
    return n < most ? (uint32_t)at_least_1(n) : most;
}

static uint32_t piece_of(const struct part *part, uint32_t n_left)
{
    const struct fp_loop *loop = part->loop;
    uint32_t fraction = (uint32_t)at_least_1(n_left / FRACTION);
    uint32_t least;
    switch (loop->pace) {
    case FP_PACE_UNIT:
    case FP_PACE_SHARE:
        return 1;
    case FP_PACE_FRACTION:
        return fraction;
    default:
        least = as_units(loop, part->least_piece, n_left);
        return as_units(loop, part->piece, fraction < least ? least : fraction);
    }
}

static int64_t at_most(int64_t most, double n)
{
    return n < (double)most ? at_least_1((int64_t)n) : most;
}

/* The next piece should take PIECE_NS, but a few times more grains than this one at most: what comes may be slower. */
static void learn(struct part *part, int64_t n, uint64_t took_ns)
{
    int64_t most = n < INT64_MAX / 4 ? at_least_1(n * 4) : INT64_MAX;
    double in_1_ns = took_ns > 0 ? (double)n / (double)took_ns : 0; /* a double, for n may be 2^63 - 1 */
    part->piece = took_ns > 0 ? at_most(most, PIECE_NS * in_1_ns) : most;
    part->least_piece = at_most(most, LEAST_PIECE_NS * in_1_ns);
}

static void run_range(const struct part *part, int64_t begin, int64_t end)
{
    struct fp_loop *loop = part->loop;
    fp_chunk chunk = {
        .begin = begin,
        .end = end,
        .scratch = part->member != NULL ? part->member->scratch : NULL,
        .member = part->number,
    };
    int code = loop->body(&chunk, loop->context);
    if (code != 0)
        stop(loop, FP_FAILED, &(fp_failure){chunk.begin, code});
}

/* Between two pieces: what the last one took, of so many grains, and what the outside wants. */
static void pause(struct part *part, int64_t n)
{
    uint64_t before_ns = part->now_ns;
    part->now_ns = fp_os_clock_ns();
    part->spent_ns += part->now_ns - before_ns;
    part->n_spent += (uint64_t)n;
    learn(part, n, part->now_ns - before_ns);
    look_around(part);
}

/* Runs units in one piece. A piece that the schedule made long is cut into slices, and so is a unit of many grains, so that
 * a failure elsewhere and whoever wants the loop to stop are heeded in time; nobody can take any of them away. How many
 * grains the last slice had. */
static int64_t run_piece(struct part *part, uint32_t first, uint32_t n)
{
    const struct fp_loop *loop = part->loop;
    int64_t begin = fp_units_begin(&loop->units, first), end = fp_units_begin(&loop->units, first + n);
    bool is_long = loop->pace == FP_PACE_FRACTION || loop->unit_grains > 1;
    while (is_long && (end - begin) / loop->grain > part->piece) {
        int64_t n_grains = part->piece;
        run_range(part, begin, begin + n_grains * loop->grain);
        begin += n_grains * loop->grain;
        pause(part, n_grains);
        if (is_stopped(loop))
            return 0;
    }
    run_range(part, begin, end);
    return at_least_1((end - begin) / loop->grain);
}

/* ----------------------------------------------------------------------------------------------------- scratch */

static void *allocate_lines(size_t n_bytes)
{
    return fp_check_fails() ? NULL : aligned_alloc(FP_CACHE_LINE, n_bytes);
}

static bool scratch_begin(struct part *part)
{
    const fp_scratch *scratch = part->loop->options->scratch;
    fp_member *member = part->member;
    if (scratch == NULL)
        return true;
    if (member->scratch_bytes < scratch->n_bytes) {
        size_t n_lines = scratch->n_bytes / FP_CACHE_LINE + (scratch->n_bytes % FP_CACHE_LINE != 0);
        free(member->scratch);
        member->scratch = n_lines > SIZE_MAX / FP_CACHE_LINE ? NULL : allocate_lines(n_lines * FP_CACHE_LINE);
        member->scratch_bytes = member->scratch != NULL ? n_lines * FP_CACHE_LINE : 0;
        if (member->scratch == NULL)
            return false;
    }
    member->has_scratch = true;
    if (scratch->init != NULL)
        scratch->init(member->scratch, part->loop->context);
    return true;
}

/* By the caller, when no member is left. */
static void scratch_end(const struct fp_loop *loop)
{
    const fp_scratch *scratch = loop->options->scratch;
    uint32_t n = fp_u32_load_relaxed(&loop->n_joined) + 1;
    for (uint32_t i = 0; scratch != NULL && loop->members != NULL && i < n && i < loop->max_members; i++) {
        fp_member *member = &loop->members[i];
        if (member->has_scratch && scratch->merge != NULL)
            scratch->merge(member->scratch, loop->context);
        if (member->has_scratch && scratch->free != NULL)
            scratch->free(member->scratch, loop->context);
    }
}

/* ----------------------------------------------------------------------------------------------------- members */

/* (L1) Posts a ticket, unless one is out or there are members enough. */
static void invite(struct part *part)
{
    struct fp_loop *loop = part->loop;
    if (part->has_ticket && fp_deque_has_newest_owner(&part->place->deque))
        return;
    part->has_ticket = false;
    /* Relaxed: counts alone, and we are inside, so nobody concludes from n_inside that all have left. */
    if (fp_u32_load_relaxed(&loop->n_invited) + 1 >= loop->max_members)
        return;
    if (fp_u32_add_relaxed(&loop->n_invited, 1) + 1 >= loop->max_members) {
        fp_u32_add_relaxed(&loop->n_invited, (uint32_t)-1);
        return;
    }
    fp_u32_add_relaxed(&loop->n_inside, 1);
    fp_ticket ticket = {loop, (uintptr_t)loop->root, loop->depth};
    part->has_ticket = fp_deque_push_owner(&part->place->deque, &ticket);
    if (!part->has_ticket) {
        fp_u32_add_relaxed(&loop->n_inside, (uint32_t)-1);
        fp_u32_add_relaxed(&loop->n_invited, (uint32_t)-1);
    } else if (!fp_sleep_post(&loop->pool->sleep, &ticket)) {
        fp_pool_start_worker(loop->pool);
    }
}

/* (L2) Takes the ticket back if nobody has it. What is below it on the deque belongs to loops around this one: thieves
 * take from the top, so those are gone before ours is. */
static void uninvite(struct part *part)
{
    fp_ticket ticket;
    if (!part->has_ticket || !fp_deque_pop_owner(&part->place->deque, &ticket))
        return;
    FP_CHECK(ticket.loop == part->loop, "popped the ticket of another loop");
    fp_sleep_withdraw(&part->loop->pool->sleep);
    fp_u32_add_relaxed(&part->loop->n_invited, (uint32_t)-1);
    fp_u32_add_release(&part->loop->n_inside, (uint32_t)-1); /* never the last: a helper that does this is still inside */
}

/* The span with most left in it; NULL: nobody has anything left. */
static fp_shared_span *largest_span(const struct fp_loop *loop)
{
    uint32_t n = fp_u32_load_relaxed(&loop->n_joined) + 1, most = 0;
    fp_shared_span *largest = NULL;
    for (uint32_t i = 0; i < n && i < loop->max_members; i++) {
        uint32_t n_left = fp_span_n(fp_span_look(&loop->members[i].span));
        if (n_left > most) {
            most = n_left;
            largest = &loop->members[i].span;
        }
    }
    return largest;
}

/* For a member whose own span is empty. */
static bool steal(struct part *part)
{
    fp_shared_span *largest;
    fp_span stolen;
    do {
        largest = largest_span(part->loop);
        if (largest == NULL)
            return false;
    } while (!fp_span_steal_thief(largest, &stolen));
    fp_span_set_owner(&part->member->span, stolen);
    part->piece = part->least_piece = 1; /* other indices, perhaps of another kind: what was learned may be wrong */
    return true;
}

/* Takes part until nobody has anything left that could be stolen. */
static void take_part(struct part *part)
{
    struct fp_loop *loop = part->loop;
    fp_shared_span *own = &part->member->span;
    look_around(part);
    while (!is_stopped(loop)) {
        fp_span seen = fp_span_look(own);
        if (fp_span_n(seen) == 0) {
            if (!steal(part))
                break;
            continue;
        }
        uint32_t n = piece_of(part, fp_span_n(seen));
        if (!fp_span_eat_owner(own, &seen, n))
            continue;
        if (n < fp_span_n(seen) || largest_span(loop) != NULL) /* before a piece that may take for ever */
            invite(part);
        pause(part, run_piece(part, seen.begin, n));
    }
    uninvite(part);
}

void fp_loop_help(struct fp_loop *loop, fp_place *place)
{
    uint32_t number = fp_u32_add_relaxed(&loop->n_joined, 1) + 1;
    struct fp_loop *outer = current;
    current = loop;
    if (number < loop->max_members) {
        struct part part = {
            .loop = loop,
            .place = place,
            .member = &loop->members[number],
            .number = number,
            .piece = 1,
            .least_piece = 1,
            .now_ns = fp_os_clock_ns(),
        };
        if (scratch_begin(&part))
            take_part(&part);
    }
    current = outer;
    fp_parker *callers = &loop->place->sleeper.parker; /* it outlives the loop */
    /* (L3) pairs with (L4): the caller sees what we did. From here on the loop may be gone. */
    if (fp_u32_add_release(&loop->n_inside, (uint32_t)-1) == (WAITING | 1))
        fp_unpark(callers);
}

/* ------------------------------------------------------------------------------------------ the caller's waiting */

/* (L4) pairs with (L3). */
static bool all_left(const struct fp_loop *loop)
{
    return (fp_u32_load_acquire(&loop->n_inside) & ~WAITING) == 0;
}

/* Takes a ticket of what a member of this loop has begun inside of it: that is what we wait for. */
static bool take_inner(struct fp_loop *loop, const fp_wish *wish, fp_ticket *ticket)
{
    if (fp_sleep_glance(&loop->pool->sleep).n_tickets == 0 || !fp_place_search_owner(loop->place, wish, ticket))
        return false;
    fp_sleep_withdraw(&loop->pool->sleep);
    return true;
}

static bool help(struct fp_loop *loop, const fp_wish *wish)
{
    fp_ticket ticket;
    if (!take_inner(loop, wish, &ticket))
        return false;
    fp_loop_help(ticket.loop, loop->place);
    return true;
}

/* How long to wait awake: for as long as a piece may take, or half as long again as the loop has taken until now. */
static uint64_t spin_ns(const struct part *part)
{
    uint64_t half_ns = part->spent_ns / 2 < MOST_SPIN_NS ? part->spent_ns / 2 : MOST_SPIN_NS;
    return half_ns > WAIT_SPIN_NS ? half_ns : WAIT_SPIN_NS;
}

/* Waits awake; whoever else could use this CPU is let through before long. */
static void spin_until_left(struct part *part, const fp_wish *wish)
{
    struct fp_loop *loop = part->loop;
    uint64_t begin_ns = part->now_ns, end_ns = begin_ns + spin_ns(part);
    if (all_left(loop))
        return;
    fp_u32_add_relaxed(&loop->root->n_spinning, 1);
    for (uint64_t i = 1; !all_left(loop); i++) {
        if (i % RELAXES_A_CLOCK != 0) {
            fp_os_relax();
        } else if (!help(loop, wish)) {
            uint64_t now_ns = fp_os_clock_ns();
            if (now_ns >= end_ns)
                break;
            if (now_ns >= begin_ns + WAIT_SPIN_NS)
                fp_os_yield();
        }
    }
    fp_u32_add_relaxed(&loop->root->n_spinning, (uint32_t)-1);
}

static fp_waited look_and_park(struct fp_loop *loop, const fp_wish *wish, fp_ticket *ticket)
{
    /* (L5) Acquire, pairs with (L3): either that finds WAITING, or we find that nobody is inside. */
    if ((fp_u32_or_acquire(&loop->n_inside, WAITING) & ~WAITING) == 0)
        return FP_WAITED_ENOUGH;
    if (take_inner(loop, wish, ticket))
        return FP_WAITED_AND_TOOK;
    fp_park(&loop->place->sleeper.parker, loop->options->poll != NULL ? POLL_NS : -1);
    if (all_left(loop))
        return FP_WAITED_ENOUGH;
    return take_inner(loop, wish, ticket) ? FP_WAITED_AND_TOOK : FP_WAITED_IN_VAIN;
}

static void park(struct part *part, const fp_wish *wish)
{
    struct fp_loop *loop = part->loop;
    fp_ticket ticket;
    fp_sleep_wait_begin(&loop->pool->sleep, &loop->place->sleeper, wish);
    fp_waited how = look_and_park(loop, wish, &ticket);
    if (!fp_sleep_wait_end(&loop->pool->sleep, &loop->place->sleeper, how, &ticket))
        fp_pool_start_worker(loop->pool); /* whoever called us has not */
    if (how == FP_WAITED_AND_TOOK)
        fp_loop_help(ticket.loop, loop->place);
    part->now_ns = fp_os_clock_ns();
    look_around(part);
}

static void wait_for_members(struct part *part)
{
    struct fp_loop *loop = part->loop;
    fp_wish wish = {loop, (uintptr_t)loop->root, loop->depth};
    spin_until_left(part, &wish);
    while (!all_left(loop))
        park(part, &wish);
}

/* --------------------------------------------------------------------------------------------------- the caller */

/* Makes room for members and takes a place to be found at. False: no place or no memory, the caller stays alone. */
static bool open(struct part *part)
{
    struct fp_loop *loop = part->loop;
    loop->place = loop->pool != NULL ? fp_place_enter(loop->pool, &loop->is_lease) : NULL;
    if (loop->place == NULL)
        return false;
    loop->members = fp_place_open_owner(loop->place, loop->max_members);
    if (loop->members == NULL) {
        if (loop->is_lease)
            fp_place_release(loop->place);
        loop->place = NULL;
        return false;
    }
    part->place = loop->place;
    part->member = &loop->members[0];
    fp_pool_want(loop->pool, loop->root->n_threads - 1);
    return true;
}

/* Makes a member of a caller that stays alone. False: no memory. */
static bool stand_alone(struct part *part)
{
    struct fp_loop *loop = part->loop;
    fp_member *member = allocate_lines(sizeof(fp_member));
    if (member == NULL)
        return false;
    memset(member, 0, sizeof *member);
    part->member = loop->members = member;
    loop->max_members = 1;
    return true;
}

static void close(struct fp_loop *loop)
{
    if (loop->place == NULL) {
        if (loop->members != NULL)
            free(loop->members->scratch);
        free(loop->members);
        return;
    }
    fp_place_close_owner(loop->place);
    if (loop->is_lease)
        fp_place_release(loop->place);
}

/* What an index has taken, as far as this member has seen. */
static double index_ns(const struct part *part)
{
    return (double)part->spent_ns / (double)part->n_spent / (double)part->loop->grain;
}

/* What must be left over to be worth a helper: it depends on whether one is awake, asleep, or not there at all. */
static uint64_t least_share_ns(const struct fp_loop *loop)
{
    fp_sleep_counts now = fp_sleep_glance(&loop->pool->sleep);
    if (now.n_searching > now.n_tickets) /* each ticket takes one of them */
        return SHARE_NS;
    if (loop->depth > 0 && fp_u32_load_relaxed(&loop->root->n_spinning) > 0)
        return SHARE_NS;
    if (now.n_asleep > 0 || now.n_waiting > 0 || fp_pool_n_threads(loop->pool) + 1 < loop->root->n_threads)
        return WAKE_NS;
    return BUSY_NS;
}

/* Is the rest worth a helper? Few know what it will take: what was done says it, or the loop before. */
static bool is_worth_sharing(const struct fp_loop *loop, double left_ns)
{
    return left_ns >= (double)least_share_ns(loop);
}

/* How much the caller runs at a time while nobody could steal the rest: all of it, if nobody will ever look. */
static uint32_t piece_alone(const struct part *part, uint32_t n_left, bool may_share)
{
    const struct fp_loop *loop = part->loop;
    if (loop->pace != FP_PACE_TIMED)
        return piece_of(part, n_left);
    if (!may_share && loop->options->poll == NULL && loop->options->stop == NULL && loop->parent == NULL)
        return n_left;
    return as_units(loop, part->piece, n_left);
}

/* Runs pieces of a span that nobody else sees, until nothing is left or the rest is worth sharing; the rest. The clock is
 * read between pieces only: a call costs as much as all the rest of a short loop. */
static fp_span run_alone(struct part *part, fp_span span, bool may_share)
{
    struct fp_loop *loop = part->loop;
    while (fp_span_n(span) > 0 && !is_stopped(loop)) {
        uint32_t n = piece_alone(part, fp_span_n(span), may_share);
        int64_t n_grains = run_piece(part, span.begin, n);
        span.begin += n;
        if (fp_span_n(span) == 0)
            break;
        pause(part, n_grains);
        int64_t n_left = loop->units.n - fp_units_begin(&loop->units, span.begin);
        if (may_share && part->spent_ns >= ALONE_NS && is_worth_sharing(loop, index_ns(part) * (double)n_left))
            break;
    }
    return span;
}

static void share(struct part *part, fp_span span)
{
    fp_span_set_owner(&part->member->span, span);
    take_part(part);
    wait_for_members(part);
}

/* Opens at once when the loop is likely to be worth it, as a loop is that nobody knows: its first index may take hours. */
static void run_as_caller(struct part *part)
{
    struct fp_loop *loop = part->loop;
    fp_span span = {0, loop->units.n_units};
    if (loop->options->scratch != NULL && !((open(part) || stand_alone(part)) && scratch_begin(part))) {
        stop(loop, FP_EXHAUSTED, NULL);
        return;
    }
    bool may_share = loop->max_members > 1;
    double hint_ns = may_share ? fp_hint_recall(loop->key) : 0;
    if (!may_share || (hint_ns != FP_HINT_UNKNOWN && !is_worth_sharing(loop, hint_ns * (double)loop->units.n)))
        span = run_alone(part, span, may_share);
    if (fp_span_n(span) > 0 && !is_stopped(loop) && (loop->members != NULL || open(part)))
        share(part, span);
    else
        run_alone(part, span, false /* may_share */);
}

/* For the next loop of the same kernel. */
static void remember(const struct part *part)
{
    if (part->n_spent > 0)
        fp_hint_store(part->loop->key, index_ns(part));
}

void fp_loop_run(struct fp_loop *loop)
{
    bool is_timed = loop->units.n > loop->grain; /* else there is nothing to decide */
    struct part part = {.loop = loop, .piece = 1, .least_piece = 1, .now_ns = is_timed ? fp_os_clock_ns() : 0};
    part.poll_ns = part.now_ns + POLL_NS;
    struct fp_loop *outer = current;
    loop->parent = outer;
    loop->root = outer != NULL ? outer->root : loop;
    loop->depth = outer != NULL ? outer->depth + 1 : 0;
    fp_u32_init(&loop->n_inside, 0);
    fp_u32_init(&loop->n_invited, 0);
    fp_u32_init(&loop->n_joined, 0);
    fp_u32_init(&loop->is_stopped, 0);
    fp_u32_init(&loop->n_spinning, 0);
    fp_mutex_init(&loop->lock);
    current = loop;
    look_around(&part);
    run_as_caller(&part);
    current = outer;
    scratch_end(loop);
    close(loop);
    remember(&part);
}
