/* Small programs over the deque and over who searches and sleeps, in every interleaving that fp_explore.h can reach.
 *
 * run.py also builds them with bugs planted in the core and expects each to be found here.
 */
#include "fp_explore.h"

#include "fp_check.h"
#include "fp_deque.h"
#include "fp_sleep.h"

/* ------------------------------------------------------------------------------------------ program: the deque */

enum { N_TICKETS = 3 };

static const fp_wish any = {.loop = NULL};
static fp_deque deque;
static int n_taken[N_TICKETS];

static void note_taken(const fp_ticket *ticket)
{
    CHECK(ticket->depth < N_TICKETS);
    CHECK_EQ(ticket->root, ticket->depth + 100);
    CHECK_EQ(++n_taken[ticket->depth], 1);
}

/* Two tickets, one back, a third one in the slot of the second, and all the rest back. */
static void push_and_pop(int self)
{
    (void)self;
    fp_ticket ticket;
    for (size_t i = 0; i < N_TICKETS; i++) {
        CHECK(fp_deque_push_owner(&deque, &(fp_ticket){NULL, i + 100, i}));
        if (i == 1 && fp_deque_pop_owner(&deque, &ticket))
            note_taken(&ticket);
    }
    while (fp_deque_pop_owner(&deque, &ticket))
        note_taken(&ticket);
}

static void steal_two(int self)
{
    (void)self;
    for (int i = 0; i < 2; i++) {
        fp_ticket ticket;
        if (fp_deque_steal_thief(&deque, &any, &ticket) == FP_THEFT_TAKEN)
            note_taken(&ticket);
    }
}

static void deque_set_up(void)
{
    fp_deque_init(&deque);
    memset(n_taken, 0, sizeof n_taken);
    bodies[0] = push_and_pop;
    bodies[1] = bodies[2] = steal_two;
}

static void deque_finish(void)
{
    all_are_over();
    for (int i = 0; i < N_TICKETS; i++)
        CHECK_EQ(n_taken[i], 1);
}

/* ------------------------------------------------------------------------- program: two who sleep, one who posts */

static fp_sleep sleepers;
static fp_sleeper sleeper_of[N_THREADS];
static fp_deque deques[N_THREADS];
static fp_parker pause_of[N_THREADS];
static int n_served, n_wanted, n_at_work, n_to_start;
static bool meets;

static void post(int self, size_t number)
{
    fp_ticket ticket = {NULL, number + 100, number};
    CHECK(fp_deque_push_owner(&deques[self], &ticket));
    n_to_start += !fp_sleep_post(&sleepers, &ticket);
}

static bool find(const fp_wish *wish, fp_ticket *ticket)
{
    for (int i = 0; i < N_THREADS; i++) {
        fp_theft theft = FP_THEFT_LOST;
        while (theft == FP_THEFT_LOST) /* there may be another ticket */
            theft = fp_deque_steal_thief(&deques[i], wish, ticket);
        if (theft == FP_THEFT_TAKEN)
            return true;
    }
    return false;
}

/* When tickets meet, none ends before all have been taken: it takes a worker each, so none may sleep on. */
static void serve(int self)
{
    n_served++;
    n_at_work++;
    for (int i = 1; i < N_THREADS; i++)
        if (meets && n_served == n_wanted)
            fp_unpark(&sleeper_of[i].parker);
    while (meets && n_served < n_wanted)
        fp_park(&sleeper_of[self].parker, -1);
    n_at_work--;
}

static void work(int self)
{
    for (;;) {
        fp_ticket ticket;
        if (find(&any, &ticket)) {
            fp_sleep_take(&sleepers);
            serve(self);
            fp_sleep_search(&sleepers);
        } else if (!fp_sleep_sleep(&sleepers, &sleeper_of[self])) {
            /* A ticket is between two hands. Lets the others go on, as fp_os_yield does there. */
            fp_park(&pause_of[self], 1);
        }
    }
}

static void post_two(int self)
{
    post(self, 0);
    post(self, 1);
}

/* Takes a ticket back if it can, as a loop that ends does. */
static void post_and_withdraw(int self)
{
    fp_ticket ticket;
    post(self, 0);
    post(self, 1);
    if (fp_deque_pop_owner(&deques[self], &ticket)) {
        fp_sleep_withdraw(&sleepers);
        n_wanted--;
    }
}

static void sleep_set_up(void)
{
    fp_sleep_init(&sleepers);
    for (int i = 0; i < N_THREADS; i++) {
        memset(&sleeper_of[i], 0, sizeof sleeper_of[i]);
        fp_parker_init(&sleeper_of[i].parker);
        fp_parker_init(&pause_of[i]);
        fp_deque_init(&deques[i]);
    }
    n_served = n_at_work = n_to_start = 0;
    n_wanted = 2;
    meets = false;
    fp_sleep_search(&sleepers);
    fp_sleep_search(&sleepers);
    bodies[0] = post_two;
    bodies[1] = bodies[2] = work;
}

static void meeting_set_up(void)
{
    sleep_set_up();
    meets = true;
}

static void withdrawing_set_up(void)
{
    sleep_set_up();
    bodies[0] = post_and_withdraw;
}

