"""Whatever a task raises arrives as it is: its type, attributes and traceback, with a note and few frames of ours."""

import dataclasses
import gc
import subprocess
import sys
import threading
import traceback
import weakref

import numpy as np
import pytest

import fastpar
from fastpar import Parallel, delayed, shutdown
from fastpar.errors import CallInProgressError, RemoteTaskError

OURS = fastpar.__file__.rpartition("__init__")[0]
RETURN_AS = ("list", "generator", "generator_unordered")


def our_frames(error):
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if frame.filename.startswith((OURS, "fastpar/"))]


def raise_it(error):
    raise error


def call(task, n_jobs=2, return_as="list", n_before=3, **settings):
    """Run some harmless tasks and this one; consume everything."""
    parallel = Parallel(n_jobs=n_jobs, backend="threading", return_as=return_as, **settings)
    return list(parallel([*(delayed(abs)(x) for x in range(n_before)), task]))


class OddConstructorError(Exception):
    """Cannot be made from its args."""

    def __init__(self, a, *, b):
        super().__init__("odd")
        self.a, self.b = a, b


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__(threading.Lock())

    def __reduce__(self):
        raise TypeError("never")


class SlotsError(Exception):
    __slots__ = ("value",)


class AbruptError(BaseException):
    pass


class HostileError(Exception):
    """Most of what one may do with it goes wrong."""

    def __str__(self):
        raise RuntimeError("str")

    __repr__ = __str__

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None


ERRORS = {
    "odd constructor": OddConstructorError(1, b=2),
    "unpicklable": UnpicklableError(),
    "slots": SlotsError(),
    "BaseException": AbruptError(),
    "hostile": HostileError(),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "SystemExit": SystemExit(3),
    "GeneratorExit": GeneratorExit(),
    "MemoryError": MemoryError("a task's own"),
    "RecursionError": RecursionError(),
    "TimeoutError": TimeoutError("a task's own"),
    "CallInProgressError": CallInProgressError("a task's own"),
    "StopAsyncIteration": StopAsyncIteration(),
}


class TestArrival:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("return_as", RETURN_AS)
    @pytest.mark.parametrize("name", ERRORS)
    def test_the_very_object_arrives(self, name, return_as, n_jobs):
        error = ERRORS[name]
        with pytest.raises(type(error)) as caught:
            call(delayed(raise_it)(error), n_jobs, return_as)
        assert caught.value is error
        assert len(our_frames(error)) <= 3
        assert traceback.extract_tb(error.__traceback__)[-1].name == "raise_it"
        del caught
        error.__traceback__ = None

    def test_stop_iteration_of_a_task_is_no_end_of_the_results(self):
        with pytest.raises(StopIteration):
            call(delayed(next)(iter(())))
        for return_as in RETURN_AS[1:]:
            with pytest.raises(RuntimeError, match="StopIteration"):  # as in any generator: PEP 479
                call(delayed(next)(iter(())), return_as=return_as)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_cause_and_context_are_the_tasks_own(self, n_jobs):
        def fail():
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error

        with pytest.raises(ValueError, match="outer") as caught:
            call(delayed(fail)(), n_jobs)
        assert isinstance(caught.value.__cause__, KeyError)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_an_error_raised_inside_a_handler_of_the_caller_keeps_that_context_only(self, n_jobs):
        with pytest.raises(ValueError) as caught:
            try:
                raise KeyError("the caller's")
            except KeyError:
                call(delayed(raise_it)(ValueError()), n_jobs)
        assert isinstance(caught.value.__context__, KeyError)
        assert caught.value.__context__.__context__ is None

    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("return_as", RETURN_AS)
    def test_few_of_our_frames_come_between_the_users(self, return_as, n_jobs):
        with pytest.raises(ZeroDivisionError) as caught:
            call(delayed(divmod)(1, 0), n_jobs, return_as)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[0] == "test_few_of_our_frames_come_between_the_users"
        assert len(our_frames(caught.value)) <= 3

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_nested_calls_add_at_most_three_frames_each(self, n_jobs):
        def inner():
            call(delayed(divmod)(1, 0), n_jobs)

        with pytest.raises(ZeroDivisionError) as caught:
            call(delayed(inner)(), n_jobs)
        assert len(our_frames(caught.value)) <= 6

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_the_same_object_raised_in_many_calls_does_not_grow(self, n_jobs):
        error = ValueError("module level")
        for _ in range(100):
            with pytest.raises(ValueError, match="module level"):
                call(delayed(raise_it)(error), n_jobs)
        assert len(error.__notes__) <= 10


