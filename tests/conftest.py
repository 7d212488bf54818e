"""How hypothesis draws its examples: the same ones each time, so that a gate says the same about the same commit.

`HYPOTHESIS_PROFILE=search` draws new ones; `make test-slow` does. No example has a deadline: machines differ.
"""

import os

from hypothesis import settings

settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))
