"""One call on worker processes. The calling thread is the event loop: it waits for all of the call's workers in one
`poll`.

For each seat of the run it takes batches on a worker's behalf, sends them, and brings in the answers. A worker has two
seats where there is enough to do, so that the next batch is there when one has ended; a worker that has nothing gets
what another has not begun. A worker that dies is replaced on its seats; what it had not begun goes to its successor.
"""

from __future__ import annotations

import itertools
import os
from time import monotonic_ns

from fastpar import cpu
from fastpar._core.batching import BatchSizer
from fastpar._core.dispatch import Run
from fastpar._core.driven import resize
from fastpar._core.exchange import Exchange
from fastpar._core.remote import RemoteCrew, Seat, fail_without_task
from fastpar._core.segments import BATCHES_HELD, IDLE
from fastpar._core.slots import Slots
from fastpar.engines.attempts import Attempt
from fastpar.engines.processes import failures, notes, protocol, settings
from fastpar.engines.processes.arguments import Arrays, load_results
from fastpar.engines.processes.luggage import Luggage, explain
from fastpar.engines.processes.reports import restore_error
from fastpar.engines.processes.times import key_of
from fastpar.errors import WorkerStartError, plain_task, timeout_error

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fastpar.engines.base import Plan
    from fastpar.engines.processes.options import Options
    from fastpar.engines.processes.pool import Nursery, Pool, Worker

#: What a batch costs beside its tasks: pickling, a socket both ways, two wake-ups; and some worker's core meanwhile.
BATCH_OVERHEAD_NS = 100_000
MAX_BATCH = 1_024  # D-012
#: Batches may take this long, where what their tasks have in common takes long to pickle: a busy worker can be killed.
MAX_BATCH_NS = 12e6
#: What is pickled here is unpickled there, and some of it takes longer.
PACK_SHARES = 3
#: How long workers may take to end their current task, when nobody wants it any more, before they are killed.
GRACE_NS = 10_000_000
#: So many workers in a row that end before their first batch: something is wrong with all of them.
MAX_FALSE_STARTS = 8

#: So many messages of a worker, which results may be behind, are acted on before the source is read again.
MAX_BEHIND = 100

_calls = itertools.count(1)


