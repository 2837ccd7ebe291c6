"""Builds an extension whose loops run on fastpar's threads: no -fopenmp, no include directory, no library.

    pip install fastpar cython setuptools
    python setup.py build_ext --inplace
    python test_loops.py
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    name="cython_loops",
    py_modules=[],
    ext_modules=cythonize(
        [Extension("loops", ["loops.pyx"])],
        compiler_directives={"language_level": 3, "freethreading_compatible": True},
    ),
)
