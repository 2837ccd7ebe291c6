# cython: embedsignature=True
"""The structural walk behind `fastpar.hash`: any object graph becomes one byte string, fed to a hash function.

What it owns: the encoding of built-in types, sharing, cycles and the error path. What is not its job: every other
type, which the `describe` function given to `digest` (see `fastpar/hashing.py`) turns into a name, parts and blocks.

The encoding
    A value is a tag byte and a payload; lengths are 8 bytes, little-endian, so no two values share an encoding.
    Atoms (numbers, short strings) are written in place. A container is written in place too while it takes at most
    INLINE_BYTES; above that its bytes are replaced by their digest. This keeps the buffer small, lets a shared
    container be hashed once (a graph of n containers costs n, not 2**n), and still depends on values only: equal
    graphs give equal bytes, whether or not their parts are shared.
    A set is its elements' digests, sorted; a dict with str keys is walked in the order of its keys, any other dict is
    the sorted digests of its items.
    Inside a cycle values alone do not end: a container met again while it is open is written as how many levels up
    it is. A container that holds such a step out of itself cannot have a digest of its own, so met again it is written
    as its number among those.

Which threads: one `Walk` belongs to one call of `digest`. Objects that another thread changes during the walk give a
digest of some mixture, or the RuntimeError of a changed dict; nothing here crashes on it, on free-threaded builds too:
containers are read through their iterators.
"""

from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_FromVoidPtr
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

import xxhash

from fastpar.errors import UnhashableError

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    void Py_LeaveRecursiveCall()

cdef extern from *:
    # Explicit little-endian stores: digests are the same on every machine.
    """
    static inline void fp_store_le64(unsigned char *to, unsigned long long value) {
        for (int i = 0; i < 8; i++) to[i] = (unsigned char)(value >> (8 * i));
    }
    static inline int fp_enter_recursion(const char *where) {
        return Py_EnterRecursiveCall(where) ? -1 : 0;  /* not zero on error: 1 or -1, as the Python goes */
    }
    static inline unsigned long long fp_double_bits(double value) {
        union { double d; unsigned long long u; } both; both.d = value; return both.u;
    }
    """
    int fp_enter_recursion(const char *where) except -1
    void fp_store_le64(unsigned char *to, uint64_t value) noexcept nogil
    uint64_t fp_double_bits(double value) noexcept nogil

#: The first two hexadecimal digits of every digest; raised whenever any value's encoding changes.
SCHEME = 1

cdef enum:
    INLINE_BYTES = 64     # a container up to this size is written in place
    ATOM_BYTES = 256      # so is a string up to this size
    CHUNK_BYTES = 1 << 24 # raw memory is hashed in chunks of this size
    SPILL_BYTES = 1 << 18 # a container's bytes above this go to its hash function as they come
    NOWHERE = 1 << 30     # no step out of the container being walked

cdef enum Tag:
    NONE = 1, TRUE, FALSE, INT, LONG, FLOAT, COMPLEX, STR, BYTES, BYTEARRAY, LIST, TUPLE, SET, FROZENSET,
    STR_DICT, DICT, OBJECT, DIGEST, LEVELS_UP, NUMBER, LONG_STR, LONG_BYTES, LONG_BYTEARRAY

cdef object xxh3_digest = xxhash.xxh3_128_digest
cdef object xxh3_new = xxhash.xxh3_128


def _functions(str name):
    """The one-shot and the streaming form of the hash function called `name`."""
    if name == "xxh3":
        return xxh3_digest, xxh3_new
    if name not in ("md5", "sha1"):
        raise ValueError(f"Valid options for 'hash_name' are 'xxh3', 'md5' and 'sha1'. Got hash_name={name!r} instead.")
    import hashlib
    function = getattr(hashlib, name)

    def new():
        return function(usedforsecurity=False)

    def one_shot(block):
        return function(block, usedforsecurity=False).digest()

    return one_shot, new


