"""The toy detector's processor, whose tokenizer takes seconds to make."""

import pytest

from trainers.detector.mini.model import make_processor


@pytest.fixture(scope="session")
def processor():
    """No test changes it."""
    return make_processor()
