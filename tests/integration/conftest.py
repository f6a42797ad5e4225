"""What tests of the domain and its interfaces share."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache


@pytest.fixture
def no_throttle_of_earlier_tests() -> Iterator[None]:
    """How often somebody asked is counted in the cache, which no test's end rolls back."""
    cache.clear()
    yield
    cache.clear()
