/* See fp_pool.h; DESIGN.md, 9, for the states of a worker. */
#include "fp_pool.h"

#include "fp_check.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SPIN_NS = 50000, MIN_SPIN_NS = 2000, RELAXES_A_CLOCK = 32 };

/* The place of this thread: a worker's own, or a guest's while it leases one. Another pool's, if a loop of one pool
 * runs inside that of another; the lease gives the former back. */
static _Thread_local fp_place *here;

/* -------------------------------------------------------------------------------------------- pools and forks */

/* All pools, so that the child of a fork can empty them. */
static fp_mutex registry_lock;
static fp_pool *registry;                   /* under registry_lock */
static fp_atomic_u32_t knows_forks;         /* 1 once the three below are called around forks */
static fp_atomic_size_t shared_pool;        /* 0, then the pool for good */

static void before_fork(void)
{
    fp_mutex_lock(&registry_lock);
}

static void after_fork(void)
{
    fp_mutex_unlock(&registry_lock);
}

static uint32_t n_places(const fp_pool *pool)
{
    return pool->max_workers + FP_MAX_GUESTS;
}

/* In the child of a fork no worker and no guest is left but, perhaps, the thread that forked. Memory that the others
 * had at their places is used again. */
static void pool_reset(fp_pool *pool)
{
    fp_sleep_init(&pool->sleep);
    fp_mutex_init(&pool->lock);
    fp_u32_init(&pool->n_workers, 0);
    fp_u32_init(&pool->is_resting, 0);
    for (uint32_t i = 0; i < n_places(pool); i++) {
        fp_place *place = &pool->places[i];
        if (place->pool == NULL)
            continue; /* never used: leave its memory untouched */
        fp_deque_init(&place->deque);
        fp_parker_init(&place->sleeper.parker);
        place->sleeper.is_listed = false;
        fp_u32_init(&place->is_leased, 0);
        place->n_open = 0;
    }
}

static void in_child(void)
{
    fp_mutex_init(&registry_lock);
    here = NULL;
    fp_loop_forget();
    for (fp_pool *pool = registry; pool != NULL; pool = pool->next)
        pool_reset(pool);
}

static void registry_add(fp_pool *pool)
{
    if (fp_u32_cas_relaxed(&knows_forks, 0, 1))
        fp_os_at_fork(before_fork, after_fork, in_child);
    fp_mutex_lock(&registry_lock);
    pool->next = registry;
    registry = pool;
    fp_mutex_unlock(&registry_lock);
}

static void registry_remove(fp_pool *pool)
{
    fp_mutex_lock(&registry_lock);
    fp_pool **link = &registry;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    fp_mutex_unlock(&registry_lock);
}

static void *allocate_zeroed(size_t n_bytes)
{
    return fp_check_fails() ? NULL : calloc(1, n_bytes);
}

static uintptr_t aligned(void *memory)
{
    return ((uintptr_t)memory + FP_CACHE_LINE - 1) & ~(uintptr_t)(FP_CACHE_LINE - 1);
}

fp_pool *fp_pool_new(uint32_t n_threads)
{
    uint32_t max_workers = n_threads < FP_MAX_THREADS ? n_threads : FP_MAX_THREADS;
    fp_pool *pool = allocate_zeroed(sizeof *pool);
    /* Zeroed by the system, so places that are never used cost no memory: zero is what a new place is. */
    void *memory = allocate_zeroed((max_workers + FP_MAX_GUESTS) * sizeof(fp_place) + FP_CACHE_LINE);
    if (pool == NULL || memory == NULL) {
        free(pool);
        free(memory);
        return NULL;
    }
    pool->max_workers = max_workers;
    pool->n_cpus = fp_os_n_cpus();
    pool->memory = memory;
    pool->places = (fp_place *)aligned(memory);
    fp_u32_init(&pool->n_guests, 0);
    fp_u32_init(&pool->n_wanted, 0);
    pool_reset(pool);
    registry_add(pool);
    fp_check_made();
    return pool;
}

static void place_free(fp_place *place)
{
    for (uint32_t i = 0; i < FP_MAX_OPEN; i++) {
        for (uint32_t k = 0; k < place->tables[i].n; k++)
            free(place->tables[i].members[k].scratch);
        free(place->tables[i].members);
    }
}

