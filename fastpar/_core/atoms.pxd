# Types that nobody can have pickled in a way of his own, nor find again by identity: pickled and unpickled as they are.

cdef inline bint is_atom(kind) noexcept:
    return (
        kind is int or kind is float or kind is str or kind is bool or kind is bytes or kind is complex or kind is type(None)
    )
