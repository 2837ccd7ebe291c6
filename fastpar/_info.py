"""The text of `python -m fastpar info`: what fastpar sees of this machine, to read and to put into reports.

Each section is a function that returns lines. A section that fails says so in its place: whoever needs this
text has a problem already.
"""

from __future__ import annotations

import importlib
import platform
import sys
import sysconfig

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Codecs: name, and the modules of which one must be there. lzma and xz are one module.
CODECS = {
    "zlib": ("zlib",),
    "gzip": ("zlib",),
    "bz2": ("bz2",),
    "lzma": ("lzma",),
    "xz": ("lzma",),
    "lz4": ("lz4.frame",),
    "zstd": ("compression.zstd", "backports.zstd"),
}

USAGE = (
    "usage: python -m fastpar info\n\nShows versions, CPUs and why they are that many, engines, codecs and libraries."
)


def main(argv: Sequence[str] = ()) -> int:
    """Print the report and return the exit code: 0, or 2 for arguments that nobody knows.

    Parameters
    ----------
    argv : sequence of str
        What follows "info" on the command line; -h and --help explain.
    """
    if any(argument in ("-h", "--help") for argument in argv):
        sys.stdout.write(f"{USAGE}\n")
        return 0
    if argv:
        sys.stderr.write(f"fastpar info takes no arguments, got {' '.join(argv)}\n")
        return 2
    sys.stdout.write("\n".join([*lines(), ""]))
    return 0


def lines() -> list[str]:
    """Return the report, line by line."""
    report: list[str] = []
    for title, section in SECTIONS.items():
        report.append(title)
        report += [f"  {line}" for line in _guarded(section)]
    return report


def _guarded(section: Callable[[], Iterator[str]]) -> list[str]:
    try:
        return list(section())
    except Exception as error:  # noqa: BLE001 - reported in its place; the other sections still help
        return [f"not available: {type(error).__name__}: {error}"]


def versions() -> Iterator[str]:
    """Yield the versions of fastpar, Python and the packages that fastpar uses."""
    import fastpar

    yield f"fastpar {getattr(fastpar, '__version__', '(not built)')}"
    yield f"{platform.python_implementation()} {platform.python_version()}, {_gil()}"
    yield f"built with {platform.python_compiler()}, {sysconfig.get_platform()}"
    yield f"running on {platform.platform()}"
    for package in ("numpy", "cloudpickle", "threadpoolctl", "xxhash", "tqdm"):
        yield f"{package} {_version(package)}"


def _gil() -> str:
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "with the GIL"
    is_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: False)
    return f"free-threaded build, the GIL is {'on' if is_enabled() else 'off'}"


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"


def cpus() -> Iterator[str]:
    """Yield the number of CPUs and every limit on it, those that decide first."""
    from fastpar.cpu import cpu_count

    explained = cpu_count(explain=True)
    reasons = explained.reasons
    yield f"{explained.count}, which is the limit of {', '.join(limit.name for limit in reasons)}"
    for limit in sorted(explained.limits, key=lambda limit: limit not in reasons):
        shown = "-" if limit.n_cpus is None else limit.n_cpus
        yield f"{shown:>4}  {limit.name}  ({limit.source})"
    yield f"{cpu_count(only_physical_cores=True):>4}  with one thread a core"


def engines() -> Iterator[str]:
    """Yield the ways of executing tasks and their state."""
    from fastpar.engines.active import available

    for name, status in available().items():
        yield f"{name}: {status}"


def codecs() -> Iterator[str]:
    """Yield the codecs for files, and what is missing."""
    usable = [name for name, modules in CODECS.items() if any(_is_usable(module) for module in modules)]
    yield ", ".join(usable)
    for name in CODECS:
        if name not in usable:
            yield f"{name} is not installed"


def _is_usable(module: str) -> bool:
    """Import `module`: one that can be found need not work, since Python may be built without a codec."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def native_libraries() -> Iterator[str]:
    """Yield the libraries with threads of their own, after importing NumPy so that there is one to find."""
    _is_usable("numpy")
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    found = threadpool_info()
    for library in found:
        version = f" {library['version']}" if library.get("version") else ""
        layer = f", {library['threading_layer']}" if library.get("threading_layer") else ""
        yield f"{library['internal_api']}{version}: {library['num_threads']} threads{layer} ({library['filepath']})"
    if not found:
        yield "none is loaded"


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    "Versions": versions,
    "CPUs": cpus,
    "Engines": engines,
    "Codecs": codecs,
    "BLAS and OpenMP": native_libraries,
}
