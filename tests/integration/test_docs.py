"""The code of the documentation's pages runs as printed."""

import pathlib
import re

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def _blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)


def test_the_estimator_of_adding_passes_and_fails_as_the_page_says():
    from expectax.testing import ConformanceError, bits, check_estimator

    first, second = _blocks("adding.md")
    names = {}
    exec(first, names)
    quick = ["gradient_mean", "constant_cost", "evaluations", "derivative_order"]
    limited = second.replace("TwoPoint()", f"TwoPoint(), problems=PROBLEMS, checks={quick}")
    assert limited != second
    exec(limited, {**names, "PROBLEMS": [bits()]})

    def failures(code):
        broken = {}
        assert code != first
        exec(code, broken)
        try:
            check_estimator(broken["TwoPoint"](), problems=[bits()], checks=quick)
        except ConformanceError as error:
            return error.check
        return ""

    assert "gradient_mean" in failures(first.replace("0.5 * jnp.stack", "jnp.stack"))
    half = first.replace("jnp.stack([difference, -difference])", "jnp.stack([costs[0], costs[1]])")
    assert "constant_cost" in failures(half)
