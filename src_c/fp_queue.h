/* The dispatch queue: the ready tasks of one run, and the seats from which workers serve them.
 *
 * It owns the order of the tasks and the number of workers. It does not own what a task's item points to, knows no
 * thread, and nobody ever waits inside it: a worker that finds nothing ready gives its seat up and goes home, and
 * whoever makes tasks ready while a seat is free is told to summon a worker to it.
 *
 * Any thread may call any of it, with or without the GIL: one mutex, sections of a few copies, no calling out. The
 * queue is not bounded in itself: the bound is the window of the run, and its only producer keeps it.
 */
#ifndef FP_QUEUE_H
#define FP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum fp_status {
    FP_OK,
    FP_NO_MEMORY, /* nothing has changed */
    FP_CLOSED,    /* the queue takes no tasks any more; nothing has changed */
} fp_status;

/* `item` belongs to whoever holds the task; the queue moves it and never looks at it. */
typedef struct fp_task {
    void *item;
    uint64_t index;
} fp_task;

typedef struct fp_queue fp_queue;

/* At most `n_seats` workers, at least one, serve it at a time. NULL: no memory. */
fp_queue *fp_queue_new(uint32_t n_seats);

/* It must be empty, and no thread may still be in a call on it, not even one that has just given its seat up. */
void fp_queue_free(fp_queue *queue);

/* Appends n tasks in order. FP_CLOSED, FP_NO_MEMORY: the tasks stay the caller's.
 *
 * `*n_summoned` becomes 1 when a seat was free: it is now reserved, and the caller must bring a worker to it, who
 * starts with fp_queue_take, or give it up by fp_queue_leave. Otherwise, and on failure, it becomes 0. One, however
 * many tasks came: that worker's own take summons the next, so a producer pays for one wake-up at most.
 */
fp_status fp_queue_push(fp_queue *queue, const fp_task *tasks, size_t n, uint32_t *n_summoned);

/* The same at the front, the first of them foremost: the unstarted rest of a batch, or tasks to be tried again.
 *
 * For tasks of the latest take from a seat, while the seat is still held (by the caller or by the worker it speaks
 * for): that needs no memory, so it never answers FP_NO_MEMORY. Other tasks may meet it when they need the ring to
 * grow, and take up room that the promise to others rests on.
 */
fp_status fp_queue_put_back(fp_queue *queue, const fp_task *tasks, size_t n, uint32_t *n_summoned);

/* Moves up to `max` tasks, at least 1, from the front to `out`. The caller has a seat.
 *
 * 0 exactly when nothing was ready or the queue is closed; the seat has then been given up, in the same step as
 * nothing was found. Otherwise, if tasks remain and a seat is free, `*n_summoned` becomes 1, as for a push.
 */
size_t fp_queue_take(fp_queue *queue, fp_task *out, size_t max, uint32_t *n_summoned);

/* Gives a seat up without looking for tasks: the worker could not be brought, or stops.
 *
 * The one call after which ready tasks may have nobody coming for them. While other seats are taken, the next take
 * from one of them summons again; if this was the last seat, it is for the caller to close the queue or push on.
 */
void fp_queue_leave(fp_queue *queue);

/* Ends the queue: no push is accepted and no take succeeds any more. Moves up to `max` tasks to `out`, which are the
 * caller's to free; call until it returns 0. Again and from several threads is allowed.
 */
size_t fp_queue_close(fp_queue *queue, fp_task *out, size_t max);

/* Whether it was closed: a glance without the lock, for a worker that asks between two tasks of a batch. True is final;
 * false may be old, and the take that follows says no in time.
 */
bool fp_queue_is_closed(const fp_queue *queue);

/* How many are ready, how many seats are taken or reserved: a glance without the lock, old before it is used, for
 * heuristics and reports only. n_seated == 0 does not mean that the last worker has left its call.
 */
size_t fp_queue_n_ready(const fp_queue *queue);
uint32_t fp_queue_n_seated(const fp_queue *queue);

#endif
