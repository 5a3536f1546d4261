"""Every solver against brute force: all structures, listed here by other means than its own."""

import itertools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex

# --- the structures, by definition ---------------------------------------------------------------


def settings(n):
    """Bits x, on the diagonal, and x_i x_j above it."""
    for x in itertools.product([0, 1], repeat=n):
        yield np.triu(np.outer(x, x))


def paths(steps, num_states):
    """The transitions of every path."""
    for path in itertools.product(range(num_states), repeat=steps + 1):
        out = np.zeros((steps, num_states, num_states), int)
        for t, (i, j) in enumerate(itertools.pairwise(path)):
            out[t, i, j] = 1
        yield out


def subsets(n, k):
    """0-1 vectors that sum to k."""
    yield from (np.array(x) for x in itertools.product([0, 1], repeat=n) if sum(x) == k)


def assignments(n, m):
    """0-1 matrices with as many ones as can be, no two in a row or a column."""
    for x in itertools.product([0, 1], repeat=n * m):
        out = np.array(x).reshape(n, m)
        if out.sum() == min(n, m) and out.sum(0).max() <= 1 and out.sum(1).max() <= 1:
            yield out


def trees(n):
    """n − 1 edges that connect all nodes."""
    every = list(itertools.combinations(range(n), 2))
    for edges in itertools.combinations(every, n - 1):
        group = list(range(n))
        for i, j in edges:
            group = [group[i] if g == group[j] else g for g in group]
        if len(set(group)) == 1:
            out = np.zeros((n, n), int)
            out[tuple(zip(*edges, strict=True))] = 1
            yield out


CASES = {
    "1 bit": (ex.PairwiseSolver(), (1, 1), settings(1)),
    "5 bits": (ex.PairwiseSolver(), (5, 5), settings(5)),
    "chain of 2": (ex.ChainSolver(), (1, 3, 3), paths(1, 3)),
    "chain of 5": (ex.ChainSolver(), (4, 3, 3), paths(4, 3)),
    "chain of one state": (ex.ChainSolver(), (2, 1, 1), paths(2, 1)),
    "1 of 4": (ex.SubsetSolver(1), (4,), subsets(4, 1)),
    "3 of 6": (ex.SubsetSolver(3), (6,), subsets(6, 3)),
    "all of 3": (ex.SubsetSolver(3), (3,), subsets(3, 3)),
    "3 to 3": (ex.AssignmentSolver(), (3, 3), assignments(3, 3)),
    "2 to 4": (ex.AssignmentSolver(), (2, 4), assignments(2, 4)),
    "4 to 3": (ex.AssignmentSolver(), (4, 3), assignments(4, 3)),
    "tree of 2": (ex.SpanningTreeSolver(), (2, 2), trees(2)),
    "tree of 5": (ex.SpanningTreeSolver(), (5, 5), trees(5)),
}
CASES = {name: (solver, shape, np.stack(list(b))) for name, (solver, shape, b) in CASES.items()}


def scores_of_all_kinds(shape, num=400):
    """Generic ones; whole numbers, full of ties; all equal; some forbidden; large beside small."""
    rng = np.random.default_rng(5)
    generic = rng.normal(size=(num, *shape))
    ties = rng.integers(-1, 2, size=(num, *shape)).astype(float)
    forbidden = np.where(rng.random((num, *shape)) < 0.25, -np.inf, generic)
    large = generic * 10.0 ** rng.integers(-2, 3, size=(num, *shape))
    return np.concatenate([generic, ties, np.zeros((1, *shape)), forbidden, large])


def total(structures, scores):
    """⟨b, θ⟩ for every b and θ, where nothing times −∞ is nothing: shape (scores, structures)."""
    allowed = np.isfinite(scores).reshape(len(scores), -1)
    b = structures.reshape(len(structures), -1).astype(float)
    out = np.where(allowed, scores.reshape(allowed.shape), 0) @ b.T
    return np.where((~allowed).astype(float) @ b.T > 0, -np.inf, out)


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_no_structure_has_a_greater_score(name, x64):
    solver, shape, every = CASES[name]
    with jax.enable_x64(x64):
        scores = scores_of_all_kinds(shape).astype(np.float64 if x64 else np.float32)
        found = jax.jit(solver.solve)(jnp.asarray(scores))
        assert found.dtype == scores.dtype
    found = np.asarray(found).astype(int)
    known = {b.tobytes() for b in every}
    assert all(b.tobytes() in known for b in found)  # it is a structure, whatever the ties
    scores = scores.astype(np.float64)
    totals = total(every, scores)
    best = totals.max(axis=1)
    reached = totals[(found[:, None] == every).reshape(*totals.shape, -1).all(-1)]
    # rounding decides between structures whose scores differ by less than it
    size = np.abs(np.where(np.isfinite(scores), scores, 0)).reshape(len(scores), -1).sum(1)
    slack = 4 * np.finfo(np.float64 if x64 else np.float32).eps * (1 + size)
    possible = np.isfinite(best)
    assert possible.sum() > 400
    assert np.all(reached[possible] >= best[possible] - slack[possible])


