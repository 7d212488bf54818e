"""How hypothesis draws its examples: the same ones each time, so that a gate says the same about the same commit.

`HYPOTHESIS_PROFILE=search` draws new ones; `make test-slow` does. No example has a deadline: machines differ.

What the tests export is not noted among the exports of the account that runs them.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
