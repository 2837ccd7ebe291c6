"""fastpar in the place of joblib, for libraries that import it, like scikit-learn.

    import fastpar.as_joblib  # before anything imports joblib

From then on ``import joblib`` finds the names of `joblib.__all__` here, and the modules `joblib.hashing`, `logger`,
`memory` and `parallel`; there are no others. Worker processes that are started afterwards do the same, but for those of
``start_method="spawn"``. What `joblib.dump` writes from here on is fastpar's, and joblib itself cannot read it.

Raises
------
ImportError
    If joblib has been imported already: whoever did that would go on using it.

Thread and fork safety: import it where the program begins; children made by `os.fork` inherit it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

import fastpar

#: Programs ask whether joblib is recent enough: the version whose names and parameters these are.
JOBLIB_VERSION = "1.6.0"
SUBMODULES = ("hashing", "logger", "memory", "parallel")


def _stand_in() -> ModuleType:
    """A module and no package, or else ``import joblib.x`` would run a second copy of ``fastpar/x.py``."""
    joblib = ModuleType("joblib", __doc__)
    joblib.__spec__ = ModuleSpec("joblib", None, origin=__file__)
    joblib.__dict__.update(__version__=JOBLIB_VERSION, __all__=fastpar.__all__, __getattr__=fastpar.__getattr__)
    joblib.__dict__.update({name: getattr(fastpar, name) for name in fastpar.__all__ if name in vars(fastpar)})
    for name in SUBMODULES:
        sys.modules[f"joblib.{name}"] = joblib.__dict__[name] = import_module(f"fastpar.{name}")
    return joblib


if "joblib" in sys.modules:
    raise ImportError("joblib has been imported already: import fastpar.as_joblib before what imports joblib")
sys.modules["joblib"] = _stand_in()