@pytest.mark.parametrize("name", CASES)
def test_the_list_is_of_all_structures_once(name):
    solver, shape, every = CASES[name]
    num = solver.num_structures(shape)
    listed = np.asarray(solver.structure(jnp.arange(num), shape)).astype(int)
    assert num == len(every)
    assert {b.tobytes() for b in listed} == {b.tobytes() for b in every}
    assert not every[:, ~solver.used(shape)].any()
    assert every[:, solver.used(shape)].any(axis=0).all()


@pytest.mark.parametrize("name", ["5 bits", "chain of 5", "3 of 6", "2 to 4", "tree of 5"])
def test_leading_axes_and_transformations(name):
    solver, shape, _ = CASES[name]
    scores = jax.random.normal(jax.random.key(0), (2, 3, *shape))
    together = solver.solve(scores)  # not compiled
    one = jax.jit(solver.solve)
    apart = jnp.stack([jnp.stack([one(x) for x in row]) for row in scores])
    assert jnp.array_equal(together, apart)
    assert jnp.array_equal(jax.vmap(solver.solve, in_axes=1, out_axes=1)(scores), apart)


def test_fifteen_bits_and_long_chains():
    rng = np.random.default_rng(1)
    theta = np.triu(rng.normal(size=(15, 15)))
    x = np.array(list(itertools.product([0.0, 1.0], repeat=15)))
    best = np.einsum("si,ij,sj->s", x, theta, x).max()
    found = ex.PairwiseSolver().solve(jnp.asarray(theta, jnp.float32))
    assert abs(float((np.asarray(found) * theta).sum()) - best) < 1e-4

    states, transitions = rng.normal(size=(60, 20)), rng.normal(size=(20, 20))
    chain = ex.ChainSolver()
    found = chain.solve(chain.scores(jnp.asarray(states), jnp.asarray(transitions)))
    path = np.asarray(chain.states(found)).argmax(-1)
    value = states[np.arange(60), path].sum() + transitions[path[:-1], path[1:]].sum()
    best = states[0]
    for row in states[1:]:  # the value alone, forwards
        best = (best[:, None] + transitions).max(0) + row
    assert abs(value - best.max()) < 1e-3


def test_the_score_of_a_path_is_that_of_its_states_and_transitions():
    rng = np.random.default_rng(2)
    chain, batch = ex.ChainSolver(), (2,)
    states, transitions = rng.normal(size=(*batch, 4, 3)), rng.normal(size=(*batch, 3, 3, 3))
    scores = chain.scores(jnp.asarray(states), jnp.asarray(transitions))
    for b in paths(3, 3):
        hot = np.asarray(chain.states(jnp.asarray(b, float)))
        path = hot.argmax(-1)
        assert np.array_equal(hot.sum(-1), np.ones(4))
        expected = states[:, np.arange(4), path].sum(-1)
        expected = expected + transitions[:, np.arange(3), path[:-1], path[1:]].sum(-1)
        assert np.allclose((np.asarray(scores) * b).sum((1, 2, 3)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("solver", "shape"),
    [
        (ex.PairwiseSolver(), (3,)),
        (ex.PairwiseSolver(), (3, 4)),
        (ex.PairwiseSolver(), (16, 16)),
        (ex.ChainSolver(), (3, 3)),
        (ex.ChainSolver(), (3, 3, 2)),
        (ex.ChainSolver(), (0, 3, 3)),
        (ex.SubsetSolver(0), (3,)),
        (ex.SubsetSolver(4), (3,)),
        (ex.AssignmentSolver(), (0, 3)),
        (ex.SpanningTreeSolver(), (1, 1)),
        (ex.SpanningTreeSolver(), (3, 4)),
    ],
)
def test_scores_that_have_no_structure_are_refused(solver, shape):
    with pytest.raises(ex.InvalidArgumentError, match=type(solver).__name__) as caught:
        solver.solve(jnp.zeros(shape))
    assert len(str(caught.value).splitlines()) == 3


WITHOUT_OPTAX = """
import sys
sys.modules["optax"] = sys.modules["optax.assignment"] = None
import jax.numpy as jnp, expectax as ex
print(ex.SubsetSolver(1).solve(jnp.array([0.0, 1.0])).tolist())
try:
    ex.AssignmentSolver().solve(jnp.zeros((2, 2)))
except ImportError as error:
    print(error)
"""


def test_only_assignments_need_optax_and_they_say_so():
    out = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPTAX], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert out[0] == "[0.0, 1.0]"
    assert len(out) == 4
    assert "pip install optax" in out[3]


def test_the_number_of_structures():
    assert ex.PairwiseSolver().num_structures((15, 15)) == 2**15
    assert ex.ChainSolver().num_structures((9, 3, 3)) == 3**10
    assert ex.SubsetSolver(3).num_structures((20,)) == math.comb(20, 3)
    assert ex.AssignmentSolver().num_structures((4, 6)) == 6 * 5 * 4 * 3
    assert ex.SpanningTreeSolver().num_structures((7, 7)) == 7**5  # Cayley
