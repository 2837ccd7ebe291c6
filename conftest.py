"""Makes `bench` importable from the tests, from wherever pytest was started.

The checkout goes to the end of the path: an installed fastpar, or one that PYTHONPATH names, is found first.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
