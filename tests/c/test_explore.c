/* Small programs over the mutex, the parker, the queue's seats, segments and boards, in every interleaving that
 * fp_explore.h can reach.
 *
 * run.py also builds them with bugs planted in the core and expects each to be found here.
 */
#include "fp_explore.h"

#include "fp_check.h"
#include "fp_park.h"
#include "fp_queue.h"
#include "fp_shared.h"

static const int64_t FOR_EVER = -1;

/* ------------------------------------------------------------------------------------------- program: the mutex */

static fp_mutex mutex;
static int n_inside, n_sections;

static void lock_twice(int self)
{
    (void)self;
    for (int i = 0; i < 2; i++) {
        fp_mutex_lock(&mutex);
        CHECK_EQ(++n_inside, 1);
        fp_test_yield();
        n_inside--;
        n_sections++;
        fp_mutex_unlock(&mutex);
    }
}

static void mutex_set_up(void)
{
    fp_mutex_init(&mutex);
    n_inside = n_sections = 0;
    bodies[0] = bodies[1] = bodies[2] = lock_twice;
}

/* ------------------------------------------------------------------------------------------ program: the parker */

static fp_parker parker;
static int n_sent;

static void receive_all(int self)
{
    (void)self;
    int n_parks = 0;
    for (; n_sent < 4; n_parks++)
        CHECK_EQ(fp_park(&parker, FOR_EVER), FP_PARKED_PERMIT);
    CHECK(n_parks <= 4);
}

/* Timeouts among the permits lose none of them: the last wait has no deadline. */
static void receive_in_time(int self)
{
    for (int i = 0; i < 2; i++)
        fp_park(&parker, 1);
    receive_all(self);
}

static void send_twice(int self)
{
    (void)self;
    for (int i = 0; i < 2; i++) {
        n_sent++;
        fp_unpark(&parker);
    }
}

static void parker_set_up(void)
{
    fp_parker_init(&parker);
    n_sent = 0;
    bodies[0] = receive_all;
    bodies[1] = bodies[2] = send_twice;
}

static void timeout_set_up(void)
{
    parker_set_up();
    bodies[0] = receive_in_time;
}

/* ------------------------------------------------------------------------------------------- program: the seats */

enum { N_TASKS = 2 };

static fp_queue *queue;
static fp_parker parkers[N_THREADS];
static int n_summons, n_done, n_at_work, n_seats;
static bool meets;

/* Any idle worker would do; a worker that still is on its way home looks at n_summons before it parks. */
static void summon(uint32_t n)
{
    n_summons += (int)n;
    for (int i = 1; n > 0 && i < N_THREADS; i++)
        fp_unpark(&parkers[i]);
}

/* When tasks meet, none ends before all have begun: it takes a worker each, so every seat must have been called. */
static void run_task(int self)
{
    n_done++;
    for (int i = 1; i < N_THREADS; i++)
        if (meets && n_done == N_TASKS)
            fp_unpark(&parkers[i]);
    while (meets && n_done < N_TASKS)
        fp_park(&parkers[self], FOR_EVER);
}

static void serve(int self)
{
    fp_task task;
    uint32_t n;
    while (fp_queue_take(queue, &task, 1, &n) > 0) {
        CHECK(++n_at_work <= n_seats);
        summon(n);
        if (task.item == NULL && !meets) { /* the first time, each is put back */
            task.item = &task;
            CHECK_EQ(fp_queue_put_back(queue, &task, 1, &n), FP_OK);
            summon(n);
        } else {
            run_task(self);
        }
        n_at_work--;
    }
}

static void work(int self)
{
    for (;;) {
        while (n_summons == 0)
            fp_park(&parkers[self], FOR_EVER);
        n_summons--;
        serve(self);
    }
}

static void push_all(int self)
{
    (void)self;
    uint32_t n;
    for (uint64_t i = 0; i < N_TASKS; i++) {
        fp_task task = {NULL, i};
        CHECK_EQ(fp_queue_push(queue, &task, 1, &n), FP_OK);
        summon(n);
    }
}

static void push_at_once(int self)
{
    (void)self;
    fp_task tasks[N_TASKS] = {{NULL, 0}, {NULL, 1}};
    uint32_t n;
    CHECK_EQ(fp_queue_push(queue, tasks, N_TASKS, &n), FP_OK);
    summon(n);
}

static void seats_set_up(int n, void (*producer)(int), bool tasks_meet)
{
    queue = fp_queue_new((uint32_t)n);
    n_seats = n;
    n_summons = n_done = n_at_work = 0;
    meets = tasks_meet;
    for (int i = 0; i < N_THREADS; i++)
        fp_parker_init(&parkers[i]);
    bodies[0] = producer;
    bodies[1] = bodies[2] = work;
}

static void one_seat_set_up(void)
{
    seats_set_up(1, push_all, false /* tasks_meet */);
}

static void two_seats_set_up(void)
{
    seats_set_up(2, push_all, false /* tasks_meet */);
}

