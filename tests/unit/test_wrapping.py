"""wrap_non_picklable_objects: what pickle cannot handle travels by value."""

import pickle

import pytest

from fastpar import wrap_non_picklable_objects


def there_and_back(obj):
    return pickle.loads(pickle.dumps(obj))


def test_a_lambda_travels():
    wrapped = wrap_non_picklable_objects(lambda x: x + 1)
    assert wrapped(1) == there_and_back(wrapped)(1) == there_and_back(there_and_back(wrapped))(1) == 2


def test_the_other_side_may_get_the_bare_object():
    def local(x):
        return -x

    wrapped = wrap_non_picklable_objects(local, keep_wrapper=False)
    restored = there_and_back(wrapped)
    assert type(restored) is type(local)
    assert restored(3) == -3


def test_instances_of_a_decorated_class_travel():
    @wrap_non_picklable_objects
    class Adder:
        """Adds."""

        def __init__(self, n, *, sign=1):
            self.n = n * sign

        def __call__(self, x):
            return self.n + x

    adder = Adder(2, sign=-1)
    assert (Adder.__name__, Adder.__doc__) == ("Adder", "Adds.")
    assert there_and_back(adder)(5) == adder(5) == 3
    assert there_and_back(adder).n == -2


def test_only_what_can_be_called_is_callable():
    class Plain:
        pass

    assert not callable(wrap_non_picklable_objects(Plain()))
    assert not callable(wrap_non_picklable_objects(Plain)())


def test_missing_attributes_are_the_objects():
    with pytest.raises(AttributeError, match="function"):
        wrap_non_picklable_objects(lambda: None).nothing  # noqa: B018 -- asking is the test
