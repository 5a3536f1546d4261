"""The house rules a reader relies on: documented names, docstrings in one order, short files."""

import ast
import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import expectax as ex

SOURCE = Path(ex.__file__).parent
SECTIONS = ["Estimates", "Needs", "Claims", "Cost", "Arguments", "Raises", "Example", "Reference"]
OPTIONAL = {"Arguments", "Raises"}  # of those that take nothing or refuse nothing
LONGEST_MODULE = 330  # about 300 lines: read in one sitting
LONGEST_FUNCTION = 60  # one screen, its docstring aside


def public_names() -> list[str]:
    """What `__init__` exports as `X as X`."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    aliases = [a for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names]
    assert all(alias.asname == alias.name for alias in aliases), "export names as `X as X`"
    return [alias.name for alias in aliases]


NAMES = public_names()
ESTIMATORS = {
    name: value
    for name, value in vars(ex).items()
    if inspect.isclass(value)
    and issubclass(value, ex.AbstractEstimator)
    and value is not ex.AbstractEstimator
}
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(ex, name))]


def own_doc(thing: Any) -> str:
    """The docstring written for this very thing, not inherited and not generated."""
    doc = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    name = getattr(thing, "__name__", "")
    return "" if not doc or doc.startswith(f"{name}(") else doc


def sections_of(doc: str) -> list[str]:
    """The headings of a docstring, in order."""
    return [s for s in re.findall(r"^    (\w+):$", doc, flags=re.MULTILINE) if s in SECTIONS]


def num_examples(thing: Any) -> int:
    return len(doctest.DocTestParser().get_examples(own_doc(thing)))


def test_the_package_exports_what_is_listed_and_nothing_by_accident():
    modules = {name for name, value in vars(ex).items() if inspect.ismodule(value)}
    public = {name for name in vars(ex) if not name.startswith("_")}
    assert public - modules == set(NAMES) - modules
    assert len(NAMES) == len(set(NAMES))
    assert len(ESTIMATORS) >= 14
    assert {"expect", "gradient_moments", "check_unbiased", "compare"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented_down_to_its_methods(name):
    thing = getattr(ex, name)
    assert own_doc(thing), f"{name} has no docstring"
    if not inspect.isclass(thing) or name in ESTIMATORS:
        return
    inherited = {m for base in thing.__mro__[1:] for m in vars(base)}
    for method, value in vars(thing).items():
        function = value.fget if isinstance(value, property) else value
        if method.startswith("_") or method in inherited or not inspect.isfunction(function):
            continue
        if name == "OneHotCategorical":  # NumPyro documents the methods of its distributions
            continue
        assert function.__doc__, f"{name}.{method} has no docstring"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_state_arguments_errors_source_and_an_example(name):
    function = getattr(ex, name)
    doc = own_doc(function)
    for part in ("Arguments:", "Returns:", "Raises:", "Example:", "Reference:"):
        assert part in doc, f"{name} does not state {part}"
    for parameter in inspect.signature(function).parameters:
        assert f"{parameter}:" in doc, f"{name} does not explain {parameter}"
    assert num_examples(function)


def estimator_faults(cls: type) -> list[str]:
    """What is wrong with an estimator's docstring."""
    doc = own_doc(cls)
    found = sections_of(doc)
    faults = [f"no section {s}" for s in SECTIONS if s not in found and s not in OPTIONAL]
    if found != sorted(found, key=SECTIONS.index) or len(found) != len(set(found)):
        faults.append(f"sections out of order: {found}")
    if not doc.split("\n", 1)[0].strip().endswith("."):
        faults.append("no summary in one line")
    if not num_examples(cls):
        faults.append("no example")
    parameters = [p for p in inspect.signature(cls).parameters if p not in {"args", "kwargs"}]
    faults += [f"{p} is not explained" for p in parameters if f"{p}:" not in doc]
    return faults


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_are_documented_in_one_order_with_an_example(name):
    assert estimator_faults(ESTIMATORS[name]) == []


def test_a_bad_estimator_docstring_is_seen():
    good = own_doc(ex.LeaveOneOut)
    for old, new, fault in (
        ("Estimates:", "Formula:", "no section Estimates"),
        ("    Needs:", "    Cost:", "sections out of order"),
        (">>> ", "", "no example"),
        ("num_samples:", "num:", "num_samples is not explained"),
    ):
        spoiled = type("LeaveOneOut", (), {"__doc__": good.replace(old, new)})
        spoiled.__init__ = lambda self, num_samples: None  # noqa: ARG005
        assert any(found.startswith(fault) for found in estimator_faults(spoiled)), fault


def test_each_estimator_is_one_file_that_defines_one():
    files = {f.stem: f for f in (SOURCE / "estimators").glob("*.py") if not f.stem.startswith("_")}
    defined = {cls.__module__.rsplit(".", 1)[1]: name for name, cls in ESTIMATORS.items()}
    assert len(defined) == len(ESTIMATORS), "two estimators in one file"
    assert set(defined) == set(files), "a file without an exported estimator"
    for stem, name in defined.items():
        assert stem.replace("_", "") == name.lower()


def long_parts(file: Path) -> list[str]:
    """The module or the functions of it that are too long to read."""
    text = file.read_text(encoding="utf-8")
    found = []
    if text.count("\n") > LONGEST_MODULE:
        found.append(f"{file.name}: {text.count(chr(10))} lines")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            if length > LONGEST_FUNCTION:
                found.append(f"{file.name}: {node.name} has {length} lines")
    return found


def test_modules_and_functions_are_short():
    assert [part for file in sorted(SOURCE.rglob("*.py")) for part in long_parts(file)] == []


def test_a_long_module_and_a_long_function_are_seen(tmp_path):
    lines = ["def f():", '    """Doc."""', *["    x = 1"] * (LONGEST_FUNCTION + 1)]
    file = tmp_path / "long.py"
    file.write_text("\n".join([*lines, *["y = 1"] * LONGEST_MODULE]) + "\n", encoding="utf-8")
    module, function = long_parts(file)
    assert "long.py" in module
    assert "f has" in function
