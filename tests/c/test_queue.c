/* What each call of the dispatch queue promises, one thread at a time. */
#include "fp_test.h"

#include "fp_check.h"
#include "fp_queue.h"

enum { MANY = 1000 };

static fp_task tasks[MANY], out[MANY];
static uint32_t n_summoned;

/* Tasks first .. first + n, pushed; returns how many workers were summoned. */
static uint32_t push(fp_queue *queue, uint64_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tasks[i] = (fp_task){.item = &tasks[i], .index = first + i};
    CHECK_EQ(fp_queue_push(queue, tasks, n, &n_summoned), FP_OK);
    return n_summoned;
}

/* Takes up to `max`, which must give exactly tasks first .. first + n in order; returns the summons. */
static uint32_t take(fp_queue *queue, size_t max, uint64_t first, size_t n)
{
    CHECK_EQ(fp_queue_take(queue, out, max, &n_summoned), n);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(out[i].index, first + i);
    return n_summoned;
}

static void close_and_free(fp_queue *queue)
{
    while (fp_queue_close(queue, out, MANY) > 0) {}
    while (fp_queue_n_seated(queue) > 0)
        fp_queue_leave(queue);
    fp_queue_free(queue);
}

static void tasks_come_in_order(void)
{
    fp_queue *queue = fp_queue_new(1);
    CHECK_EQ(push(queue, 0, 3), 1);
    CHECK_EQ(push(queue, 3, 2), 0);
    CHECK_EQ(fp_queue_n_ready(queue), 5);
    CHECK_EQ(take(queue, 4, 0, 4), 0);
    CHECK_EQ(take(queue, 4, 4, 1), 0);
    CHECK_EQ(take(queue, 4, 0, 0), 0);
    CHECK_EQ(fp_queue_n_seated(queue), 0);
    fp_queue_free(queue);
}

static void item_travels_with_its_index(void)
{
    fp_queue *queue = fp_queue_new(1);
    push(queue, 10, 2);
    take(queue, 2, 10, 2);
    CHECK(out[0].item == &tasks[0] && out[1].item == &tasks[1]);
    close_and_free(queue);
}

static void empty_push_summons_nobody(void)
{
    fp_queue *queue = fp_queue_new(2);
    CHECK_EQ(push(queue, 0, 0), 0);
    CHECK_EQ(fp_queue_put_back(queue, tasks, 0, &n_summoned), FP_OK);
    CHECK_EQ(n_summoned, 0);
    fp_queue_free(queue);
}

static void each_take_summons_the_next(void)
{
    fp_queue *queue = fp_queue_new(3);
    CHECK_EQ(push(queue, 0, 10), 1);
    CHECK_EQ(take(queue, 1, 0, 1), 1);
    CHECK_EQ(take(queue, 1, 1, 1), 1);
    CHECK_EQ(fp_queue_n_seated(queue), 3);
    CHECK_EQ(take(queue, 1, 2, 1), 0); /* no seat is free */
    CHECK_EQ(push(queue, 10, 1), 0);
    CHECK_EQ(take(queue, MANY, 3, 8), 0);
    CHECK_EQ(take(queue, MANY, 0, 0), 0);
    CHECK_EQ(fp_queue_n_seated(queue), 2);
    CHECK_EQ(push(queue, 11, 1), 1); /* the seat given up is free again */
    close_and_free(queue);
}

static void last_task_summons_nobody(void)
{
    fp_queue *queue = fp_queue_new(2);
    push(queue, 0, 1);
    CHECK_EQ(take(queue, 1, 0, 1), 0);
    close_and_free(queue);
}

static void leave_frees_the_seat(void)
{
    fp_queue *queue = fp_queue_new(1);
    CHECK_EQ(push(queue, 0, 1), 1);
    fp_queue_leave(queue);
    CHECK_EQ(fp_queue_n_seated(queue), 0);
    CHECK_EQ(push(queue, 1, 1), 1);
    CHECK_EQ(take(queue, 2, 0, 2), 0);
    close_and_free(queue);
}

static void put_back_comes_first_and_in_order(void)
{
    fp_queue *queue = fp_queue_new(2);
    push(queue, 0, 8);
    take(queue, 4, 0, 4);
    CHECK_EQ(fp_queue_put_back(queue, out + 1, 3, &n_summoned), FP_OK);
    CHECK_EQ(n_summoned, 0); /* both seats were taken: by us and by our take's summons */
    take(queue, MANY, 1, 7);
    take(queue, MANY, 0, 0);
    CHECK_EQ(fp_queue_put_back(queue, tasks, 2, &n_summoned), FP_OK);
    CHECK_EQ(n_summoned, 1);
    close_and_free(queue);
}

