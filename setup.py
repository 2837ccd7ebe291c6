"""Builds the compiled core: the Cython modules of fastpar, each with the C sources of src_c that it uses.

FASTPAR_DEBUG=1 in the environment turns on invariant checks and counters of live objects.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError, ExecError, PlatformError

ROOT = Path(__file__).parent
DEBUG = os.environ.get("FASTPAR_DEBUG", "0") not in ("", "0")

#: C sources that a module needs beside its own; every other module is Cython alone.
C_CLOCK = ["fp_check.c", "fp_os_linux.c", "fp_os_posix.c"]
C_PARKING = [*C_CLOCK, "fp_park.c"]
C_POOL = ["fp_deque.c", "fp_for.c", "fp_hint.c", "fp_loop.c", "fp_pool.c", "fp_reduce.c", "fp_sleep.c"]
C_SOURCES = {
    "fastpar._core.channel": C_CLOCK,
    "fastpar._core.dispatch": [*C_PARKING, "fp_queue.c"],
    "fastpar._core.exchange": C_CLOCK,
    "fastpar._core.kernel": ["fp_map.c"],
    "fastpar._core.labor": C_CLOCK,
    "fastpar._core.pool": [*C_PARKING, *C_POOL],  # nowhere else: there is one pool in a process
    "fastpar._core.remote": [*C_PARKING, "fp_queue.c"],
    "fastpar._core.segments": C_PARKING,
    "fastpar._core.slots": C_CLOCK,
    "fastpar._core.source": C_CLOCK,
    "fastpar._core.threads": C_PARKING,
}

FLAGS = [] if sys.platform == "win32" else ["-std=c11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"]
MACROS = [("FP_DEBUG", "1")] if DEBUG else []

MISSING_COMPILER = (
    "fastpar could not be compiled: it needs a C11 compiler and Python's headers "
    "(Debian and Ubuntu: apt-get install gcc python3-dev; Fedora: dnf install gcc python3-devel; "
    "macOS: xcode-select --install)."
)


class BuildExt(build_ext):
    """Always rebuilds, since FASTPAR_DEBUG is no file to be newer than, and says plainly what is missing.

    Leaves a copy of the compiled modules beside their sources: run from a checkout, `python -m fastpar` and
    `python -m pytest` import the package that lies there, whatever was installed, so both have to be the same code.
    """

    def finalize_options(self):
        super().finalize_options()
        self.force = True
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        super().run()
        self.copy_extensions_to_source()  # bdist_wheel overrides an `inplace` in setup.cfg

    def build_extensions(self):
        try:
            self.compile_c_sources()
            super().build_extensions()
        except (CCompilerError, ExecError, PlatformError) as error:
            raise SystemExit(f"{MISSING_COMPILER}\nThe compiler said: {error}") from error

    def compile_c_sources(self):
        """Compile each source that several modules share once, before modules are built side by side."""
        sources = sorted({source for sources in C_SOURCES.values() for source in sources})
        objects = self.compiler.compile(
            [f"src_c/{source}" for source in sources],
            output_dir=self.build_temp,
            macros=MACROS,
            include_dirs=["src_c"],
            extra_postargs=FLAGS,
        )
        found = dict(zip(sources, objects, strict=True))
        for module in self.extensions:
            module.extra_objects = [found[source] for source in C_SOURCES.get(module.name, ())]


class BuildPy(build_py):
    """Adds the C headers that the .pxd files declare: `fastpar.get_include()` says where they are."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "fastpar", "include")
            target.mkdir(parents=True, exist_ok=True)
            for header in sorted((ROOT / "src_c").glob("*.h")):
                self.copy_file(str(header), str(target))


def extension(source: Path) -> Extension:
    name = ".".join(source.relative_to(ROOT).with_suffix("").parts)
    return Extension(
        name,
        [str(source.relative_to(ROOT))],
        include_dirs=["src_c"],
        define_macros=MACROS,
        extra_compile_args=FLAGS,
        depends=[str(header.relative_to(ROOT)) for header in (ROOT / "src_c").glob("*.h")],
    )


setup(
    ext_modules=cythonize(
        [extension(source) for source in sorted((ROOT / "fastpar").rglob("*.pyx"))],
        compiler_directives={
            "language_level": 3,
            "freethreading_compatible": True,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
        },
    ),
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
)
