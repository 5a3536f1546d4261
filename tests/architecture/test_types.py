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
cost = lambda b: jnp.sum((b - 0.3) ** 2, axis=tuple(range(1, b.ndim)))  # [4, ...] -> [4]
bits = lambda x: dist.Bernoulli(logits=x).to_event(1)
categories = lambda x: ex.OneHotCategorical(logits=x)
integers = lambda x: dist.Categorical(logits=x[:, None]).to_event(1)
normal = lambda x: dist.Normal(x, 1.0).to_event(1)
orders = lambda x: ex.PlackettLuce(x)
sets = lambda x: ex.Subset(x, 2)
largest = lambda x: ex.TopK(x, 2)
LAWS = [bits, categories, integers, normal, orders, sets, largest]

from expectax.diagnostics._candidates import Scene, estimator_classes, set_up
from expectax.distributions import joint, require

def serves(cls, build):
    try:
        require(joint(build(jnp.zeros((4, 3)))), cls.claims.needs, None)
    except ex.IncompatibleError:
        return False
    return True

def made(cls, build):
    scene = Scene(key, joint(build(jnp.zeros((4, 3)))), jnp.zeros(4), 1.0)
    return ex.NVIL(jnp.zeros(4)) if cls is ex.NVIL else set_up(cls, scene).estimator

pairs = [(b, made(cls, b)) for cls in estimator_classes() for b in LAWS if serves(cls, b)]
couplings = [ex.Antithetic(), ex.Stratified(), ex.Systematic(), ex.QuasiRandom()]
others = [ex.ScoreFunction(2), ex.ScoreFunction(baseline=0.1), ex.NVIL(jnp.zeros(4), sd=1.0)]
others += [ex.LeaveOneOut(4, coupling) for coupling in couplings]
others += [ex.Enumerate(chunk_size=2), ex.DirectArgmax(1.0, two_sided=True)]
others += [ex.MuProp(baseline=0.0, second_order=True), ex.REBAR()]
pairs += [(bits, estimator) for estimator in others]
traced, served = 0, set()
for build, estimator in pairs:
    loss = lambda both, key: ex.expect(key, build(both[0]), cost, both[1]).mean()
    program = lambda both, key: eqx.filter_value_and_grad(loss)(both, key)
    try:
        eqx.filter_eval_shape(program, (jnp.zeros((4, 3)), estimator), key)
    except ex.IncompatibleError:
        continue  # it has the capability, and this one refuses it with a reason
    traced += 1
    served.add(type(estimator))
assert served == set(estimator_classes()), set(estimator_classes()) - served
ex.expect(jax.random.PRNGKey(0), bits(jnp.zeros((4, 3))), cost, ex.ARM())

logits, index = jnp.zeros((2, 3)), jnp.zeros(2, int)
gumbel.argmax(key, logits)
z = gumbel.conditional_gumbel(key, logits, index)
gumbel.gumbel_residual(logits, z, z)
for bit in (jnp.ones((2, 3)), jnp.ones((2, 3), bool)):
    z = gumbel.conditional_logistic(key, logits, bit)
gumbel.logistic_residual(logits, z, z)
indices, values = gumbel.top_k(key, logits, 2)
gumbel.ordered_log_prob(logits, indices), gumbel.unordered_log_prob(logits, indices)
gumbel.conditional_top_k(key, logits, indices)
gumbel.relaxed_top_k(z, 2, 0.5), gumbel.soft_sort(z, 0.5), gumbel.sinkhorn(jnp.zeros((2, 3, 3)))
limit = gumbel.maximum(key, logits)
gumbel.truncated_gumbel(key, logits, limit[..., None]), gumbel.top_down(key, logits)
gumbel.with_maximum(z, limit)
chain = ex.ChainSolver()
chain.states(chain.solve(chain.scores(logits, jnp.zeros((3, 3)))))
ex.SubsetSolver(2).solve(logits), ex.AssignmentSolver().solve(jnp.zeros((2, 3, 3)))

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
    assert traced > 80
    assert caught == 3  # so that a signature that is not checked is noticed