void fp_pool_free(fp_pool *pool)
{
    if (pool == NULL)
        return;
    fp_pool_rest(pool);
    registry_remove(pool);
    for (uint32_t i = 0; i < n_places(pool); i++)
        if (pool->places[i].pool != NULL)
            place_free(&pool->places[i]);
    free(pool->memory);
    free(pool);
    fp_check_freed();
}

fp_pool *fp_pool_shared(void)
{
    fp_pool *pool = (fp_pool *)fp_size_load_acquire(&shared_pool); /* pairs with the compare-and-swap below */
    if (pool != NULL)
        return pool;
    pool = fp_pool_new(FP_MAX_THREADS);
    if (pool == NULL || fp_size_cas_seq_cst(&shared_pool, 0, (size_t)pool))
        return pool;
    fp_pool_free(pool); /* another thread was faster */
    return (fp_pool *)fp_size_load_acquire(&shared_pool);
}

uint32_t fp_pool_n_threads(const fp_pool *pool)
{
    return pool == NULL ? 0 : fp_u32_load_relaxed(&pool->n_workers);
}

/* --------------------------------------------------------------------------------------------------- places */

static void place_prepare(fp_place *place, fp_pool *pool)
{
    if (place->pool != NULL)
        return;
    place->pool = pool;
    place->random = (uint64_t)(place - pool->places) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    place->spin_ns = MAX_SPIN_NS;
}

static fp_place *guest_lease(fp_pool *pool)
{
    for (uint32_t i = 0; i < FP_MAX_GUESTS; i++) {
        fp_place *place = &pool->places[pool->max_workers + i];
        /* Pairs with the release in fp_place_release: what the guest before left at the place is ours. */
        if (fp_u32_load_relaxed(&place->is_leased) != 0 || !fp_u32_cas_acquire(&place->is_leased, 0, 1))
            continue;
        place_prepare(place, pool);
        uint32_t n_guests = fp_u32_load_relaxed(&pool->n_guests);
        /* Relaxed: a thief that has seen a ticket posted has seen what came before it. */
        while (n_guests <= i && !fp_u32_cas_relaxed(&pool->n_guests, n_guests, i + 1))
            n_guests = fp_u32_load_relaxed(&pool->n_guests);
        return place;
    }
    return NULL;
}

fp_place *fp_place_enter(fp_pool *pool, bool *is_lease)
{
    *is_lease = false;
    if (here != NULL)
        return here->pool == pool ? here : NULL; /* a loop of one pool inside another's runs alone */
    here = guest_lease(pool);
    *is_lease = here != NULL;
    return here;
}

void fp_place_release(fp_place *place)
{
    here = NULL;
    fp_u32_store_release(&place->is_leased, 0);
}

static bool table_grow(fp_members *table, uint32_t n)
{
    size_t n_bytes = (size_t)n * sizeof(fp_member);
    fp_member *members = fp_check_fails() ? NULL : aligned_alloc(FP_CACHE_LINE, n_bytes);
    if (members == NULL)
        return false;
    memset(members, 0, n_bytes);
    if (table->n > 0)
        memcpy(members, table->members, table->n * sizeof(fp_member));
    free(table->members);
    *table = (fp_members){members, n};
    return true;
}

fp_member *fp_place_open_owner(fp_place *place, uint32_t n_members)
{
    if (place->n_open == FP_MAX_OPEN)
        return NULL;
    fp_members *table = &place->tables[place->n_open];
    if (table->n < n_members && !table_grow(table, n_members))
        return NULL;
    place->n_open++;
    for (uint32_t i = 0; i < n_members; i++) {
        fp_span_set_owner(&table->members[i].span, (fp_span){0, 0});
        table->members[i].has_scratch = false;
    }
    return table->members;
}

void fp_place_close_owner(fp_place *place)
{
    place->n_open--;
}

static uint32_t random_below(fp_place *place, uint32_t bound)
{
    place->random ^= place->random << 13;
    place->random ^= place->random >> 7;
    place->random ^= place->random << 17;
    return (uint32_t)((place->random >> 32) * bound >> 32);
}

bool fp_place_search_owner(fp_place *place, const fp_wish *wish, fp_ticket *ticket)
{
    fp_pool *pool = place->pool;
    uint32_t n_workers = fp_u32_load_acquire(&pool->n_workers), n_guests = fp_u32_load_relaxed(&pool->n_guests);
    uint32_t n = n_workers + n_guests, first = n > 0 ? random_below(place, n) : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = first + i < n ? first + i : first + i - n;
        fp_place *victim = &pool->places[k < n_workers ? k : pool->max_workers + k - n_workers];
        fp_theft theft = FP_THEFT_LOST;
        while (victim != place && theft == FP_THEFT_LOST)
            theft = fp_deque_steal_thief(&victim->deque, wish, ticket);
        if (theft == FP_THEFT_TAKEN)
            return true;
    }
    return false;
}