class TestStop:
    def test_the_first_error_stops_the_run_whatever_its_place(self):
        """Task 0 waits until the error of task 1 has arrived: it could wait for ever for its turn."""
        gate, arrived = threading.Event(), []

        def first():
            gate.wait()

        try:
            tasks = [delayed(first)(), *[delayed(raise_it)(ValueError("second"))] * 9]
            Parallel(n_jobs=2, batch_size=1, backend="threading")(tasks)
        except ValueError as error:
            arrived.append(error)
        gate.set()
        assert str(arrived[0]) == "second"

    def test_what_is_queued_is_dropped_and_what_runs_is_let_go(self):
        gate, begun = threading.Event(), []

        def work(place):
            begun.append(place)
            gate.wait()

        tasks = [delayed(work)(0), delayed(raise_it)(ValueError()), *(delayed(work)(place) for place in range(50))]
        with pytest.raises(ValueError):
            Parallel(n_jobs=2, batch_size=1, pre_dispatch="all", timeout=60, backend="threading")(tasks)
        gate.set()
        Parallel(n_jobs=4, backend="threading")(delayed(abs)(x) for x in range(100))
        assert len(begun) <= 2

    def test_the_rest_of_a_batch_is_not_started(self):
        begun = []
        tasks = [delayed(raise_it)(ValueError()), *[delayed(begun.append)(0)] * 99]
        with pytest.raises(ValueError):
            Parallel(n_jobs=2, batch_size=100, backend="threading")(tasks)
        assert begun == []

    @pytest.mark.parametrize("return_as", RETURN_AS[1:])
    def test_a_generator_gives_what_came_before_and_then_raises_and_then_is_at_its_end(self, return_as):
        results = Parallel(n_jobs=2, return_as=return_as, batch_size=1, pre_dispatch=1, backend="threading")(
            [delayed(abs)(-1), delayed(abs)(-2), delayed(raise_it)(ValueError()), delayed(abs)(-3)]
        )
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(ValueError):
            next(results)
        assert list(results) == []


class TestResources:
    def test_too_deep_recursion_in_tasks(self):
        def deep(n):
            return deep(n + 1)

        with pytest.raises(RecursionError):
            call(delayed(deep)(0))
        assert call(delayed(abs)(-1)) == [0, 1, 2, 1]

    def test_a_caller_near_the_limit_of_recursion(self):
        def descend(n):
            if n == 0:
                return Parallel(n_jobs=2, backend="threading")([delayed(abs)(-1)])
            return descend(n - 1)

        errors = 0
        for depth in range(sys.getrecursionlimit(), 0, -1):
            try:
                assert descend(depth) == [1]
                break
            except RecursionError:
                errors += 1
        assert errors > 0
        assert descend(1) == [1]

    def test_a_real_shortage_of_memory_in_a_task(self):
        with pytest.raises(MemoryError):
            call(delayed(bytearray)(sys.maxsize))
        assert call(delayed(abs)(-1)) == [0, 1, 2, 1]

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_what_cannot_be_pickled_needs_no_pickle(self, n_jobs):
        lock, file = threading.Lock(), sys.stdout
        results = Parallel(n_jobs=n_jobs, backend="threading")([delayed(lambda x: x)(lock), delayed(lambda x: x)(file)])
        assert results == [lock, file]


class Large:
    pass


def refuse(thing):
    raise ValueError("no")


@pytest.mark.parametrize("return_as", ["list", "generator"])
@pytest.mark.parametrize("backend", ["threading", "processes"])
def test_a_failed_call_keeps_nothing_when_its_error_has_gone(backend, return_as):
    """Not only when the collector comes: what the call held may be large."""
    large = Large()
    reference = weakref.ref(large)
    gc.disable()
    try:
        with pytest.raises(ValueError) as caught:
            list(Parallel(2, backend, return_as=return_as)([delayed(refuse)(large)] * 4))
        del large, caught
        shutdown()  # without a GIL a thread frees itself what it has made, when it next runs or ends
        assert reference() is None
    finally:
        gc.enable()