cpdef str digest(object obj, str hash_name, object describe, object digest_chunks):
    """The hexadecimal digest of `obj`.

    `describe(obj)` gives (name, parts, blocks) of what is no built-in value; `digest_chunks(view, n_bytes, one_shot)`
    gives the digests of large memory cut into chunks of n_bytes, in order.
    """
    cdef Walk walk = Walk(describe, digest_chunks)
    if hash_name != "xxh3":
        walk.one_shot, walk.new = _functions(hash_name)
    try:
        walk.value(obj)
    except UnhashableError as error:
        if walk.path:
            raise UnhashableError(f"{error} (at value{''.join(reversed(walk.path))})") from error.__cause__
        raise
    return f"{SCHEME:02x}{walk.cut(0).hex()[2:]}"


cdef class Walk:
    """One walk over one object graph."""

    cdef unsigned char *buffer
    cdef Py_ssize_t size, capacity
    cdef Py_ssize_t start       # where the bytes of the innermost open container begin
    cdef object stream          # its streaming hash, once its bytes exceeded SPILL_BYTES
    cdef int depth              # how many containers are open
    cdef int lowest             # the outermost level that a cycle inside the innermost container steps to
    cdef int n_numbered         # closed containers without a digest of their own
    cdef dict seen              # id -> level (open), (object, digest) or (object, number) (closed)
    cdef list path              # of an error, innermost first
    cdef object one_shot, new, describe, digest_chunks

    def __cinit__(self, object describe, object digest_chunks):
        self.capacity = 512
        self.buffer = <unsigned char *>PyMem_Malloc(self.capacity)
        if self.buffer == NULL:
            raise MemoryError
        self.lowest = NOWHERE
        self.seen = {}
        self.path = []
        self.one_shot, self.new = xxh3_digest, xxh3_new
        self.describe, self.digest_chunks = describe, digest_chunks

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    # -- bytes ---------------------------------------------------------------------------------------------------

    cdef int reserve(self, Py_ssize_t n) except -1:
        cdef unsigned char *grown
        if self.size + n > self.capacity:
            grown = <unsigned char *>PyMem_Realloc(self.buffer, 2 * (self.size + n))
            if grown == NULL:
                raise MemoryError
            self.buffer = grown
            self.capacity = 2 * (self.size + n)
        return 0

    cdef int put_word(self, Tag tag, uint64_t word) except -1:
        self.reserve(9)
        self.buffer[self.size] = tag
        fp_store_le64(self.buffer + self.size + 1, word)
        self.size += 9
        return 0

    cdef int put_tag(self, Tag tag) except -1:
        self.reserve(1)
        self.buffer[self.size] = tag
        self.size += 1
        return 0

    cdef int put_raw(self, const void *block, Py_ssize_t n) except -1:
        self.reserve(n)
        memcpy(self.buffer + self.size, block, n)
        self.size += n
        return 0

    cdef int put_digest(self, bytes block) except -1:
        return self.put_raw(<const char *>block, len(block))

    cdef bytes cut(self, Py_ssize_t start):
        """Take the bytes from `start` on off the buffer and return their digest."""
        block = PyMemoryView_FromMemory(<char *>self.buffer + start, self.size - start, PyBUF_READ)
        cdef bytes made = self.one_shot(block)
        self.size = start
        return made

    cdef int spill(self) except -1:
        """Called between two members of a container: hand its bytes to its hash function when they are many."""
        if self.size - self.start > SPILL_BYTES:
            if self.stream is None:
                self.stream = self.new()
            self.stream.update(
                PyMemoryView_FromMemory(<char *>self.buffer + self.start, self.size - self.start, PyBUF_READ)
            )
            self.size = self.start
        return 0

    # -- values --------------------------------------------------------------------------------------------------

    cdef int value(self, object obj) except -1:
        cdef object kind = type(obj)
        if kind is float:
            return self.put_word(FLOAT, fp_double_bits(PyFloat_AS_DOUBLE(obj)))
        if kind is int:
            return self.integer(obj)
        if kind is str:
            return self.text(obj)
        if kind is tuple or kind is list or kind is dict:
            return self.container(obj, kind)
        if obj is None:
            return self.put_tag(NONE)
        if kind is bool:
            return self.put_tag(TRUE if obj else FALSE)
        if kind is bytes:
            return self.octets(obj, BYTES, LONG_BYTES)
        if kind is complex:
            self.put_word(COMPLEX, fp_double_bits(obj.real))
            return self.put_word(COMPLEX, fp_double_bits(obj.imag))
        if kind is bytearray:
            return self.octets(obj, BYTEARRAY, LONG_BYTEARRAY)
        return self.container(obj, kind)

    cdef int integer(self, object obj) except -1:
        cdef int overflow = 0
        cdef int64_t small = PyLong_AsLongLongAndOverflow(obj, &overflow)
        if not overflow:
            return self.put_word(INT, <uint64_t>small)
        cdef bytes block = obj.to_bytes(obj.bit_length() // 8 + 1, "little", signed=True)
        self.put_word(LONG, len(block))
        return self.put_raw(<const char *>block, len(block))

    cdef int text(self, object obj) except -1:
        cdef Py_ssize_t n = 0
        cdef const char *utf8
        try:
            utf8 = PyUnicode_AsUTF8AndSize(obj, &n)
        except UnicodeEncodeError:  # a lone surrogate
            return self.octets(obj.encode("utf-8", "surrogatepass"), STR, LONG_STR)
        if n > ATOM_BYTES:
            self.put_word(LONG_STR, n)
            return self.put_digest(self.one_shot(PyMemoryView_FromMemory(<char *>utf8, n, PyBUF_READ)))
        self.put_word(STR, n)
        return self.put_raw(utf8, n)

    cdef int octets(self, object block, Tag small, Tag large) except -1:
        cdef Py_ssize_t n = len(block)
        if n > ATOM_BYTES:
            self.put_word(large, n)
            return self.put_digest(self.one_shot(block))
        self.put_word(small, n)
        cdef bytes copy = bytes(block)
        return self.put_raw(<const char *>copy, n)

    # -- containers ----------------------------------------------------------------------------------------------

    cdef int container(self, object obj, object kind) except -1:
        # Our caller's variable and one holder: nobody else can lead to `obj`, so it needs no entry in `seen`.
        cdef bint shared = Py_REFCNT(obj) > 2
        cdef object key = None, known
        if shared:
            key = PyLong_FromVoidPtr(<void *>obj)
            known = self.seen.get(key)
            if known is not None:
                return self.repeat(known)
            self.seen[key] = self.depth
        cdef Py_ssize_t start = self.size, outer_start = self.start
        cdef int outer_lowest = self.lowest
        cdef object outer_stream = self.stream
        self.start, self.stream, self.lowest = start, None, NOWHERE
        self.depth += 1
        fp_enter_recursion(b" while hashing an object")
        try:
            self.members(obj, kind)
        finally:
            Py_LeaveRecursiveCall()
        self.depth -= 1
        self.close(obj, key)
        self.start, self.stream = outer_start, outer_stream
        # A step to our own level ends here; one that goes further out is our container's as well.
        self.lowest = min(outer_lowest, self.lowest if self.lowest < self.depth else NOWHERE)
        return 0

    cdef int repeat(self, object known) except -1:
        """A container met again: open (an int, its level), closed with a digest, or closed inside a cycle."""
        if type(known) is int:
            self.lowest = min(self.lowest, <int>known)
            return self.put_word(LEVELS_UP, self.depth - <int>known)
        entry = (<tuple>known)[1]
        if type(entry) is int:
            return self.put_word(NUMBER, entry)
        self.put_tag(DIGEST)
        return self.put_digest(entry)

    cdef int close(self, object obj, object key) except -1:
        """Replace the bytes of the container just walked by their digest, unless they are few."""
        cdef bytes made = None
        if self.stream is not None:
            self.stream.update(
                PyMemoryView_FromMemory(<char *>self.buffer + self.start, self.size - self.start, PyBUF_READ)
            )
            self.size = self.start
            made = self.stream.digest()
        elif self.size - self.start > INLINE_BYTES:
            made = self.cut(self.start)
        if made is not None:
            self.put_tag(DIGEST)
            self.put_digest(made)
        if key is not None:
            if self.lowest < self.depth:
                self.seen[key] = (obj, self.n_numbered)
                self.n_numbered += 1
            elif made is not None:
                self.seen[key] = (obj, made)  # holds obj, so that its id stays its own
            else:
                del self.seen[key]
        return 0

    cdef int members(self, object obj, object kind) except -1:
        if kind is list:
            return self.sequence(obj, LIST, len(obj))
        if kind is tuple:
            return self.sequence(obj, TUPLE, len(obj))
        if kind is dict:
            return self.mapping(obj)
        if kind is set:
            return self.unordered(obj, SET)
        if kind is frozenset:
            return self.unordered(obj, FROZENSET)
        return self.described(obj)

    cdef int sequence(self, object obj, Tag tag, Py_ssize_t n) except -1:
        cdef Py_ssize_t index = 0
        self.put_word(tag, n)
        try:
            for item in obj:
                if type(item) is float:
                    self.put_word(FLOAT, fp_double_bits(PyFloat_AS_DOUBLE(item)))
                else:
                    self.value(item)
                self.spill()
                index += 1
        except UnhashableError:
            self.path.append(f"[{index}]")
            raise
        return 0

    cdef bytes digest_of(self, object obj):
        cdef Py_ssize_t start = self.size
        self.value(obj)
        return self.cut(start)

    cdef int unordered(self, object obj, Tag tag) except -1:
        cdef list digests = []
        for item in obj:
            digests.append(self.digest_of(item))
        return self.put_sorted(digests, tag)

    cdef int put_sorted(self, list digests, Tag tag) except -1:
        digests.sort()
        self.put_word(tag, len(digests))
        for made in digests:
            self.put_digest(made)
            self.spill()
        return 0

    cdef int mapping(self, dict obj) except -1:
        for key in obj:
            if type(key) is not str:
                return self.general_mapping(obj)
        self.put_word(STR_DICT, len(obj))
        for key in sorted(obj):
            self.text(key)
            self.item(key, obj[key])
            self.spill()
        return 0

    cdef int general_mapping(self, dict obj) except -1:
        cdef list digests = []
        cdef Py_ssize_t start
        for key, member in list(obj.items()):
            start = self.size
            self.value(key)
            self.item(key, member)
            digests.append(self.cut(start))
        return self.put_sorted(digests, DICT)

    cdef int item(self, object key, object member) except -1:
        try:
            return self.value(member)
        except UnhashableError:
            self.path.append(f"[{key!r}]" if len(repr(key)) <= 60 else "[...]")
            raise

    cdef int described(self, object obj) except -1:
        """Any other type: a name, parts to walk, and blocks of raw memory (None: none)."""
        name, parts, blocks = self.describe(obj)
        self.put_tag(OBJECT)
        self.text(name)
        try:
            for part in parts:
                self.value(part)
                self.spill()
        except UnhashableError:
            self.path.append(f"({type(obj).__qualname__})")
            raise
        if blocks is not None:
            self.raw(blocks)
        return 0

    # -- raw memory ----------------------------------------------------------------------------------------------

    cdef int raw(self, object blocks) except -1:
        """Memory is hashed in chunks of CHUNK_BYTES and then the chunks' digests, so that threads can share the work.

        Where the chunks begin depends on the total alone, never on how it is cut into blocks.
        """
        cdef list digests = []
        cdef Py_ssize_t filled = 0, taken, n
        stream = self.new()
        for block in blocks:
            view = memoryview(block)
            n, taken = view.nbytes, 0
            while taken < n:
                if filled == 0 and n - taken >= 2 * CHUNK_BYTES:
                    whole = (n - taken) // CHUNK_BYTES * CHUNK_BYTES
                    digests.extend(self.digest_chunks(view[taken : taken + whole], CHUNK_BYTES, self.one_shot))
                    taken += whole
                    continue
                part = min(n - taken, CHUNK_BYTES - filled)
                stream.update(view[taken : taken + part])
                taken += part
                filled += part
                if filled == CHUNK_BYTES:
                    digests.append(stream.digest())
                    stream, filled = self.new(), 0
        if filled or not digests:
            digests.append(stream.digest())
        return self.put_digest(digests[0] if len(digests) == 1 else self.one_shot(b"".join(digests)))
