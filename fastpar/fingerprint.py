"""What a function does, as a digest: its normalised code.

Comments, docstrings, formatting, line numbers and decorators do not count; everything that can change a result does.
The code is read from its source as a syntax tree, which is the same for every supported Python; where no source can be
had (or it is newer than the code in memory), the bytecode stands in, which is the same for one Python version only:
then an upgrade of Python costs a recomputation, and never a wrong answer.

Any thread may call these functions. The cache below is written with whole entries only.
"""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import os
import sys
import textwrap
import time
import types
import weakref
from typing import Any

from xxhash import xxh3_128

__all__ = ["adopt_fingerprint", "bytecode_fingerprint", "code_fingerprint", "file_fingerprint"]

#: id of a code object -> (weak reference to it, fingerprint). By identity: comparing code objects is slow.
_known: dict[int, tuple[weakref.ref[types.CodeType], str]] = {}

#: Source written after this moment may not be what the code in memory was compiled from.
_STARTED = time.time()

#: A flag of code objects since Python 3.13.
_HAS_DOCSTRING = 0x4000000

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def code_fingerprint(function: types.FunctionType) -> str:
    """Digest of a Python function's code alone: neither its name's module, nor defaults, nor what it closes over."""
    code = function.__code__
    entry = _known.get(id(code))
    if entry is not None and entry[0]() is code:
        return entry[1]
    tree = _syntax_tree(function)
    made = bytecode_fingerprint(code) if tree is None else _digest(["source", *canonical(tree)])
    _known[id(code)] = (weakref.ref(code), made)
    return made


def adopt_fingerprint(function: types.FunctionType, made: str) -> None:
    """Take over the fingerprint of a function that another process sent, where its source may be and here is not."""
    if not _is_imported(function):
        _known[id(function.__code__)] = (weakref.ref(function.__code__), made)


def _is_imported(function: types.FunctionType) -> bool:
    """Whether this process has its code from the file of its module. Else it was sent here, or made by `exec`."""
    module = sys.modules.get(function.__module__)
    return getattr(module, "__file__", None) == function.__code__.co_filename


def _digest(parts: list[str]) -> str:
    return xxh3_128("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


# -- source ----------------------------------------------------------------------------------------------------------


def _syntax_tree(function: types.FunctionType) -> ast.AST | None:
    """The node that its code was compiled from, or None when its source cannot be had or has changed since."""
    code = function.__code__
    try:
        if not _is_current(code, may_be_older=not _is_imported(function)):
            return None
        if code.co_name == "<lambda>":
            return _lambda_node(code)
        lines, _ = inspect.getsourcelines(code)
        node = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, SyntaxError, IndexError, TypeError, ValueError):
        return None
    is_it = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name
    return node if is_it else None


def _lambda_node(code: types.CodeType) -> ast.AST | None:
    """The lambda on the code's first line; with several there, the bytecode has to do."""
    source = "".join(linecache.getlines(code.co_filename))
    nodes = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
    ]
    return nodes[0] if len(nodes) == 1 else None


def _is_current(code: types.CodeType, *, may_be_older: bool) -> bool:
    """Whether the source on disk is what `code` was compiled from. Cells of a notebook are not on disk.

    `may_be_older`: code sent by another process may be older than a file that did not change since this one started.
    """
    linecache.checkcache(code.co_filename)
    try:
        if os.stat(code.co_filename).st_mtime < _STARTED - 1 and not may_be_older:
            return True
    except OSError:
        return code.co_filename in linecache.cache
    # Else compile the file again and look for the very same code.
    with open(code.co_filename, "rb") as file:
        compiled = compile(file.read(), code.co_filename, "exec", dont_inherit=True)
    return any(found == code for found in _nested(compiled))


def _nested(code: types.CodeType) -> list[types.CodeType]:
    found = [code]
    for outer in found:
        found.extend(constant for constant in outer.co_consts if isinstance(constant, types.CodeType))
    return found


def canonical(node: ast.AST, *, outermost: bool = True) -> list[str]:
    """A syntax tree as a flat list of words, without position, docstrings and empty fields."""
    words = [type(node).__name__]
    for name in sorted(node._fields):
        if name in ("ctx", "kind", "type_comment") or (outermost and name == "decorator_list"):
            continue
        member = getattr(node, name, None)
        if name == "body" and isinstance(node, _DEFINITIONS):
            member = _without_docstring(member)
        if member is not None and member != []:
            words += (f"{name}=", *_canonical_member(member))
    return [*words, ";"]


def _canonical_member(member: Any) -> list[str]:
    if isinstance(member, ast.AST):
        return canonical(member, outermost=False)
    if isinstance(member, list):
        words = [str(len(member))]
        for part in member:
            words += _canonical_member(part)
        return words
    return [f"{type(member).__name__} {member!r}"]


def _without_docstring(body: Any) -> Any:
    first = body[0] if body else None
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body


# -- bytecode --------------------------------------------------------------------------------------------------------


def bytecode_fingerprint(code: types.CodeType) -> str:
    """Digest of a code object without its file, lines and docstring."""
    return _digest(["bytecode", *_bytecode(code)])


def _bytecode(code: types.CodeType) -> list[str]:
    """Instructions with what they refer to in the place of where it is stored, which a docstring would shift."""
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_HAS_DOCSTRING)
    words = [code.co_name, repr(shape), repr(code.co_varnames), repr(code.co_freevars)]
    for instruction in dis.get_instructions(code):
        words.append(instruction.opname)
        words += _referred(instruction.argval)
    return words


def _referred(thing: Any) -> list[str]:
    if isinstance(thing, types.CodeType):
        return _bytecode(thing)
    if isinstance(thing, frozenset):
        return sorted(map(repr, thing))
    return [repr(thing)]


# -- files -----------------------------------------------------------------------------------------------------------

#: Path -> (size and times when it was read, digest of the content).
_files: dict[str, tuple[tuple[int, int], str]] = {}


def file_fingerprint(path: str) -> str:
    """Digest of a file's content, read again only when its size or time changes; "missing" if there is no such file.

    Raises
    ------
    OSError
        It is there and cannot be read.
    """
    try:
        status = os.stat(path)
        state = (status.st_size, status.st_mtime_ns)
        known = _files.get(path)
        if known is not None and known[0] == state:
            return known[1]
        content = xxh3_128()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    _files[path] = (state, content.hexdigest())
    return content.hexdigest()
