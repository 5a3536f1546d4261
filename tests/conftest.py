"""Fixtures that every test may use."""

import gc
import os
import pathlib
import shutil
import tempfile

import jax
import pytest

# Compiling is most of what the tests do, and of many small programs: as little effort as there is.
_FLAGS = (
    "--xla_backend_optimization_level=0"
    " --xla_cpu_parallel_codegen_split_count=1"
    " --xla_cpu_use_fusion_emitters=false"
)
os.environ["XLA_FLAGS"] = " ".join(filter(None, (os.environ.get("XLA_FLAGS"), _FLAGS)))

# No program that takes long to compile is compiled twice in a process; with this variable set, nor
# in a second run.
_CACHE = os.environ.get("EXPECTAX_TEST_CACHE") or tempfile.mkdtemp(prefix="expectax-compiled-")
jax.config.update("jax_compilation_cache_dir", os.path.join(_CACHE, ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_unconfigure():
    """Leave nothing behind that nobody asked for."""
    if os.environ.get("EXPECTAX_TEST_CACHE") != _CACHE:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in this very hook
def pytest_collection_modifyitems(items):
    """Under pytest-xdist, the tests of one file go to one worker: they share compiled programs."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


_MAPS = pathlib.Path("/proc/self/maps")
_MOST_MAPS = 40_000
"""Each compiled program maps memory six times; at 65,530 maps Linux refuses, and XLA crashes."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Between groups of tests that share compiled programs, let go of them once they are many."""
    if nextitem is None or _group(item) == _group(nextitem) or not _MAPS.exists():
        return
    with _MAPS.open("rb") as lines:
        many = sum(1 for _ in lines) > _MOST_MAPS
    if many:
        jax.clear_caches()
        gc.collect()


def _group(item):
    return item.get_closest_marker("xdist_group").args


@pytest.fixture
def float64():
    """Compute in float64 for the length of a test."""
    with jax.enable_x64(True):
        yield
