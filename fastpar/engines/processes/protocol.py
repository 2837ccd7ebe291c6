"""Kinds of messages, and the meaning of their numbers. README.md beside this file tells the whole story."""

from __future__ import annotations

CLOSED = -1  # not a message: nobody is at the other end

# `_core.channel` repeats BATCH, RESULTS and DONE, which compiled code knows.

# Parent to nursery.
FORK = 1  # number of the worker, whether to exec; descriptors: the worker's end of its channel, its board
KILL = 2  # number of the worker
PRELOAD = 3  # body: names of modules

# Parent to worker.
SETTINGS = 10  # 1 for packed; body: pickled settings, for all batches that follow
BATCH = 11  # number, tasks, budget in ns, number of the call, 1 if packed, 1 with news; body: news, and the tasks
REST = 12  # the call is over: drop what was kept for it

# Worker to parent.
HELLO = 20  # pid
RESULTS = 21  # number of the batch, tasks that have results, total and longest ns, status; body: results, error
NOTE = 22  # number of the batch, place of the task, 1 for packed; body: a log record, a warning, a line of output

# Nursery to parent, on a worker's channel.
DIED = 30  # pid, or -1 if it could not be started; exit code, or errno; peak memory in bytes

# Status of RESULTS.
DONE = 0  # the batch ended, or its unstarted rest is given back
MORE = 1  # the batch goes on
RAISED = 2  # the next task raised; the body says what
UNREADABLE = 3  # the tasks could not be unpickled; the body says why
UNPREPARED = 4  # the settings could not be taken over, the initializer's error for one; the body says why
STATUS_MASK = 7  # where one of them stands
FULL = 8  # set beside it: this worker would like to be replaced
