/* Who finds itself alone with a segment may write it anew, and nobody sees that happen to bytes it still reads.
 *
 * Threads stand for processes: one sends segments to the others, which read them and count themselves out. What they
 * share beside the segments goes one way only, so that the count alone orders reading before writing: that is what
 * ThreadSanitizer looks at.
 */
#include "fp_test.h"

#include "fp_shared.h"

#include <sched.h>

enum { N_SEGMENTS = 4, N_WORDS = 64, MAX_RECEIVERS = 16 };

static struct options options = {.threads = 4, .iterations = 20000, .seed = 1};

typedef struct {
    fp_segment_head head;
    long words[N_WORDS]; /* plain: only the count makes this right */
} segment;

static segment segments[N_SEGMENTS];

typedef struct {
    segment *content;
    long value;
} message;

static message *sent[MAX_RECEIVERS]; /* one after the other, none twice */
static _Atomic(long) n_sent[MAX_RECEIVERS];
static long dies_after; /* the first receiver is killed with a message that it has not counted out; -1: it is not */

static void write_anew(segment *segment, long value)
{
    for (int i = 0; i < N_WORDS; i++)
        segment->words[i] = value;
}

static void check_content(const segment *segment, long value)
{
    for (int i = 0; i < N_WORDS; i++)
        CHECK_EQ(segment->words[i], value);
}

static void *receive(void *argument)
{
    long self = (long)(intptr_t)argument;
    for (long i = 0; i < options.iterations; i++) {
        while (atomic_load_explicit(&n_sent[self], memory_order_acquire) <= i)
            sched_yield();
        const message *message = &sent[self][i];
        if (message->content == NULL)
            continue; /* this one was not for us */
        check_content(message->content, message->value);
        if (self == 0 && i == dies_after)
            return NULL;
        fp_segment_release(&message->content->head);
    }
    return NULL;
}

/* Any that nobody else holds; there always is one in the end, as long as receivers read. */
static segment *take(uint64_t *random)
{
    for (;;) {
        segment *segment = &segments[random_below(random, N_SEGMENTS)];
        if (fp_segment_n_holders(&segment->head) == 1)
            return segment;
        sched_yield();
    }
}

static void send_all(void)
{
    uint64_t random = options.seed;
    for (long i = 0; i < options.iterations; i++) {
        segment *segment = take(&random);
        write_anew(segment, i);
        for (long receiver = 0; receiver < options.threads; receiver++) {
            bool is_for_it = random_below(&random, 2) == 0 && !(receiver == 0 && dies_after >= 0 && i > dies_after);
            sent[receiver][i] = (message){is_for_it || (receiver == 0 && i == dies_after) ? segment : NULL, i};
            if (sent[receiver][i].content != NULL)
                fp_segment_hold(&segment->head); /* before it is sent: the sender counts for the receiver */
            atomic_store_explicit(&n_sent[receiver], i + 1, memory_order_release);
        }
    }
}

static void exchange(void)
{
    pthread_t receivers[MAX_RECEIVERS];
    for (int i = 0; i < N_SEGMENTS; i++)
        fp_u32_init(&segments[i].head.n_holders, 1);
    for (long i = 0; i < options.threads; i++) {
        sent[i] = calloc((size_t)options.iterations, sizeof *sent[i]);
        CHECK(sent[i] != NULL);
        atomic_store(&n_sent[i], 0);
        receivers[i] = thread_start(receive, (void *)(intptr_t)i);
    }
    send_all();
    for (long i = 0; i < options.threads; i++)
        thread_join(receivers[i]);
}

static long n_held(void)
{
    long n = 0;
    for (int i = 0; i < N_SEGMENTS; i++)
        n += (long)fp_segment_n_holders(&segments[i].head) - 1;
    return n;
}

static void end(void)
{
    for (long i = 0; i < options.threads; i++)
        free(sent[i]);
}

static void nobody_writes_what_another_reads(void)
{
    dies_after = -1;
    exchange();
    CHECK_EQ(n_held(), 0);
    end();
}

static void what_a_killed_process_held_is_never_written(void)
{
    dies_after = options.iterations / 2;
    exchange();
    CHECK_EQ(n_held(), 1);
    check_content(sent[0][dies_after].content, dies_after);
    end();
}

static void the_board_shows_each_word_on_its_own(void)
{
    fp_board board;
    memset(&board, 0, sizeof board);
    fp_board_set(&board.place, FP_PLACE_PACKING);
    fp_board_set(&board.batch, INT64_MAX);
    fp_board_set(&board.stop, 7);
    CHECK_EQ(fp_board_get(&board.place), FP_PLACE_PACKING);
    CHECK_EQ(fp_board_get(&board.batch), INT64_MAX);
    CHECK_EQ(fp_board_get(&board.stop), 7);
    CHECK_EQ(fp_board_get(&board.started_ns), 0);
}

int main(int argc, char **argv)
{
    options = test_start(argc, argv, options);
    CHECK(options.threads <= MAX_RECEIVERS);
    RUN(nobody_writes_what_another_reads);
    RUN(what_a_killed_process_held_is_never_written);
    RUN(the_board_shows_each_word_on_its_own);
    return 0;
}
