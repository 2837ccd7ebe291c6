"""Imports run one way, nothing heavy is loaded early, nobody sleeps, and no error is swallowed unseen.

Read from the sources: Python's by its own parser, Cython's line by line, which is enough for import statements.
"""

import ast
import re
from pathlib import Path

import pytest

import fastpar

PACKAGE = Path(fastpar.__file__).parent

#: Bottom first: a module imports from its own layer and those named before it. Within a layer there are no cycles.
LAYERS = (
    ("errors",),
    ("_core",),
    (
        "cpu",
        "config",
        "logger",
        "arrays",
        "hashing",
        "hashing_arrays",
        "fingerprint",
        "wrapping",
        "progress",
        "persist",
    ),
    ("engines",),
    ("runloop", "call", "memory"),
    ("parallel", "kernels"),
    ("__init__",),
    ("as_joblib", "demo", "info", "__main__"),
)

#: Modules whose names begin with an underscore belong to the layer of those that use them.
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: None of these is loaded by `import fastpar` alone: users pay for them where they use them.
HEAVY = {"numpy", "multiprocessing", "cloudpickle", "asyncio", "logging", "concurrent.futures", "inspect"}
HEAVY |= {"dataclasses", "typing", "re", "socket", "subprocess", "threadpoolctl", "xxhash", "ctypes", "pickle"}

SOURCES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd"))
CYTHON = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^#\n]*)|c?import\s+([\w., ]+))", re.M)
CIMPORT = re.compile(r"^\s*from\s+fastpar\.?([\w.]*)\s+cimport\s+(\([^)]*\)|[^#\n]*)", re.M)


def module_of(path):
    """The dotted name within the package: "engines.threads"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path) for path in SOURCES}


def imports_of(path):
    """Names that a file imports from fastpar, and whether at its top: pairs ("engines.threads", True)."""
    text = path.read_text()
    if path.suffix == ".py":
        yield from python_imports(ast.parse(text))
    else:
        for source, names, plain in CYTHON.findall(text):
            for name in re.findall(r"\w+", names) if source else re.findall(r"[\w.]+", plain):
                yield from within_package(f"{source}.{name}" if source else name, True)


def python_imports(tree):
    late = {id(node) for function in ast.walk(tree) if is_function(function) for node in ast.walk(function)}
    typing = {id(node) for block in ast.walk(tree) if is_typing_block(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            for alias in node.names:
                yield from within_package(f"{node.module}.{alias.name}", id(node) not in late)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from within_package(alias.name, id(node) not in late)


def is_function(node):
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def is_typing_block(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def within_package(name, at_top):
    """The module that "fastpar.engines.threads.ENGINE" is found in."""
    package, _, rest = name.partition(".")
    if package != "fastpar":
        return
    while rest and rest not in MODULES:
        rest = rest.rpartition(".")[0]
    yield rest or "__init__", at_top


def rank(module):
    first = module.partition(".")[0]
    return RANK.get(first)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = module_of(path)
    if rank(own) is None:
        assert own.startswith("_"), f"{own} has no place in LAYERS yet"
        return
    for imported, at_top in imports_of(path):
        if rank(imported) is None or (imported == "__init__" and not at_top):
            continue
        assert rank(imported) <= rank(own), f"{own} imports {imported}, which lies above it"


def test_private_modules_are_imported_by_one_layer_only():
    users = {}
    for path in SOURCES:
        for imported, _ in imports_of(path):
            if imported.startswith("_") and rank(imported) is None:
                users.setdefault(imported, set()).add(rank(module_of(path)))
    assert {name: ranks for name, ranks in users.items() if len(ranks) > 1} == {}


def test_there_are_no_cycles_among_modules():
    graph = {module_of(path): set() for path in SOURCES}
    for path in SOURCES:
        graph[module_of(path)] |= {imported for imported, at_top in imports_of(path) if at_top} - {module_of(path)}
    ended = set()

    def follow(module, trail):
        assert module not in trail, " -> ".join([*trail, module])
        if module not in ended:
            for imported in sorted(graph.get(module, ())):
                follow(imported, [*trail, module])
            ended.add(module)

    for module in sorted(graph):
        follow(module, [])


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.parent.name == "engines"], ids=lambda path: path.name
)
def test_engines_never_see_parallel(path):
    assert not {imported for imported, _ in imports_of(path)} & {"parallel", "runloop", "__init__"}


def test_the_reader_of_imports_sees_what_is_there():
    found = {imported for imported, _ in imports_of(PACKAGE / "_core" / "dispatch.pxd")}
    assert {"_core.batching", "_core.capi"} <= found
    assert ("runloop", True) in set(imports_of(PACKAGE / "parallel.py"))


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.suffix != ".py"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_modules_are_cimported_by_their_full_names(path):
    # cythonize overlooks the module in `from package cimport module`, and then does not rebuild when its .pxd changes.
    for package, names in CIMPORT.findall(path.read_text()):
        for name in re.findall(r"\w+", names):
            module = f"{package}.{name}".lstrip(".")
            assert module not in MODULES, f"write: cimport fastpar.{module} as {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_sleeps_and_no_except_is_bare(path):
    code = re.sub(r'"""(?s:.*?)"""|#.*', "", path.read_text())
    assert not re.search(r"\bsleep\s*\(", code)
    assert not re.search(r"^\s*except\s*:", code, re.M)


@pytest.mark.slow
def test_import_loads_nothing_heavy(python):
    loaded = python.out("import sys; before = set(sys.modules); import fastpar; print(*set(sys.modules) - before)")
    assert not set(loaded.split()) & HEAVY


@pytest.mark.slow
def test_import_starts_nothing(python):
    out = python.out("import os, fastpar; print(len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd')))")
    without = python.out("import os; print(len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd')))")
    assert out == without
