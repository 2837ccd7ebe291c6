"""Signatures of C functions: what the several notations for them mean, in one short code.

A code is a letter for the result and one for each parameter, ``d(dP)`` for ``double (double, void *)``. Pure text:
nothing here looks at a function. Integers of 64 bits are one type, whatever they are called.
"""

from __future__ import annotations

import re

#: d and f are double and float, i an int, l an integer of 64 bits, v void; capitals are pointers, P ``void *``.
_TYPES = {
    "double": "d",
    "float64": "d",
    "float": "f",
    "float32": "f",
    "int": "i",
    "int32": "i",
    "int32_t": "i",
    "void": "v",
    "none": "v",
    "Py_ssize_t": "l",
} | dict.fromkeys(
    ("long", "long_long", "int64", "int64_t", "intp", "intptr_t", "ptrdiff_t", "npy_intp", "npy_int64", "ssize_t"), "l"
)
#: No names: what follows a type and belongs to it, as in "long double".
_TYPE_WORDS = frozenset(
    (*_TYPES, "bool", "char", "complex", "short", "size_t", "unsigned", "_Bool", "_Complex", "_Imaginary")
)
_POINTERS = {"d": "D", "f": "F", "i": "I", "l": "L", "v": "P"}
_QUALIFIERS = re.compile(r"\b(const|volatile|restrict|__restrict__|__restrict|signed)\b")
_MODIFIERS = re.compile(r"\b(noexcept|nogil)\b|\bexcept\b.*$")

#: One signature of each kind, for messages.
KNOWN = {
    "kernel_map": (
        "double (double)",
        "double (double, double, void *)",
        "float (float)",
        "int (double *, intptr_t, double *, void *)",
        "int (double *, intptr_t, double *, intptr_t, void *)",
    ),
    "parallel_for": ("int (int64_t, void *)", "int (int64_t)", "int (int64_t, int64_t, void *)"),
    "parallel_reduce": ("double (int64_t, void *)", "double (int64_t)", "double (int64_t, int64_t, void *)"),
}
_FITTING = {
    "kernel_map": re.compile(r"d\(d{1,4}P?\)|f\(f{1,4}P?\)|i\(([DF])l\1P\)|i\(([DF])l\2lP\)"),
    "parallel_for": re.compile(r"i\((l|lP|llP)\)"),
    "parallel_reduce": re.compile(r"d\((l|lP|llP)\)"),
}


def encode(signature: str) -> str:
    """The code of a signature in C's notation: of SciPy's capsules, of Cython's, or a user's.

    Raises
    ------
    TypeError
        If it is no signature, or has a type that no kernel has.

    Examples
    --------
    >>> encode("double (double, void *)"), encode("int (npy_intp i, void *user_data)")
    ('d(dP)', 'i(lP)')
    """
    match = re.fullmatch(r"\s*(.+?)\s*\((.*)\)\s*", _MODIFIERS.sub("", signature).strip())
    if match is None:
        raise TypeError(f"{signature!r} is no signature: write for example 'double (double, void *)'")
    result, parameters = match.groups()
    inside = [] if parameters.strip() in ("", "void") else parameters.split(",")
    if inside and inside[-1].strip() == "int __pyx_skip_dispatch":
        inside.pop()  # Cython's, of cpdef functions; those of a module never look at it
    codes = [_type_code(text, signature) for text in (result, *inside)]
    return f"{codes[0]}({''.join(codes[1:])})"


def _type_code(text: str, signature: str) -> str:
    n_stars = text.count("*")
    words = _QUALIFIERS.sub(" ", text.replace("*", " ")).split()
    if words[:2] == ["long", "long"]:
        words[:2] = ["long_long"]
    if len(words) > 1 and words[1] == "int" and words[0] in ("long", "long_long"):
        del words[1]
    is_type = len(words) == 1 or (len(words) == 2 and words[1].isidentifier() and words[1] not in _TYPE_WORDS)
    code = _TYPES.get(words[0]) if is_type else None  # the second word is a name
    if code is not None and n_stars == 1:
        code = _POINTERS.get(code)
    if code is None or n_stars > 1:
        raise TypeError(f"{text.strip()!r} in {signature!r} is no type that a kernel can have: it knows "
                        f"{', '.join(_TYPES)}, and pointers to them")
    return code


def has_const_data(signature: str) -> bool:
    """Whether the last parameter is a pointer to what the function promises not to change."""
    return "const" in signature and re.search(r"\bconst\b[^,*]*\*[^,*]*\)[^)]*$", signature) is not None


def check(code: str, signature: str, call: str) -> None:
    """Refuse a kernel that a loop cannot call, before anything runs."""
    if _FITTING[call].fullmatch(code) is None:
        known = "\n    ".join(KNOWN[call])
        raise TypeError(f"{call} cannot call a kernel of signature {signature!r}. Signatures it can call:\n    {known}")