/* --------------------------------------------------------------------------------------------------- workers */

static bool is_resting(const fp_pool *pool)
{
    return fp_u32_load_acquire(&pool->is_resting) != 0; /* pairs with fp_pool_rest */
}

/* Waits a little for a ticket, awake. No more threads do than there are CPUs beside the one at work. */
static bool spin(fp_place *place)
{
    fp_sleep *sleep = &place->pool->sleep;
    uint64_t end_ns = fp_os_clock_ns() + place->spin_ns;
    while (fp_sleep_glance(sleep).n_searching < place->pool->n_cpus) {
        for (int i = 0; i < RELAXES_A_CLOCK; i++) {
            if (fp_sleep_glance(sleep).n_tickets > 0)
                return true;
            fp_os_relax();
        }
        if (fp_os_clock_ns() >= end_ns)
            break;
    }
    return false;
}

/* Finds a ticket, however long it takes. False: the pool rests. */
static bool await_ticket(fp_place *place, fp_ticket *ticket)
{
    static const fp_wish any = {.loop = NULL};
    while (!is_resting(place->pool)) {
        if (fp_place_search_owner(place, &any, ticket))
            return true;
        if (spin(place)) {
            place->spin_ns = place->spin_ns < MAX_SPIN_NS / 2 ? place->spin_ns * 2 : MAX_SPIN_NS;
            continue;
        }
        place->spin_ns = place->spin_ns > MIN_SPIN_NS * 2 ? place->spin_ns / 2 : MIN_SPIN_NS;
        if (!fp_sleep_sleep(&place->pool->sleep, &place->sleeper))
            fp_os_yield(); /* a ticket is being taken by a thread that perhaps waits for this CPU */
    }
    return false;
}

/* The life of a worker thread, which is born searching. */
static void work(void *argument)
{
    fp_place *place = argument;
    fp_ticket ticket;
    here = place;
    while (await_ticket(place, &ticket)) {
        fp_sleep_take(&place->pool->sleep);
        fp_loop_help(ticket.loop, place);
        fp_sleep_search(&place->pool->sleep);
    }
    fp_sleep_leave(&place->pool->sleep);
}

void fp_pool_want(fp_pool *pool, uint32_t n_threads)
{
    uint32_t most = n_threads < pool->max_workers ? n_threads : pool->max_workers;
    uint32_t n_wanted = fp_u32_load_relaxed(&pool->n_wanted);
    while (n_wanted < most && !fp_u32_cas_relaxed(&pool->n_wanted, n_wanted, most))
        n_wanted = fp_u32_load_relaxed(&pool->n_wanted);
}

void fp_pool_start_worker(fp_pool *pool)
{
    uint32_t most = fp_u32_load_relaxed(&pool->n_wanted);
    if (fp_u32_load_relaxed(&pool->n_workers) >= most)
        return;
    fp_mutex_lock(&pool->lock);
    uint32_t n = fp_u32_load_relaxed(&pool->n_workers);
    if (n < most && !is_resting(pool)) {
        fp_place *place = &pool->places[n];
        place_prepare(place, pool);
        fp_sleep_search(&pool->sleep);
        if (!fp_check_fails() && fp_os_thread_start(&place->thread, work, place))
            fp_u32_store_release(&pool->n_workers, n + 1); /* pairs with the search: the place is prepared */
        else
            fp_sleep_leave(&pool->sleep); /* fewer workers, no error */
    }
    fp_mutex_unlock(&pool->lock);
}

void fp_pool_rest(fp_pool *pool)
{
    if (pool == NULL)
        return;
    fp_mutex_lock(&pool->lock);
    fp_u32_store_release(&pool->is_resting, 1); /* pairs with is_resting */
    uint32_t n = fp_u32_load_relaxed(&pool->n_workers);
    fp_mutex_unlock(&pool->lock);
    fp_sleep_dismiss(&pool->sleep);
    for (uint32_t i = 0; i < n; i++)
        fp_os_thread_join(pool->places[i].thread);
    fp_sleep_admit(&pool->sleep);
    fp_u32_store_release(&pool->n_workers, 0);
    fp_u32_store_release(&pool->is_resting, 0);
}
