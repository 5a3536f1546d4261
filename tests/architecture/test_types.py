"""The types and shapes of the signatures are true: everything is traced with them checked."""

import subprocess
import sys

CHECKER = """
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float
"""
PROGRAM = """
import jax, jax.numpy as jnp, jaxtyping
import equinox as eqx
import numpyro.distributions as dist

with jaxtyping.install_import_hook("expectax", "checker.check"):
    import expectax as ex
    from expectax import gumbel

key = jax.random.key(0)
cost = lambda b: jnp.sum((b - 0.3) ** 2, axis=-1)
bits = lambda x: dist.Bernoulli(logits=x).to_event(1)
categories = lambda x: ex.OneHotCategorical(logits=x)
integers = lambda x: dist.Categorical(logits=x[:, None]).to_event(1)
normal = lambda x: dist.Normal(x, 1.0).to_event(1)
control = lambda z: jnp.sum(jnp.tanh(z), axis=-1)
everywhere = [ex.ScoreFunction(2), ex.ScoreFunction(baseline=0.1), ex.LeaveOneOut(3)]
everywhere += [ex.NVIL(jnp.zeros(4), sd=1.0), ex.NVIL(jnp.zeros(4))]
couplings = [ex.Antithetic(), ex.Stratified(), ex.Systematic(), ex.QuasiRandom()]
everywhere += [ex.LeaveOneOut(4, coupling) for coupling in couplings]
relaxed = [ex.MuProp(baseline=0.0), ex.GumbelSoftmax(0.5), ex.StraightThroughGumbelSoftmax(0.5)]
relaxed += [ex.StraightThrough(), ex.REBAR(baseline=0.0), ex.RELAX(control), ex.DirectArgmax(1.0)]
binary = [ex.ARM(), ex.DisARM(2)]
pairs = [(bits, e) for e in [ex.Enumerate(), *everywhere, *relaxed, *binary]]
pairs += [(categories, e) for e in [ex.Enumerate(chunk_size=2), *everywhere, *relaxed]]
pairs += [(integers, e) for e in [ex.Enumerate(), *everywhere]]
pairs += [(normal, e) for e in [ex.Pathwise(2), *everywhere]]
traced = 0
for build, estimator in pairs:
    loss = lambda both, key: ex.expect(key, build(both[0]), cost, both[1]).mean()
    program = lambda both, key: eqx.filter_value_and_grad(loss)(both, key)
    eqx.filter_eval_shape(program, (jnp.zeros((4, 3)), estimator), key)
    traced += 1
ex.expect(jax.random.PRNGKey(0), bits(jnp.zeros((4, 3))), cost, ex.ARM())

logits, index = jnp.zeros((2, 3)), jnp.zeros(2, int)
gumbel.argmax(key, logits)
z = gumbel.conditional_gumbel(key, logits, index)
gumbel.gumbel_residual(logits, z, z)
for bit in (jnp.ones((2, 3)), jnp.ones((2, 3), bool)):
    z = gumbel.conditional_logistic(key, logits, bit)
gumbel.logistic_residual(logits, z, z)

simple = lambda x, key: jnp.sum(x * jax.random.normal(key, (3,)))
moments = ex.gradient_moments(key, simple, jnp.zeros(3), num_draws=5)
moments.total_variance, moments.signal_to_noise
str(ex.check_unbiased(key, simple, jnp.zeros(3), reference=moments, num_draws=5))
report = ex.compare(key, bits(jnp.zeros((4, 3))), cost, [ex.Enumerate()], num_runs=2)
str(report), report.to_markdown(), report.to_dict()

caught = 0
for wrong in (
    lambda: gumbel.gumbel_residual(logits, z[:, :2], z),
    lambda: gumbel.conditional_gumbel(key, logits, index[:1]),
    lambda: gumbel.conditional_gumbel(key, logits, jnp.zeros(2)),
):
    try:
        wrong()
    except jaxtyping.TypeCheckError:
        caught += 1
print(traced, caught)
"""


def test_signatures_hold_and_wrong_shapes_are_caught(tmp_path):
    (tmp_path / "checker.py").write_text(CHECKER, encoding="utf-8")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    out = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr[-3000:]
    traced, caught = map(int, out.stdout.split())
    assert traced == 56
    assert caught == 3  # so that a signature that is not checked is noticed