/* Every position of the ring's start, and tasks across its end, while it grows too. */
static void order_holds_around_the_end_of_the_ring(void)
{
    fp_queue *queue = fp_queue_new(1);
    uint64_t n_pushed = 0, n_taken = 0;
    for (size_t n = 1; n < 400; n++) {
        push(queue, n_pushed, n);
        n_pushed += n;
        size_t n_wanted = n - (n % 3 == 0);
        take(queue, n_wanted, n_taken, n_wanted);
        CHECK_EQ(fp_queue_put_back(queue, out + n_wanted / 2, n_wanted - n_wanted / 2, &n_summoned), FP_OK);
        n_taken += n_wanted / 2;
        size_t n_ready = n_pushed - n_taken;
        n_wanted = n_ready > n / 2 ? n_ready - n / 2 : n_ready;
        take(queue, n_wanted, n_taken, n_wanted);
        n_taken += n_wanted;
    }
    take(queue, MANY, n_taken, n_pushed - n_taken);
    close_and_free(queue);
}

static void closed_queue_gives_its_tasks_to_the_closer(void)
{
    fp_queue *queue = fp_queue_new(2);
    push(queue, 0, 5);
    CHECK(!fp_queue_is_closed(queue));
    CHECK_EQ(fp_queue_close(queue, NULL, 0), 0);
    CHECK(fp_queue_is_closed(queue));
    CHECK_EQ(fp_queue_take(queue, out, 1, &n_summoned), 0);
    CHECK_EQ(fp_queue_n_seated(queue), 0);
    CHECK_EQ(fp_queue_close(queue, out, 3), 3);
    CHECK_EQ(out[2].index, 2);
    CHECK_EQ(fp_queue_push(queue, tasks, 1, &n_summoned), FP_CLOSED);
    CHECK_EQ(n_summoned, 0);
    CHECK_EQ(fp_queue_put_back(queue, tasks, 1, &n_summoned), FP_CLOSED);
    CHECK_EQ(n_summoned, 0);
    CHECK_EQ(fp_queue_close(queue, out, 3), 2);
    CHECK_EQ(out[0].index, 3);
    CHECK_EQ(fp_queue_close(queue, out, 3), 0);
    fp_queue_free(queue);
}

#ifdef FP_DEBUG

static void new_queue_without_memory_is_null(void)
{
    fp_check_fail_nth(1);
    CHECK(fp_queue_new(1) == NULL);
}

static void push_without_memory_changes_nothing(void)
{
    fp_queue *queue = fp_queue_new(1);
    fp_check_fail_nth(1);
    CHECK_EQ(fp_queue_push(queue, tasks, 1, &n_summoned), FP_NO_MEMORY);
    CHECK_EQ(n_summoned, 0);
    CHECK_EQ(push(queue, 0, 64), 1);
    fp_check_fail_nth(1);
    CHECK_EQ(fp_queue_push(queue, tasks, 1, &n_summoned), FP_NO_MEMORY);
    CHECK_EQ(fp_queue_n_ready(queue), 64);
    fp_check_fail_nth(0);
    push(queue, 64, 1);
    take(queue, MANY, 0, 65);
    close_and_free(queue);
}

/* Each seat takes all there is and the producer fills the room again; then all seats put everything back. */
static void put_back_from_a_seat_needs_no_memory(void)
{
    enum { N_SEATS = 4, N = 64 };
    static fp_task held[N_SEATS][N];
    fp_queue *queue = fp_queue_new(N_SEATS);
    for (int seat = 0; seat < N_SEATS; seat++) {
        push(queue, (uint64_t)seat * N, N);
        CHECK_EQ(fp_queue_take(queue, held[seat], N, &n_summoned), N);
    }
    push(queue, N_SEATS * N, N);
    fp_check_fail_nth(1);
    for (int seat = N_SEATS - 1; seat >= 0; seat--)
        CHECK_EQ(fp_queue_put_back(queue, held[seat], N, &n_summoned), FP_OK);
    fp_check_fail_nth(0);
    take(queue, MANY, 0, (N_SEATS + 1) * N);
    close_and_free(queue);
}

static void other_tasks_put_back_may_need_memory(void)
{
    fp_queue *queue = fp_queue_new(1);
    push(queue, 0, 64);
    fp_check_fail_nth(1);
    CHECK_EQ(fp_queue_put_back(queue, tasks, 1, &n_summoned), FP_NO_MEMORY);
    take(queue, MANY, 0, 64);
    close_and_free(queue);
}

#endif

int main(int argc, char **argv)
{
    test_start(argc, argv, (struct options){0});
    RUN(tasks_come_in_order);
    RUN(item_travels_with_its_index);
    RUN(empty_push_summons_nobody);
    RUN(each_take_summons_the_next);
    RUN(last_task_summons_nobody);
    RUN(leave_frees_the_seat);
    RUN(put_back_comes_first_and_in_order);
    RUN(order_holds_around_the_end_of_the_ring);
    RUN(closed_queue_gives_its_tasks_to_the_closer);
#ifdef FP_DEBUG
    RUN(new_queue_without_memory_is_null);
    RUN(push_without_memory_changes_nothing);
    RUN(put_back_from_a_seat_needs_no_memory);
    RUN(other_tasks_put_back_may_need_memory);
#endif
    CHECK_EQ(fp_check_n_live(), 0);
    return 0;
}
