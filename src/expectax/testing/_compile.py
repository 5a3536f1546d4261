"""How hard the compiler works: compiling is most of the cost of the battery.

A program that runs once is not worth any effort; one that makes 1e5 draws is worth some. The
numbers are the same.
"""

import functools

import jax

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
lightly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "1"})
