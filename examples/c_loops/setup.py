"""Builds an extension in plain C whose loops run on fastpar's threads: one header, no library to link.

    pip install fastpar setuptools
    python setup.py build_ext --inplace
    python test_mandelbrot.py
"""

from setuptools import Extension, setup

import fastpar

setup(
    name="c_loops",
    py_modules=[],
    ext_modules=[
        Extension(
            "mandelbrot", ["mandelbrot.c"], include_dirs=[fastpar.get_include()], extra_compile_args=["-std=c11", "-O2"]
        )
    ],
)
