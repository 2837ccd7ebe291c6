"""Makes `bench` importable from the tests, from wherever pytest was started.

With pytest --import-mode=append an installed fastpar is found before the one in this checkout.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
