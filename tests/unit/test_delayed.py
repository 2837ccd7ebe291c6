"""`delayed(f)(x)` is the plain tuple, and `delayed(f)` looks like f."""

import copy
import functools
import inspect
import pickle

import pytest

from fastpar import delayed


def scale(x, factor=2):
    """Documented."""
    return x * factor


class TestTask:
    @pytest.mark.parametrize(
        ("args", "kwargs"), [((), {}), ((1,), {}), ((1, 2), {"c": 3}), ((), {"self": 1, "function": 2, "args": 3})]
    )
    def test_is_the_plain_tuple(self, args, kwargs):
        task = delayed(scale)(*args, **kwargs)
        assert type(task) is tuple
        assert task == (scale, args, kwargs)
        assert (type(task[1]), type(task[2])) == (tuple, dict)

    def test_arguments_are_the_same_objects_and_kwargs_a_new_dict(self):
        argument, kwargs = object(), {"key": object()}
        _, args, given = delayed(scale)(argument, **kwargs)
        assert args[0] is argument
        assert given is not kwargs
        assert given["key"] is kwargs["key"]

    def test_one_wrapper_makes_many_tasks(self):
        wrapper = delayed(scale)
        assert [wrapper(x)[1] for x in range(3)] == [(0,), (1,), (2,)]

    @pytest.mark.parametrize("function", [len, str.upper, "".join, int, functools.partial(scale, factor=3), lambda: 0])
    def test_anything_callable_will_do(self, function):
        assert delayed(function)() == (function, (), {})


class TestWraps:
    @pytest.mark.parametrize("name", ["__name__", "__qualname__", "__module__", "__doc__"])
    def test_it_looks_like_the_function(self, name):
        assert getattr(delayed(scale), name) == getattr(scale, name)

    def test_wrapped_is_the_function(self):
        assert delayed(scale).__wrapped__ is scale
        assert inspect.unwrap(delayed(scale)) is scale

    def test_signature_is_the_functions(self):
        assert inspect.signature(delayed(scale)) == inspect.signature(scale)

    def test_other_attributes_are_the_functions(self):
        def function():
            pass

        function.mark = 3
        assert delayed(function).mark == 3
        with pytest.raises(AttributeError, match="no_such"):
            _ = delayed(function).no_such

    def test_repr_names_the_function(self):
        assert "scale" in repr(delayed(scale))

    def test_the_function_is_not_changed(self):
        before = dict(vars(scale))
        delayed(scale)
        assert vars(scale) == before


class TestCopies:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle(self, protocol):
        again = pickle.loads(pickle.dumps(delayed(scale), protocol))
        assert again(1, factor=3) == (scale, (1,), {"factor": 3})

    def test_copy(self):
        assert copy.copy(delayed(scale))(1) == copy.deepcopy(delayed(scale))(1) == (scale, (1,), {})


@pytest.mark.parametrize("value", [3, None, "f", (), scale(1)])
def test_what_cannot_be_called_is_refused_with_the_fix(value):
    with pytest.raises(TypeError, match=r"delayed\(f\)\(x\), not delayed\(f\(x\)\)"):
        delayed(value)
