"""Fixtures that every test may use."""

import os

import jax
import pytest

# Compiling is most of what the tests do. With this variable set, a second run reuses the first's.
_CACHE = os.environ.get("EXPECTAX_TEST_CACHE")
if _CACHE:
    jax.config.update("jax_compilation_cache_dir", os.path.join(_CACHE, ".jax_cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in this very hook
def pytest_collection_modifyitems(items):
    """Under pytest-xdist, the tests of one file go to one worker: they share compiled programs."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture
def float64():
    """Compute in float64 for the length of a test."""
    with jax.enable_x64(True):
        yield
