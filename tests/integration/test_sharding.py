"""Estimators under `shard_map` and under automatic sharding, on four virtual devices.

Devices are fixed when JAX starts, so this runs in a process of its own.
"""

import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
W = jax.random.normal(jax.random.key(0), (5, 3))
x = jax.random.normal(jax.random.key(1), (8, 5))

def loss(W, estimator, key, x):
    q = dist.Bernoulli(logits=x @ W).to_event(1)
    return ex.expect(key, q, lambda b: ((b @ W.T - x) ** 2).sum(-1), estimator)

def one_shard(W, estimator, key, x):
    key = jax.random.fold_in(key, jax.lax.axis_index("batch"))
    return jax.lax.pmean(loss(W, estimator, key, x).mean(), "batch")

sharded = jax.shard_map(one_shard, mesh=mesh, in_specs=(P(), P(), P(), P("batch")), out_specs=P())
by_hand = lambda W, e, key, x: jnp.mean(jnp.stack([
    loss(W, e, jax.random.fold_in(key, i), x[2 * i : 2 * i + 2]).mean() for i in range(4)]))
key = jax.random.key(3)
spread = jax.device_put(x, NamedSharding(mesh, P("batch")))
for estimator in (ex.Enumerate(), ex.Enumerate(chunk_size=3), ex.DisARM(), ex.REBAR(baseline=0.1),
                  ex.MuProp(), ex.LeaveOneOut(), ex.DirectArgmax(0.5), ex.GumbelSoftmax(0.5)):
    name = type(estimator).__name__
    got = jax.jit(jax.grad(sharded, argnums=(0, 1)))(W, estimator, key, x)
    want = jax.jit(jax.grad(by_hand, argnums=(0, 1)))(W, estimator, key, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert jnp.allclose(a, b, rtol=1e-4, atol=1e-5), (name, a, b)
    whole = jax.jit(jax.grad(lambda W, x: loss(W, estimator, key, x).mean()))
    assert jnp.allclose(whole(W, spread), whole(W, x), rtol=1e-4, atol=1e-5), name
    print(name, "ok")
"""


def test_shards_agree_with_the_same_keys_by_hand():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("ok") == 8
