"""The everyday part of a call on worker processes: results come in, and in exchange the next batch goes out.

Everyday is a batch whose tasks call one function that the worker has, with numbers and text for arguments, and results
that came without an error in one short message. That takes no Python code here. All else, and every decision, is the
subclass's: the session.

Everything in this file belongs to the calling thread of the run.
"""

import _pickle as pickle  # the C half: the other takes milliseconds to import
import os

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t

from fastpar._core.channel cimport MAX_BODY_, MAX_FDS_, MESSAGE_BATCH, MESSAGE_RESULTS, STATUS_DONE, Channel, Header, Poller
from fastpar._core.dispatch cimport Run
from fastpar._core.remote cimport Seat, columns, is_plain
from fastpar._core.segments cimport Board

cdef object dumps = pickle.dumps, loads = pickle.loads
cdef int PROTOCOL = 5


cdef class Peer:
    """A worker process, as the calling thread talks with it.

    Attributes
    ----------
    channel : Channel
    board : Board
    seats : list of Seat
        One for each batch that it holds, in the order in which they were sent.
    outbox : list
        Messages for which there was no room in the socket yet.
    functions : set of int
        Numbers of the functions of the current call that it has.
    n_forgotten : int
        How many of the call's arrays that have gone it was told to let go of.
    """

    cdef readonly Channel channel
    cdef readonly Board board
    cdef readonly list seats
    cdef readonly list outbox
    cdef readonly set functions
    cdef public Py_ssize_t n_forgotten
    cdef int64_t n_batches

    def __init__(self, Channel channel, Board board):
        self.channel = channel
        self.board = board
        self.seats = []
        self.outbox = []
        self.functions = set()

    cpdef send(self, kind, numbers=(), bytes body=b"", fds=()):
        """Send a message, now or when there is room for it."""
        try:
            if self.outbox or not self.channel.send(kind, numbers, body, fds):
                self.outbox.append((kind, numbers, body, [os.dup(fd) for fd in fds]))
        except ConnectionError:
            pass  # what it said last is still to be read

    cpdef flush(self):
        """Send what had no room."""
        while self.outbox:
            kind, numbers, body, fds = self.outbox[0]
            try:
                if not self.channel.send(kind, numbers, body, fds):
                    return
            except ConnectionError:
                pass
            del self.outbox[0]
            for fd in fds:
                os.close(fd)

    cpdef hold(self, Seat seat):
        """The batch of a seat is about to be sent: number it, and offer it, for beginning or for taking back."""
        self.n_batches += 1
        seat.number = self.n_batches
        self.board.offer(seat.number)
        self.seats.append(seat)

    cpdef Seat seat_of(self, int64_t number):
        """The seat of the batch that it works on, if that is the one of this number; else None."""
        cdef Seat seat
        if PyList_GET_SIZE(self.seats) == 0:
            return None
        seat = <Seat>PyList_GET_ITEM(self.seats, 0)
        return seat if seat.number == number else None

    def take_back(self):
        """Seats of batches that it has not begun, and will not any more."""
        back = [seat for seat in self.seats if self.board.claim(seat.number)]
        for seat in back:
            self.seats.remove(seat)
        return back


