"""Worker processes from a notebook, whose functions are in no file."""

import pytest

CELLS = [
    "import os, time, signal\nfrom fastpar import Parallel, delayed\noffset = 10\ndef f(x): return x + offset",
    "print(Parallel(2, 'processes')(delayed(f)(x) for x in range(3)))",
    "offset = 20\ndef f(x): return -x - offset\nclass Box:\n    def __init__(self, x): self.x = x",
    "print([box.x for box in Parallel(2, 'processes')(delayed(Box)(f(x)) for x in range(3))])",
    "print(Parallel(2, 'processes')(delayed(f)(x) for x in range(3)))",
]
SAID = ["", "[10, 11, 12]\n", "", "[-20, -21, -22]\n", "[-20, -21, -22]\n"]
PROGRAM = """
import nbclient, nbformat
cells = [nbformat.v4.new_code_cell(cell) for cell in {cells!r}]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
for cell in cells:
    for output in cell.outputs:
        print(output.get("text", ""), output.get("evalue", ""), sep="", end="")
"""


@pytest.mark.slow
def test_cells_of_a_notebook(python):
    for module in ("nbformat", "nbclient", "ipykernel"):
        pytest.importorskip(module)
    fails = "Parallel(2, 'processes')(delayed(int)('x') for _ in range(2))"
    done = python.run("-c", PROGRAM.format(cells=[*CELLS, fails, CELLS[-1]]))
    assert done.stdout == "".join(SAID) + "invalid literal for int() with base 10: 'x'" + SAID[-1], done.stderr


def test_cells_without_a_notebook(python):
    """What IPython does with a cell: compiled under a made-up name, run in the namespace of `__main__`."""
    program = f"""
import __main__
for number, cell in enumerate({CELLS!r}):
    exec(compile(cell, f"/tmp/ipykernel_1/{{number}}.py", "exec"), __main__.__dict__)
"""
    assert python.out(program) == "".join(SAID)