static void sleep_finish(void)
{
    fp_sleep_counts counts = fp_sleep_glance(&sleepers);
    CHECK_EQ(n_served, n_wanted);
    CHECK_EQ(counts.n_tickets, 0);
    CHECK_EQ(counts.n_searching, 0);
    CHECK_EQ(counts.n_asleep, 2);
}

/* -------------------------------------------------------- program: one who waits is called, when his loop is over */

static bool has_ended;

static void end_and_post(int self)
{
    has_ended = true;
    fp_unpark(&sleeper_of[1].parker);
    post(self, 1);
}

/* The ticket suits, but a loop that has ended needs no help: whoever sleeps must be called instead. */
static void wait_and_leave(int self)
{
    static char loop;
    fp_wish wish = {(struct fp_loop *)&loop, 101, 0};
    fp_sleep_wait_begin(&sleepers, &sleeper_of[self], &wish);
    while (!has_ended)
        fp_park(&sleeper_of[self].parker, -1);
    n_to_start += !fp_sleep_wait_end(&sleepers, &sleeper_of[self], FP_WAITED_ENOUGH, NULL);
}

static void waiting_set_up(void)
{
    sleep_set_up();
    fp_sleep_init(&sleepers);
    fp_sleep_search(&sleepers);
    n_wanted = 1;
    has_ended = false;
    bodies[0] = end_and_post;
    bodies[1] = wait_and_leave;
}

static void waiting_finish(void)
{
    fp_sleep_counts counts = fp_sleep_glance(&sleepers);
    CHECK_EQ(n_served, n_wanted);
    CHECK_EQ(counts.n_tickets, 0);
    CHECK_EQ(counts.n_waiting, 0);
    CHECK_EQ(counts.n_asleep, 1);
}

static void do_nothing(int self)
{
    (void)self;
}

/* Nobody sleeps either: whoever finds so last must start a thread. */
static void nobody_set_up(void)
{
    waiting_set_up();
    fp_sleep_init(&sleepers);
    bodies[2] = do_nothing;
}

static void nobody_finish(void)
{
    all_are_over();
    CHECK_EQ(fp_sleep_glance(&sleepers).n_tickets, 1);
    CHECK_EQ(n_to_start, 1);
}

/* ------------------------------------------ program: one who waits is called, when he has just taken another ticket */

static char loops[3];

static void post_inner(int self, int number)
{
    fp_ticket ticket = {(struct fp_loop *)&loops[number], 101, 1};
    CHECK(fp_deque_push_owner(&deques[self], &ticket));
    fp_sleep_post(&sleepers, &ticket);
}

static void post_two_inner(int self)
{
    post_inner(self, 1);
    post_inner(self, 2);
}

static bool take_inner(const fp_wish *wish, fp_ticket *ticket)
{
    if (!find(wish, ticket))
        return false;
    fp_sleep_withdraw(&sleepers);
    return true;
}

/* As fp_loop.c waits. The call may come between taking a ticket and leaving the list: the ticket that it is for must
 * find somebody else then, since the two meet. */
static void wait_and_help(int self)
{
    fp_wish wish = {(struct fp_loop *)&loops[0], 101, 0};
    while (n_served < n_wanted) {
        fp_ticket ticket;
        fp_sleep_wait_begin(&sleepers, &sleeper_of[self], &wish);
        bool has_taken = take_inner(&wish, &ticket);
        if (!has_taken) {
            fp_park(&sleeper_of[self].parker, -1);
            has_taken = take_inner(&wish, &ticket);
        }
        fp_waited how = has_taken ? FP_WAITED_AND_TOOK : FP_WAITED_IN_VAIN;
        fp_sleep_wait_end(&sleepers, &sleeper_of[self], how, &ticket);
        if (has_taken)
            serve(self);
    }
}

static void late_call_set_up(void)
{
    meeting_set_up();
    fp_sleep_init(&sleepers);
    fp_sleep_search(&sleepers);
    bodies[0] = post_two_inner;
    bodies[1] = wait_and_help;
}

static void post_one_inner(int self)
{
    post_inner(self, 2);
}

/* The other waits too, and nobody sleeps. */
static void late_call_of_two_set_up(void)
{
    meeting_set_up();
    fp_sleep_init(&sleepers);
    post_inner(0, 1);
    bodies[0] = post_one_inner;
    bodies[1] = bodies[2] = wait_and_help;
}

static void late_call_of_two_finish(void)
{
    CHECK_EQ(n_served, n_wanted);
    all_are_over();
    CHECK_EQ(fp_sleep_glance(&sleepers).n_tickets, 0);
}

int main(int argc, char **argv)
{
    test_start(argc, argv, (struct options){0});
    explore("deque", 3, deque_set_up, deque_finish);
    explore("two tickets, two workers", 2, sleep_set_up, sleep_finish);
    explore("two tickets that meet", 2, meeting_set_up, sleep_finish);
    explore("a ticket taken back", 2, withdrawing_set_up, sleep_finish);
    explore("a call passed on", 3, waiting_set_up, waiting_finish);
    explore("a call passed on to nobody", 3, nobody_set_up, nobody_finish);
    explore("a call after a take, one asleep", 2, late_call_set_up, waiting_finish);
    explore("a call after a take, two waiting", 2, late_call_of_two_set_up, late_call_of_two_finish);
    return 0;
}