cdef class Exchange:
    """The event loop of one call.

    A subclass has the methods ``hear(peer, kind, numbers, body, fds)``, for messages that are not everyday;
    ``ship(peer, seat)``, which sends any batch and says whether it could; and ``relieve(peer)``, for one that has nothing.

    Attributes
    ----------
    run : Run
    peers : list of Peer
        The workers of the call.
    everyday : tuple or None
        The function of everyday batches and its number; set by the subclass when it has sent one.
    n_cpus : int
        For the call.
    n_false_starts : int
        How many workers in a row have ended before their first batch; counted by the subclass.
    """

    cdef readonly Run run
    cdef public list peers
    cdef public tuple everyday
    cdef readonly int64_t call
    cdef Py_ssize_t n_cpus
    cdef public Py_ssize_t n_false_starts
    cdef list gone
    cdef Poller poller

    def __init__(self, Run run, int64_t call, list gone, Py_ssize_t n_cpus):
        self.run = run
        self.call = call
        self.gone = gone
        self.n_cpus = n_cpus
        self.peers = []
        self.poller = Poller()

    cpdef bint attend(self, int64_t timeout_ns) except -1:
        """Wait for messages, and act on one of each worker; False if none came."""
        cdef list peers = self.peers.copy()  # some may go, or come, meanwhile
        cdef Py_ssize_t i, n = PyList_GET_SIZE(peers), n_busy = 0
        cdef Peer peer
        cdef int n_ready = 0
        self.poller.make_room(n)
        for i in range(n):
            peer = <Peer>PyList_GET_ITEM(peers, i)
            self.poller.watch(i, peer.channel.fd, PyList_GET_SIZE(peer.outbox) > 0)
            n_busy += PyList_GET_SIZE(peer.seats) > 0
        if n_busy < self.n_cpus and timeout_ns != 0:  # a CPU would fall asleep, and waking it may outlast a short batch
            n_ready = self.poller.watch_out(n)
        if n_ready == 0 and self.poller.wait(n, timeout_ns) == 0:
            return False
        for i in range(n):
            peer = <Peer>PyList_GET_ITEM(peers, i)
            if self.poller.is_ready(i):
                peer.flush()
                if peer.channel.fd >= 0:
                    self._listen(peer)
        return True

    cdef int _listen(self, Peer peer) except -1:
        """Act on one message: if there are more, the next wait ends at once."""
        cdef Header header
        cdef int[MAX_FDS_] fds
        cdef int n_fds
        cdef Py_ssize_t n = peer.channel._receive(&header, fds, &n_fds, False)
        if n < 0:
            return 0
        message = peer.channel._message(n, &header, fds, n_fds)
        if not (is_everyday(n, &header) and self._trade(peer, &header, <bytes>message[2])):
            self.hear(peer, *message)
        return 0

    cdef bint _trade(self, Peer peer, Header *header, bytes body) except -1:
        """Bring results in and send the next batch; False, and nothing has happened, if they cannot be read."""
        cdef Seat seat = peer.seat_of(header.numbers[0])
        if seat is None or seat.is_spoilt:
            return False
        try:
            results = loads(body)[0]
        except Exception:  # whatever the user's classes raise when made; the session tries again, and tells whose fault it is
            return False
        self.n_false_starts = 0
        del peer.seats[0]
        seat.settle(results, header.numbers[2], header.numbers[3], -1)
        seat.top_up()
        self.feed(peer, seat)
        return True

    cpdef feed(self, Peer peer, Seat seat):
        """Send a worker the next batch for one of its seats, or take the seat away."""
        while seat.take():
            if self._ship_everyday(peer, seat) or self.ship(peer, seat):
                return
        if not peer.seats and self.run.is_open:
            self.relieve(peer)

    cdef bint _ship_everyday(self, Peer peer, Seat seat) except -1:
        """Send a batch if it is an everyday one."""
        if self.everyday is None or len(self.gone) > peer.n_forgotten:
            return False
        function, number = self.everyday
        table = columns(seat.batch)
        if table is None or table[0] is not function or number not in peer.functions or not is_plain(table[1]):
            return False
        body = dumps((number, table[1], None), PROTOCOL)
        if len(body) > MAX_BODY_:
            return False
        peer.hold(seat)
        peer.send(MESSAGE_BATCH, (seat.number, seat.batch.n, seat.batch.budget_ns, self.call, 0, 0), body)
        return True


cdef bint is_everyday(Py_ssize_t n, Header *header) noexcept:
    """Whether the message brings results of a whole batch, without an error, and without segments."""
    return n > 0 and header.kind == MESSAGE_RESULTS and header.numbers[4] == STATUS_DONE and header.numbers[5] == 0
