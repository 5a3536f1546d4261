"""Walker's table: the law that it draws from is summed over all its columns and coins."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.extend.core import jaxprs_in_params

import expectax as ex
from expectax.distributions import AliasTable
from expectax.testing import check_mean

pytestmark = pytest.mark.usefixtures("float64")

LAWS = {
    "one": [1.0],
    "two": [0.25, 0.75],
    "uniform": [1.0] * 7,
    "some impossible": [0.0, 3.0, 0.0, 1.0, 2.0],
    "one certain": [0.0, 0.0, 5.0],
    "words": 1.0 / np.arange(1, 2001),
    "anything": np.random.default_rng(0).exponential(size=999) ** 3,
}


def law_of(table):
    """A column has 1 / V; its own category the share below the cutoff, its alias the rest."""
    cutoffs, aliases = np.asarray(table.cutoffs), np.asarray(table.aliases)
    assert (cutoffs >= 0).all()
    assert (cutoffs <= 1).all()
    law = cutoffs.copy()
    np.add.at(law, aliases, 1 - cutoffs)
    return law / len(law)


@pytest.mark.parametrize("name", LAWS)
def test_the_law_of_the_table_is_the_one_that_was_asked_for(name):
    given = np.asarray(LAWS[name], float)
    table = AliasTable(given)
    np.testing.assert_allclose(law_of(table), given / given.sum(), rtol=1e-9, atol=1e-15)
    assert (law_of(table)[given == 0] == 0).all()


@pytest.mark.parametrize("name", ["two", "some impossible", "words"])
def test_log_probabilities_are_those_of_the_categorical(name):
    given = np.asarray(LAWS[name], float)
    table, words = AliasTable(given), np.flatnonzero(given)
    want = dist.Categorical(probs=given / given.sum()).log_prob(words)
    np.testing.assert_allclose(table.log_prob(words), want, rtol=1e-10)
    assert (np.asarray(table.log_prob(np.flatnonzero(given == 0))) == -np.inf).all()
    np.testing.assert_allclose(table.probs, given / given.sum(), rtol=1e-10)


def test_every_column_and_coin_gives_the_category_that_the_table_says():
    """Draws at a grid of all columns and many coins, in place of random ones: no noise is left."""
    given, coins = np.array([1.0, 0.0, 4.0, 3.0]), (np.arange(1000) + 0.5) / 1000
    table = AliasTable(given)
    columns, grid = (x.ravel() for x in np.meshgrid(np.arange(4), coins, indexing="ij"))
    with (
        mock.patch.object(jax.random, "randint", return_value=jnp.asarray(columns)),
        mock.patch.object(jax.random, "uniform", return_value=jnp.asarray(grid)),
    ):
        draws = table.sample(jax.random.key(0), (4000,))
    # coins at the middles of a thousandth count an eighth of 4,000 exactly
    assert np.bincount(draws, minlength=4).tolist() == [500, 0, 2000, 1500]


def test_draws_have_the_law():
    given = np.array([0.05, 0.5, 0.15, 0.3])
    table = AliasTable(given)
    draws = jax.jit(lambda t, key: t.sample(key, (300_000,)))(table, jax.random.key(1))
    one_hot = np.eye(4)[np.asarray(draws)]
    check_mean(one_hot, given, what="share")
    with pytest.raises(AssertionError, match="off by"):
        check_mean(one_hot, law_of(table)[[0, 2, 1, 3]])


def sizes(program, *args):
    """The sizes of all that is computed on the way."""
    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            inner = jaxprs_in_params(equation.params)
            for sub in inner:
                walk(sub)
            found.extend(out.aval.size for out in equation.outvars)

    walk(jax.make_jaxpr(program)(*args).jaxpr)
    return found


def test_nothing_as_long_as_the_vocabulary_is_computed():
    table, key = AliasTable(np.ones(5000)), jax.random.key(0)
    both = lambda draw: lambda t, key: t.log_prob(draw(t, key))
    assert max(sizes(both(lambda t, key: t.sample(key, (3, 2))), table, key)) < 50
    plain = lambda t, key: dist.Categorical(logits=t.log_probs).sample(key, (3, 2))
    assert max(sizes(both(plain), table, key)) >= 5000


def test_it_is_a_numpyro_distribution():
    table = AliasTable([1.0, 1.0, 2.0], validate_args=True)
    assert (table.batch_shape, table.event_shape, table.num_categories) == ((), (), 3)
    again = jax.tree.unflatten(jax.tree.structure(table), jax.tree.leaves(table))
    np.testing.assert_array_equal(law_of(again), law_of(table))
    assert table.expand((4,)).sample(jax.random.key(0), (2,)).shape == (2, 4)
    assert table.support(jnp.array([0, 2, 3])).tolist() == [True, True, False]
    with pytest.warns(UserWarning, match="Out-of-support"):
        table.log_prob(jnp.array([3]))


@pytest.mark.parametrize(
    "given", [[[0.5, 0.5]], [], [0.0, 0.0], [0.5, -0.1], [np.nan, 1.0], [np.inf, 1.0]]
)
def test_what_is_no_law_is_refused(given):
    with pytest.raises(ex.InvalidArgumentError, match="AliasTable was given"):
        AliasTable(given)


def test_traced_probabilities_are_refused():
    with pytest.raises(ex.InvalidArgumentError, match="on the host"):
        jax.jit(lambda p: AliasTable(p).sample(jax.random.key(0)))(jnp.ones(3))
