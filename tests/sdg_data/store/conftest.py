"""The folder's helpers are imported by name (`makers`), as pytest's importlib mode has no package for them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