static void meeting_set_up(void)
{
    seats_set_up(2, push_at_once, true /* tasks_meet */);
}

static void seats_finish(void)
{
    CHECK_EQ(n_done, N_TASKS);
    CHECK_EQ(fp_queue_n_ready(queue), 0);
    CHECK_EQ(fp_queue_n_seated(queue), 0);
    fp_queue_free(queue);
}

/* ---------------------------------------------------------------------------------------- program: the segments */

static fp_segment_head segment;
static int content, n_readers, n_read;
static int letters[N_THREADS]; /* what the segment held when it was sent to this thread; 0: nothing was */

/* Writes the segment anew whenever it finds itself alone with it, and sends it to both of the others. */
static void write_and_send(int self)
{
    (void)self;
    for (int value = 1; value <= 2; value++) {
        if (fp_segment_n_holders(&segment) != 1)
            continue; /* another segment would be made */
        CHECK_EQ(n_readers, 0);
        content = value;
        for (int i = 1; i < N_THREADS; i++) {
            if (letters[i] != 0)
                continue; /* it has not looked yet */
            fp_segment_hold(&segment);
            letters[i] = value;
            fp_unpark(&parkers[i]);
        }
    }
    for (int i = 1; i < N_THREADS; i++) {
        while (letters[i] != 0)
            fp_park(&parkers[0], FOR_EVER);
        letters[i] = -1;
        fp_unpark(&parkers[i]);
    }
}

static void read_what_comes(int self)
{
    while (letters[self] >= 0) {
        if (letters[self] == 0) {
            fp_park(&parkers[self], FOR_EVER);
            continue;
        }
        n_readers++;
        CHECK_EQ(content, letters[self]);
        fp_test_yield();
        CHECK_EQ(content, letters[self]);
        n_readers--;
        n_read++;
        letters[self] = 0;
        fp_segment_release(&segment);
        fp_unpark(&parkers[0]);
    }
}

static void segments_set_up(void)
{
    fp_u32_init(&segment.n_holders, 1);
    content = n_readers = n_read = 0;
    for (int i = 0; i < N_THREADS; i++) {
        fp_parker_init(&parkers[i]);
        letters[i] = 0;
    }
    bodies[0] = write_and_send;
    bodies[1] = bodies[2] = read_what_comes;
}

static void segments_finish(void)
{
    all_are_over();
    CHECK(n_read >= 2);
    CHECK_EQ(atomic_load(&segment.n_holders), 1);
}

/* ------------------------------------------------------------------------------------------ program: the offers */

enum { N_BATCHES = FP_BATCHES_HELD };

static fp_board board;
static int n_offered, n_holders_of[N_BATCHES + 1];

static void claim(int64_t batch)
{
    n_holders_of[batch] += fp_board_claim(&board, batch);
}

/* The parent: as many as a worker can hold, and then each back that nobody has begun. */
static void offer_and_take_back(int self)
{
    (void)self;
    for (int batch = 1; batch <= N_BATCHES; batch++) {
        CHECK(fp_board_offer(&board, batch));
        n_offered = batch;
        fp_unpark(&parkers[1]);
    }
    for (int batch = N_BATCHES; batch > 0; batch--)
        claim(batch);
}

/* The worker: begins what was sent, in order. */
static void begin_in_order(int self)
{
    for (int batch = 1; batch <= N_BATCHES; batch++) {
        while (n_offered < batch)
            fp_park(&parkers[self], FOR_EVER);
        claim(batch);
    }
}

static void do_nothing(int self)
{
    (void)self;
}

static void offers_set_up(void)
{
    memset(&board, 0, sizeof board);
    memset(n_holders_of, 0, sizeof n_holders_of);
    n_offered = 0;
    fp_parker_init(&parkers[1]);
    bodies[0] = offer_and_take_back;
    bodies[1] = begin_in_order;
    bodies[2] = do_nothing;
}

static void offers_finish(void)
{
    all_are_over();
    for (int batch = 1; batch <= N_BATCHES; batch++)
        CHECK_EQ(n_holders_of[batch], 1);
    CHECK(!fp_board_claim(&board, 1));
    for (int batch = 1; batch <= N_BATCHES; batch++)
        CHECK(fp_board_offer(&board, batch)); /* all room is there again */
    CHECK(!fp_board_offer(&board, N_BATCHES + 1));
}

int main(int argc, char **argv)
{
    test_start(argc, argv, (struct options){0});
    explore("mutex", 3, mutex_set_up, all_are_over);
    explore("parker", 4, parker_set_up, all_are_over);
    explore("parker with timeouts", 4, timeout_set_up, all_are_over);
    explore("one seat, two workers", 2, one_seat_set_up, seats_finish);
    explore("two seats, two workers", 2, two_seats_set_up, seats_finish);
    explore("two tasks that meet", 2, meeting_set_up, seats_finish);
    explore("a segment, two readers", 2, segments_set_up, segments_finish);
    explore("batches that are begun or taken back", 4, offers_set_up, offers_finish);
    return 0;
}