class ProcessSession(Exchange):
    """See the module's docstring."""

    def __init__(self, pool: Pool, plan: Plan, options: Options) -> None:
        self._pool = pool
        self._plan = plan
        self._options = options
        self.is_closed = False  # then it gives its workers back, or has
        self.n_workers: int = plan.n_workers
        n_all = plan.n_workers + pool.admit(self)
        n_cpus = max(1, cpu.budget() * plan.n_workers // n_all)  # by its part of the workers of all calls under way
        try:
            self._settings = settings.collect(plan, options, n_cpus)
        except BaseException:
            self.is_closed = True
            raise
        self._arrays = Arrays(pool.warehouse(options.folder), options.max_nbytes, options.mmap_mode)
        self._luggage = Luggage(self._arrays, options.folder)
        self._nurseries: list[Nursery] = []
        self._crew = RemoteCrew()
        self._sizer = BatchSizer(BATCH_OVERHEAD_NS, plan.batch_size, MAX_BATCH, MAX_BATCH_NS)
        self._key: Any = None
        run = Run(
            itertools.chain(self._first_task(), plan.source),
            Slots(plan.keep),
            plan.n_workers,
            plan.n_total,
            plan.pre_dispatch,
            self._sizer,
            self._crew,
            times_tasks=plan.times_tasks,
            n_seats=plan.n_workers * BATCHES_HELD,
        )
        super().__init__(run, next(_calls), self._arrays.gone, n_cpus)

    def end(self) -> None:
        """At the end of the interpreter: kill the workers, however busy; `close` has nothing left to do."""
        self.is_closed = True
        if self.run is None:
            return  # it is being made, in another thread
        self.run.cancel()
        for worker in self.peers:
            self._dismiss(worker)
        self._decline()
        self.peers = []  # another: the call's thread may be looking at this one

    def step(self, timeout_ns: int) -> bool:
        """Read, send what there is, and bring in answers until there is news."""
        deadline = monotonic_ns() + timeout_ns
        try:
            self.run.pull()
            self._bring_workers()
            if self.run.is_source_slow:
                self._catch_up()
            while not self.run.wait(0):
                left_ns = -1 if timeout_ns < 0 else deadline - monotonic_ns()
                if left_ns <= 0 <= timeout_ns:
                    return False
                self._attend(left_ns)
                self._bring_workers()
        except BaseException:
            if not self.is_closed:
                if not self.run.is_inherited:
                    self._abandon()  # what is under way would be waited for, and nobody would hear of its end
                raise
        if self.is_closed:
            raise SystemExit  # `end` was called: this is a daemon thread of an interpreter that ends
        return True

    def _first_task(self) -> Iterator[Any]:
        """The first task of the source; what earlier calls have told of its function is a start for the batch size."""
        for task in itertools.islice(self._plan.source, 1):
            self._key = key_of(task)
            known = self._pool.task_times.recall(self._key)
            if known is not None:
                self._sizer.observe(*known)
            yield task

    def advice(self) -> str | None:
        """Nothing to say."""
        return None

    def close(self) -> None:
        """Give the workers back; kill those that are in a task which nobody waits for any more."""
        if self.is_closed:
            return  # first, and without a look at any module: the interpreter may be ending
        self.is_closed = True
        if self.run.is_inherited:
            return  # all of this is the parent's
        try:
            if self._crew.seats:
                self._abandon()
        finally:
            for worker in reversed(self.peers):  # the first comes last, and is the next call's first: still warm
                self._send_home(worker)
            self.peers.clear()
            self._decline()
            self._pool.task_times.note(self._key, self.run.counts.n_completed, self.run.worker_times_ns[0])
            self._pool.dismiss(self._nurseries)
            self._luggage.close()
            self._arrays.close()

    # ---- workers

    def _bring_workers(self) -> None:
        while self._crew.answer_summons():
            seat, worker = Seat(self.run), self._find_worker()
            if worker is None:
                seat.leave()
            else:
                self.feed(worker, seat)

    def _decline(self) -> None:
        """Answer the summons that have come since: nobody will."""
        while self._crew.answer_summons():
            Seat(self.run).leave()

    def _find_worker(self) -> Worker | None:
        """Whom the next batch is for: a worker who has none, or a new one, or else one who has the fewest."""
        least: Worker | None = min(self.peers, key=_n_held, default=None)
        if least is not None and (not least.seats or len(self.peers) == self._plan.n_workers):
            return least
        return self._lease()

    def _lease(self) -> Worker | None:
        try:
            worker = self._pool.lease(self._options, self._nurseries)
        except OSError as error:
            fail_without_task(self.run, WorkerStartError(error.errno, f"a worker could not be started: {error}"))
            return None
        self.peers.append(worker)
        worker.functions.clear()
        worker.arrays.clear()
        worker.n_forgotten = 0
        if worker.settings != self._settings:
            parcel = self._luggage.pack_settings(self._settings)
            worker.send(protocol.SETTINGS, (parcel.is_packed,), parcel.body, parcel.fds)
            worker.settings = self._settings
        return worker

    def _send_home(self, worker: Worker) -> None:
        """The end of its lease."""
        if worker.kind[0] == "fork":
            self._pool.retire(worker)
            return
        if worker.arrays or self._luggage.is_heavy:
            worker.send(protocol.REST)
        if worker.outbox:
            self._pool.retire(worker)  # it does not read
        else:
            self._pool.give_back(worker)

    # ---- batches

    def relieve(self, worker: Worker) -> None:
        """Give a worker that has nothing a batch which another has behind the one that it works on."""
        for other in self.peers:
            if len(other.seats) > 1 and other.board.claim(other.seats[-1].number):
                seat = other.seats.pop()
                if not self.ship(worker, seat):
                    self.feed(worker, seat)
                return

    def ship(self, worker: Worker, seat: Seat) -> bool:
        """Send a worker the batch of a seat; False if it cannot be packed, and has been settled."""
        started = monotonic_ns()
        try:
            parcel = self._luggage.pack(seat.batch, worker)
        except Exception as error:  # noqa: BLE001 -- whatever the user's classes raise when pickled
            self._blame_pickling(seat, error)
            return False
        self._sizer.observe_overhead(BATCH_OVERHEAD_NS + PACK_SHARES * (monotonic_ns() - started))
        worker.hold(seat)
        numbers = (seat.number, len(seat.batch), seat.budget_ns, self.call, parcel.is_packed, parcel.brings_news)
        worker.send(protocol.BATCH, numbers, parcel.body, parcel.fds)
        self._luggage.sent(parcel)
        self.everyday = self._luggage.latest
        return True

    def _blame_pickling(self, seat: Seat, error: BaseException) -> None:
        """A batch could not be packed: alone, so it is clear whose fault it is; or one by one."""
        if len(seat.batch) == 1:
            error = explain(plain_task(seat.batch[0]), error)
        self._suspect_all(seat, error)

    # ---- answers

    def _attend(self, timeout_ns: int) -> bool:
        """Wait for messages, and act on one of each worker; False if none came."""
        if self._options.task_timeout_ns:
            timeout_ns = self._strike(timeout_ns)
        return self.attend(timeout_ns)

    def _catch_up(self) -> None:
        """Act on what came while the source was read: no time limit has passed for results that are here."""
        for _ in range(MAX_BEHIND):
            if not self._attend(0):
                return

    def hear(self, worker: Worker, kind: int, numbers: tuple[int, ...], body: bytes, fds: list[int]) -> None:
        if kind == protocol.RESULTS:
            self.n_false_starts = 0
            seat = worker.seat_of(numbers[0])
            if seat is not None:
                self._take_in(worker, seat, numbers, body, fds)
            else:  # nobody asked: a child of a task has got hold of the channel
                for fd in fds:
                    os.close(fd)
        elif kind == protocol.HELLO:
            worker.pid = numbers[0]
        elif kind == protocol.NOTE:
            self._pass_on(worker, (numbers, body, fds))
        else:
            self._bury(worker, kind, numbers)

    def _pass_on(self, worker: Worker, note: tuple[tuple[int, ...], bytes, list[int]]) -> None:
        """What a task says beside its result goes where it would have gone here."""
        batch, place = note[0][:2]
        seats = (seat for seat in worker.seats if seat.number == batch and place >= 0)
        index = next((seat.index(place) for seat in seats), None)
        try:
            notes.hear(note, worker.pid, index)
        except Exception as error:  # noqa: BLE001 -- a handler's, a stream's, or a warning that is an error by now
            fail_without_task(self.run, error)

    def _take_in(self, worker: Worker, seat: Seat, numbers: tuple[int, ...], body: bytes, fds: list[int]) -> None:
        """Bring the results of a batch in."""
        _, _, total_ns, longest_ns, status, is_packed = numbers
        is_full, status = status & protocol.FULL, status & protocol.STATUS_MASK
        content: Any = None
        unreadable: BaseException | None = None
        try:
            content = load_results(body, fds, is_packed)
        except Exception as error:  # noqa: BLE001 -- whatever the user's classes raise when made
            unreadable = error
        if status == protocol.MORE:
            if unreadable is None and not seat.is_spoilt:
                seat.deliver(content[0], total_ns, longest_ns)
            else:  # what follows would not be the results of the next tasks
                seat.is_spoilt = True
                worker.board.stop(seat.number)
            return
        del worker.seats[0]
        if status in (protocol.UNREADABLE, protocol.UNPREPARED) and unreadable is None:
            worker.functions.clear()
            worker.arrays.clear()
            unreadable = restore_error(content)
        if status == protocol.UNPREPARED and unreadable is not None:
            worker.settings = None  # the next call tells it again
            fail_without_task(self.run, unreadable)
            seat.drop()
        elif unreadable is not None or seat.is_spoilt:
            self._suspect_all(seat, unreadable)
        elif content[1] is None:
            seat.settle(content[0], total_ns, longest_ns, -1)
        else:
            results, failure = content
            n_before = seat.batch.n_done + len(results)
            seat.deliver(results, total_ns, longest_ns)
            self._conclude(seat, n_before, restore_error(failure), 1)
        if is_full:
            self._replace(worker, [seat])
        else:
            self.feed(worker, seat)

    def _suspect_all(self, seat: Seat, error: BaseException | None) -> None:
        """One of the tasks of a batch has done harm: if there are several, one by one, to find out which."""
        if len(seat.batch) == 1 and error is not None:
            self._settle_failure(seat, 0, error, 1)
        else:
            resize(self.run, 1)
            seat.settle([], 0, 0, -1)

    # ---- ends

    def _replace(self, worker: Worker, seats: list[Seat]) -> None:
        """Another worker on these seats, and on those whose batches have not been begun, of one that is to go."""
        seats += worker.take_back()
        self._dismiss(worker)
        self.peers.remove(worker)
        successor = self._lease() if self.run.is_open else None
        for seat in seats:
            if successor is None:
                seat.leave()
            elif not (len(seat.batch) and self.ship(successor, seat)):
                self.feed(successor, seat)

    def _dismiss(self, worker: Worker) -> None:
        """End a worker; nothing is expected of it any more."""
        for seat in worker.seats:
            seat.leave()
        worker.seats.clear()
        self._pool.retire(worker)

    def _bury(self, worker: Worker, kind: int, numbers: tuple[int, ...]) -> None:
        """A worker has died."""
        if worker.board.batch == 0:
            self.n_false_starts += 1
            if self.n_false_starts >= MAX_FALSE_STARTS or numbers[:1] == (-1,):
                fail_without_task(self.run, failures.start_error(numbers))
        if not worker.seats:
            self._pool.retire(worker)
            self.peers.remove(worker)
            return
        seats = worker.take_back()
        if worker.seats:  # the one that it worked on
            seats.insert(0, worker.seats.pop())
            self._settle_estate(worker, seats[0], failures.death(worker, kind, numbers))
        self._replace(worker, seats)

    def _settle_estate(self, worker: Worker, seat: Seat, error: BaseException) -> None:
        """What becomes of the batch of a worker that has died."""
        place = worker.board.place if worker.board.batch == seat.number else IDLE
        if worker.verdict is not None:
            *judged, error = worker.verdict
            if judged != [seat.number, place]:
                place = IDLE  # it had just ended the task that it was killed for: the next one is not to blame
        if place == IDLE or worker.pid == 0:
            seat.settle([], 0, 0, -1)  # it had not begun, or nobody is to blame
        elif place >= 0:
            self._settle_failure(seat, place, error, worker.board.n_failed + 1)
        else:
            self._suspect_all(seat, error)

    def _settle_failure(self, seat: Seat, place: int, error: BaseException, n_failed: int) -> None:
        """The task at this place has failed, for what it could not catch. The others of its batch are tried again."""
        attempt, args, kwargs = seat.batch[place]
        if type(attempt) is Attempt and attempt.n_failed + n_failed <= attempt.n_retries:
            seat.replace(place, (attempt.after(n_failed), args, kwargs))
            seat.settle([], 0, 0, -1)
        else:
            self._conclude(seat, place, error, n_failed)

    def _conclude(self, seat: Seat, place: int, error: BaseException, n_failed: int) -> None:
        """The task at this place is not tried again: its failure is a result, or ends the call."""
        attempt, args, _ = seat.batch[place]
        if type(attempt) is Attempt and attempt.returns_failures and isinstance(error, Exception):
            seat.settle_one(place, attempt.failure(args, error, attempt.n_failed + n_failed))
        else:
            seat.fail(place, error)
            seat.drop()

    # ---- time limits

    def _strike(self, timeout_ns: int) -> int:
        """Kill the workers whose task has run for too long; how long to wait until the next may have to be."""
        limit_ns = self._options.task_timeout_ns
        nearest = timeout_ns
        now = monotonic_ns()
        for worker in self.peers:
            batch, place, started_ns = worker.board.running()
            if place < 0 or worker.verdict is not None or all(batch != seat.number for seat in worker.seats):
                left_ns = limit_ns
            else:
                left_ns = started_ns + limit_ns - now
            if left_ns <= 0:
                error = timeout_error(
                    f"the task ran for more than task_timeout={limit_ns / 1e9:g} s, and its worker was killed"
                )
                worker.verdict = batch, place, error
                worker.kill()
                left_ns = limit_ns
            nearest = left_ns if nearest < 0 else min(nearest, left_ns)
        return nearest

    def _abandon(self) -> None:
        """The run is over, and nobody waits for what workers still do: let them stop between tasks, then kill them."""
        self.run.cancel()
        for worker in self.peers:
            for seat in worker.take_back():
                seat.leave()
            if worker.seats:
                worker.board.stop(worker.seats[-1].number)
        deadline = monotonic_ns() + GRACE_NS
        try:
            while any(worker.seats for worker in self.peers):
                left_ns = deadline - monotonic_ns()
                if left_ns <= 0:
                    break
                self._attend(left_ns)
        finally:  # also where what they say cannot be received, which may be why the run is over
            for worker in [worker for worker in self.peers if worker.seats]:
                worker.kill()
                self._dismiss(worker)
                self.peers.remove(worker)
            for seat in list(self._crew.seats):  # an error came while their batches were in nobody's hands
                seat.leave()


def _n_held(worker: Worker) -> int:
    return len(worker.seats)