class CodeError(ValueError):
    """Made with two arguments, and its `args` have one."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class ColumnError(KeyError):
    """Could be made of its `args`, and would be another then."""

    def __init__(self, name):
        super().__init__(f"no column {name!r}")
        self.name = name


class KeywordError(Exception):
    def __init__(self, *, path):
        self.path = path

    def __str__(self):
        return f"not in {self.path}"


class NewError(Exception):
    def __new__(cls, number):
        error = super().__new__(cls, f"number {number}")
        error.number = number
        return error

    def __init__(self, number):
        pass


class PrivateSlotsError(Exception):
    __slots__ = ("__secret", "never_set", "nothing")

    def __init__(self, secret):
        super().__init__()
        self.__secret, self.nothing = secret, None

    def __str__(self):
        return f"{self.__secret} {self.nothing}"


@dataclasses.dataclass
class RecordError(Exception):
    code: int
    text: str = "text"


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class RefusingError(Exception):
    def __init__(self, code):
        super().__init__("refuses", code)
        self.__dict__["code"] = code

    def __setattr__(self, name, value):
        raise AttributeError("no")


class FileError(OSError):
    def __init__(self, name):
        super().__init__(2, "cannot be found", name)
        self.more = name


class NewFileError(FileNotFoundError):
    def __new__(cls, name):
        return super().__new__(cls, 2, "cannot be found", name)


class TwoBasesError(ColumnError, OSError):
    pass


class DecodingError(UnicodeDecodeError):
    def __init__(self, content):
        super().__init__("ascii", content, 0, 1, "not mine")


class ModuleError(ImportError):
    def __init__(self, module):
        super().__init__(f"no {module}", name=module, path="/nowhere")


class ParsingError(SyntaxError):
    def __init__(self, line):
        super().__init__("cannot be parsed", ("file.py", line, 3, "x = = 1", line, 4))


class EndError(SystemExit):
    def __init__(self, code, reason):
        super().__init__(code)
        self.args = (reason,)


class HoldingError(Exception):
    """Holds another, a large array, and itself."""

    def __init__(self, inner):
        super().__init__("holds", inner)
        self.inner, self.itself, self.array = inner, self, np.arange(10_000)


class OwnPickleError(Exception):
    def __init__(self, a, *, b):
        super().__init__("own pickle")
        self.a, self.b = a, b

    def __reduce__(self):
        return restore_own, (self.a, self.b)


def restore_own(a, b):
    error = OwnPickleError(a, b=b)
    error.is_restored = True
    return error


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StatedError(Exception):
    """With `__getstate__` and `__setstate__`, which dataclasses writes."""

    code: int


class StatefulError(Exception):
    def __init__(self, code, lock):
        super().__init__(f"state {code}")
        self.code, self.lock = code, lock

    def __getstate__(self):
        return {"code": self.code}

    def __setstate__(self, state):
        self.__dict__.update(state, lock="made anew")


class LockedSlotError(Exception):
    __slots__ = ("lock",)

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def changed(error, **attributes):
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


MAKERS = {
    "CodeError": lambda: CodeError(3, "bad"),
    "ColumnError": lambda: ColumnError("age"),
    "KeywordError": lambda: KeywordError(path="here"),
    "NewError": lambda: NewError(4),
    "PrivateSlotsError": lambda: PrivateSlotsError("hidden"),
    "RecordError": lambda: RecordError(5),
    "RecordError by keyword": lambda: RecordError(code=5),
    "FrozenError": lambda: FrozenError(code=6),
    "StatedError": lambda: StatedError(code=6),
    "StatefulError": lambda: StatefulError(8, "made anew"),
    "LockedSlotError": lambda: LockedSlotError("its lock stays behind"),
    "RefusingError": lambda: RefusingError(7),
    "FileError": lambda: FileError("file"),
    "NewFileError": lambda: NewFileError("file"),
    "TwoBasesError": lambda: TwoBasesError("age"),
    "DecodingError": lambda: DecodingError(b"\xff"),
    "ModuleError": lambda: ModuleError("nothing"),
    "ParsingError": lambda: ParsingError(9),
    "HoldingError": lambda: HoldingError(CodeError(8, "inner")),
    "OddConstructorError": lambda: OddConstructorError(1, b=2),
    "CalledProcessError": lambda: subprocess.CalledProcessError(2, "ls", stderr=b"no"),
    "CallInProgressError": lambda: CallInProgressError("a task's own"),
    "BlockingIOError": lambda: BlockingIOError(11, "later", 5),
    "FileNotFoundError": lambda: FileNotFoundError(2, "cannot be found", "a", None, "b"),
    "OSError, one argument": lambda: OSError("alone"),
    "KeyError": lambda: KeyError("key"),
    "StopIteration": lambda: StopIteration(1, 2),
    "UnicodeEncodeError": lambda: UnicodeEncodeError("ascii", "\xff", 0, 1, "no"),
    "UnicodeDecodeError, changed": lambda: changed(UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"), reason="other"),
    "SyntaxError, changed": lambda: changed(SyntaxError("no"), filename="f.py", lineno=3),
    "ImportError": lambda: ImportError("no", name="a", path="b"),
    "AttributeError": lambda: AttributeError("no", name="a"),
    "NameError": lambda: NameError("no", name="a"),
    "MemoryError": lambda: MemoryError("no"),
    "attributes": lambda: changed(ValueError("no"), __notes__=["mine"], more=[1]),
}
if sys.version_info >= (3, 11):
    from builtins import ExceptionGroup

    class SeveralError(ExceptionGroup):
        def __new__(cls, errors, why):
            return super().__new__(cls, f"several: {why}", errors)

        def __init__(self, errors, why):
            self.why = why

        def derive(self, errors):
            return SeveralError(errors, self.why)

    MAKERS["ExceptionGroup"] = lambda: ExceptionGroup("group", [CodeError(1, "a"), KeyError("b")])
    MAKERS["SeveralError"] = lambda: SeveralError([CodeError(1, "a"), KeyError("b")], "reasons")


def raise_made(name):
    raise MAKERS[name]()


FIELDS = (
    *("errno", "strerror", "filename", "filename2", "characters_written"),
    *("encoding", "object", "start", "end", "reason"),
    *("msg", "lineno", "offset", "text", "end_lineno", "end_offset", "print_file_and_line"),
    *("value", "code", "name", "path", "message", "nothing"),
)


def description(error):
    """All that one can see of an exception, in values that can be compared."""
    parts = {name: plain(part) for name, part in vars(error).items() if not name.startswith(("_fastpar", "itself"))}
    parts |= {name: plain(getattr(error, name, "none")) for name in FIELDS}
    return type(error), plain(error.args), str(error), parts, plain(getattr(error, "exceptions", None))


def plain(part):
    if isinstance(part, (list, tuple)):
        return [plain(each) for each in part]
    if isinstance(part, np.ndarray):
        return part.tolist()
    return description(part) if isinstance(part, BaseException) else part


def caught(name, *settings):
    with pytest.raises(BaseException) as info:
        Parallel(*settings)([delayed(raise_made)(name), delayed(abs)(-1)])
    return info.value


class TestSameExceptions:
    @pytest.mark.parametrize("name", MAKERS)
    def test_an_exception_is_the_same_on_every_backend(self, name):
        wanted = caught(name, 1)
        assert type(wanted) is type(MAKERS[name]())
        assert description(caught(name, 2, "threading")) == description(wanted)
        found = caught(name, 2, "processes")
        assert description(found) == description(wanted)
        assert type(found.__cause__).__name__ == "RemoteTraceback"

    @pytest.mark.parametrize("name", ["CodeError", "FrozenError", "FileError"])
    def test_an_exception_in_a_failure_is_the_same_on_every_backend(self, name):
        failures = [
            Parallel(*settings, on_error="return")([delayed(raise_made)(name), delayed(abs)(-1)])[0].error
            for settings in [(1,), (2, "threading"), (2, "processes")]
        ]
        assert description(failures[1]) == description(failures[2]) == description(failures[0])

    def test_an_exception_through_nested_calls(self):
        def outer(backend):
            Parallel(2, backend)([delayed(raise_made)("HoldingError")] * 2)

        for backend in ("threading", "processes"):
            with pytest.raises(HoldingError) as info:
                Parallel(2, "processes")([delayed(outer)(backend)] * 2)
            error = info.value
            assert error.itself is error
            assert description(error.inner)[:3] == (CodeError, ["8: inner"], "8: inner")
            error.array[0] = 1  # it can be written to, as in the serial loop

    def test_what_ends_the_interpreter_keeps_its_code(self):
        def fail():
            raise EndError(3, "a reason")

        with pytest.raises(EndError) as info:
            Parallel(2, "processes")([delayed(fail)()] * 2)
        assert (info.value.code, info.value.args) == (3, ("a reason",))

    def test_a_class_that_says_how_it_is_pickled_is_pickled_so(self):
        def fail():
            raise OwnPickleError(1, b=2)

        with pytest.raises(OwnPickleError) as info:
            Parallel(2, "processes")([delayed(fail)()] * 2)
        assert (info.value.a, info.value.b, info.value.is_restored) == (1, 2, True)

    def test_a_class_says_what_of_it_is_sent(self):
        def fail():
            raise StatefulError(9, threading.Lock())

        with pytest.raises(StatefulError, match="state 9") as info:
            Parallel(2, "processes")([delayed(fail)()] * 2)
        assert vars(info.value)["lock"] == "made anew"

    def test_what_cannot_be_pickled_arrives_as_its_type_and_text(self):
        def fail():
            error = CodeError(1, "bad")
            error.lock = threading.Lock()
            raise error

        with pytest.raises(RemoteTaskError, match="CodeError: 1: bad"):
            Parallel(2, "processes")([delayed(fail)()] * 2)

    def test_a_class_of_a_script(self, python):
        done = python.run("-c", SCRIPT)
        assert (done.stdout, done.stderr) == ("no column 'age' | ('age', 3)\n", "")


SCRIPT = """
from fastpar import Parallel, delayed

class ColumnError(Exception):
    __slots__ = ("name",)
    def __init__(self, name, code):
        super().__init__(f"no column {name!r}")
        self.name, self.code = name, code

def fail():
    raise ColumnError("age", 3)

try:
    Parallel(2)([delayed(fail)()] * 2)
except ColumnError as error:
    print(error, "|", (error.name, error.code))
"""
