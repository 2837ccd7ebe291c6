"""The public names: joblib's are there with its parameters, and each is documented with examples that run."""

import doctest
import inspect
import re
import warnings

import joblib
import pytest

import fastpar

#: Names of joblib that come with persistence and the cache.
NOT_YET = {
    "Memory",
    "MemorizedResult",
    "expires_after",
    "dump",
    "load",
    "hash",
    "register_compressor",
    "register_store_backend",
    "StoreBackendBase",
}

PUBLIC = sorted(set(joblib.__all__) - NOT_YET)

#: What other libraries import from joblib's submodules.
SUBMODULE_NAMES = {
    "fastpar.parallel": [
        "Parallel",
        "delayed",
        "get_active_backend",
        "effective_n_jobs",
        "parallel_config",
        "BACKENDS",
    ],
    "fastpar.logger": ["Logger", "PrintTime", "short_format_time", "format_time"],
}

#: Sections of numpydoc, in the order of our docstrings; "Attributes" may stand anywhere.
SECTIONS = ["Parameters", "Returns", "Yields", "Raises", "Warns", "Notes", "References", "Examples"]


def members(thing):
    """The function or class, and the public methods that the class itself defines."""
    yield thing.__name__, thing
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                yield f"{thing.__name__}.{name}", member


DOCUMENTED = dict(pair for name in PUBLIC if hasattr(fastpar, name) for pair in members(getattr(fastpar, name)))


@pytest.mark.parametrize("name", PUBLIC)
def test_joblibs_names_exist(name):
    assert name in fastpar.__all__
    assert hasattr(fastpar, name)


def test_all_names_exist_once_and_hide_nothing():
    assert len(set(fastpar.__all__)) == len(fastpar.__all__)
    assert all(hasattr(fastpar, name) for name in fastpar.__all__)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in SUBMODULE_NAMES for name in SUBMODULE_NAMES[module]]
)
def test_names_that_others_import_from_submodules_exist(module, name):
    assert hasattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_are_joblibs_in_its_order(name):
    ours, theirs = (inspect.signature(getattr(library, name)).parameters for library in (fastpar, joblib))
    positional = [
        parameter
        for parameter in theirs
        if theirs[parameter].kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    assert list(ours)[: len(positional)] == positional
    assert set(theirs) <= set(ours)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    thing = getattr(fastpar, name)
    text = inspect.getdoc(thing)
    assert text and text != inspect.getdoc(object)
    first = text.splitlines()[0]
    assert first.endswith((".", ":")) and len(first) < 120
    own = [p for p in inspect.signature(thing).parameters if p not in ("self", "args", "kwargs")]
    if own:
        assert "Parameters\n----------" in text
        documented = text.partition("Parameters\n")[2]
        missing = [parameter for parameter in own if not re.search(rf"\b{parameter}\b", documented)]
        assert not missing


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_docstrings_are_numpydoc(name):
    text = inspect.getdoc(DOCUMENTED[name]) or ""
    assert text, "documented at all"
    ruled = re.findall(r"^(\w[\w ]*)\n(-{3,})$", text, re.M)
    headings = [heading for heading, _ in ruled]
    assert set(headings) <= {*SECTIONS, "Attributes"}
    assert all(len(heading) == len(rule) for heading, rule in ruled)
    order = [SECTIONS.index(heading) for heading in headings if heading in SECTIONS]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "module",
    [
        "fastpar",
        "fastpar.parallel",
        "fastpar.engines.active",
        "fastpar._core.delayed",
        "fastpar.cpu",
        "fastpar.config",
        "fastpar.logger",
        "fastpar.errors",
    ],
)
def test_examples_do_what_they_say(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = __import__(module, fromlist=["*"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("name", ["Parallel", "delayed", "parallel_config", "cpu_count"])
def test_the_main_names_have_examples(name):
    assert doctest.DocTestFinder(recurse=False).find(getattr(fastpar, name), name)[0].examples


def test_the_version_is_the_one_that_is_installed():
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert version("fastpar") == fastpar.__version__
    except PackageNotFoundError:
        pytest.skip("runs from a checkout that is not installed")
