"""Hypothesis profiles: `ci` repeats the same examples, `dev` draws new ones, `debug` tells what it draws.

Choose with `pytest --hypothesis-profile=NAME`; the default is ci where the environment has CI, else dev.
"""

import os
from collections.abc import Iterator

import pytest
import threadpoolctl
from hypothesis import HealthCheck, Verbosity, settings

# A kernel that takes few problems (Winograd, depthwise) turns most of the drawn ones down.
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("ci", deadline=None, max_examples=8, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("dev", deadline=None, max_examples=20, suppress_health_check=QUIET)
settings.register_profile(
    "short", deadline=None, max_examples=4, derandomize=True, suppress_health_check=QUIET
)
settings.register_profile("debug", deadline=None, max_examples=5, verbosity=Verbosity.verbose)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture
def many_threads() -> Iterator[None]:
    """Let OpenMP start up to eight threads, however few cores there are."""
    with threadpoolctl.threadpool_limits(8, user_api="openmp"):
        yield
