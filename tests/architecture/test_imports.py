"""Imports run one way, and the core stays light. Every rule is seen to go red on a planted line."""

import ast
import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import expectax

SOURCE = Path(expectax.__file__).parent

# cli → lab → {models, objectives, diagnostics, integrations} → _expect → estimators →
# distributions → the foundations; beside them, testing. A layer imports the ones before it.
LAYERS: list[set[str]] = [
    {"_errors", "_types", "_trees", "_numerics", "_copula", "_sticks", "gumbel"},
    {"distributions"},
    {"estimators"},
    {"_expect"},
    {"models", "objectives", "diagnostics", "integrations"},
    {"testing"},
    {"lab"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
CORE_LEVEL = LEVEL["diagnostics"]  # `import expectax` may load what is no higher
FORBIDDEN = {
    # the model never knows how its gradient is estimated
    "models": {"estimators", "objectives"},
    # the conformance kit is for those who write estimators: nothing of ours stands on it
    "lab": {"testing"},
    "cli": {"testing"},
}
CORE = {"jax", "equinox", "jaxtyping", "numpyro", "numpy"}
LATE = {  # inside a function, of these files alone
    "diagnostics/_plot.py": {"matplotlib"},
    "distributions/_couplings.py": {"scipy"},  # jax itself needs it
    "distributions/_solvers/_assignment.py": {"optax"},
    "lab/data/formats.py": {"scipy"},
}
LAB = {
    *CORE,
    *("optax", "orbax", "matplotlib", "rich", "tyro", "pooch", "sklearn", "jinja2", "tensorboardX"),
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One thing that a file imports.

    Attributes:
        target: its dotted path; of our own things down to the submodule.
        name: the name taken from a module, or empty.
        late: whether it is imported inside a function.
    """

    target: tuple[str, ...]
    name: str = ""
    late: bool = False


class Collector(ast.NodeVisitor):
    """The imports of one file, wherever they stand."""

    def __init__(self, path: Path, root: Path):
        self.package = ("expectax", *path.parent.parts)
        self.root = root
        self.imports: list[Import] = []
        self.computed = False
        self.depth = 0
        self.visit(ast.parse((root / path).read_text(encoding="utf-8")))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            target = tuple(alias.name.split("."))
            self.imports.append(Import(target, late=self.depth > 0))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        package = self.package[: len(self.package) - node.level + 1] if node.level else ()
        base = (*package, *(node.module.split(".") if node.module else ()))
        for alias in node.names:
            path = self.root.joinpath(*base[1:], alias.name)
            module = path.is_dir() or path.with_suffix(".py").is_file()
            inside = base[0] == "expectax" and module
            target = (*base, alias.name) if inside else base
            self.imports.append(Import(target, "" if inside else alias.name, self.depth > 0))

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rsplit(".", 1)[-1]
        self.computed |= called in {"import_module", "__import__"}
        self.generic_visit(node)


def fault_inside(path: Path, component: str, one: Import) -> str:
    """What is wrong with importing this of our own, or nothing."""
    if len(one.target) == 1:
        return "imports the root, which imports it" if LEVEL[component] <= CORE_LEVEL else ""
    other = one.target[1]
    if other not in LEVEL:
        return f"imports {other}, which has no layer"
    if other == component:
        alone = component == "estimators" and path.name != "__init__.py"
        base = one.target[2:3] == ("_base",)
        return f"imports {'.'.join(one.target)}, not only its base" if alone and not base else ""
    if component == "objectives" and other == "estimators" and one.name != "AbstractEstimator":
        return f"imports {one.name}: an objective takes its estimator as an argument"
    if other in FORBIDDEN.get(component, set()) or LEVEL[other] > LEVEL[component]:
        return f"{component} imports {other}"
    if LEVEL[other] == LEVEL[component] > 0:
        return f"{component} imports its neighbour {other}"
    return ""


def fault_outside(path: Path, component: str, one: Import) -> str:
    """What is wrong with importing this of others, or nothing."""
    name = one.target[0]
    late = LATE.get(path.as_posix(), set()) if one.late else set()
    oracle = {"scipy"} if component == "testing" else set()  # jax itself needs it
    allowed = (LAB if component in {"lab", "cli"} else CORE | oracle) | late
    return "" if name in allowed | sys.stdlib_module_names else f"imports {name}"


def violations(root: Path, files: Iterable[Path]) -> list[str]:
    """Every import in these files that runs the wrong way."""
    found = []
    for file in files:
        path = file.relative_to(root)
        component = path.parts[0].removesuffix(".py")
        imports = Collector(path, root)
        if component == "__init__":
            # the root is the core's shop window: what it shows must be of the core
            shown = {one.target[1] for one in imports.imports if len(one.target) > 1}
            dark = {name for name in shown if LEVEL.get(name, 99) > CORE_LEVEL}
            found += [f"{path}: imports {name}" for name in sorted(dark)]
        elif component not in LEVEL:
            found.append(f"{path}: has no layer")
        else:
            for one in imports.imports:
                check = fault_inside if one.target[0] == "expectax" else fault_outside
                fault = check(path, component, one)
                found += [f"{path}: {fault}"] if fault else []
            if imports.computed and LEVEL[component] <= CORE_LEVEL:
                found.append(f"{path}: imports by a computed name")
    return found


def test_imports_run_one_way():
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 30
    assert violations(SOURCE, files) == []


PLANTED = [
    ("models/planted.py", "from ..estimators import DisARM", "models imports estimators"),
    ("models/planted.py", "from ..objectives import elbo", "models imports objectives"),
    ("models/planted.py", "def f():\n    from .. import objectives", "models imports objectives"),
    ("models/planted.py", "import expectax as ex", "root"),
    ("objectives/planted.py", "from ..models import linear_vae", "its neighbour models"),
    ("objectives/planted.py", "from ..estimators import DisARM", "imports DisARM"),
    ("objectives/planted.py", "import expectax.lab.data", "objectives imports lab"),
    ("estimators/planted.py", "from .disarm import DisARM", "not only its base"),
    ("estimators/planted.py", "from . import disarm", "not only its base"),
    ("estimators/planted.py", "from .._expect import expect", "estimators imports _expect"),
    ("distributions/planted.py", "from ..estimators import Claims", "distributions imports est"),
    ("gumbel/_noise.py", "from ..distributions import joint", "gumbel imports distributions"),
    ("_expect.py", "from .diagnostics import compare", "_expect imports diagnostics"),
    ("diagnostics/planted.py", "from ..testing import Problem", "diagnostics imports testing"),
    ("testing/planted.py", "from ..lab import data", "testing imports lab"),
    ("testing/planted.py", "from .. import cli", "testing imports cli"),
    ("lab/planted.py", "from ..cli import main", "lab imports cli"),
    ("lab/planted.py", "from ..testing import Problem", "lab imports testing"),
    ("lab/planted.py", "import torch", "imports torch"),
    ("lab/planted.py", "def f():\n    import scipy", "imports scipy"),
    ("lab/data/formats.py", "import scipy.io", "imports scipy"),
    ("lab/deeper/planted.py", "from ...cli import main", "lab imports cli"),
    ("__init__.py", "from .lab import data", "imports lab"),
    ("__init__.py", "from . import testing", "imports testing"),
    ("estimators/planted.py", "import optax", "imports optax"),
    ("estimators/planted.py", "def f():\n    import matplotlib", "imports matplotlib"),
    ("diagnostics/_plot.py", "import matplotlib.figure", "imports matplotlib"),
    ("distributions/_couplings.py", "from scipy import stats", "imports scipy"),
    ("diagnostics/planted.py", "__import__('optax')", "computed name"),
    ("strangers/planted.py", "import jax", "no layer"),
]


@pytest.mark.parametrize(("path", "line", "expected"), PLANTED)
def test_a_planted_violation_is_seen(path, line, expected, tmp_path):
    root = tmp_path / "expectax"
    shutil.copytree(SOURCE, root, ignore=shutil.ignore_patterns("__pycache__"))
    file = root / path
    file.parent.mkdir(exist_ok=True)
    before = violations(root, [file]) if file.exists() else []
    with file.open("a", encoding="utf-8") as end:
        end.write(f"\n\n{line}\n")
    (found,) = set(violations(root, [file])) - set(before)
    assert found.startswith(f"{path}: ")
    assert expected in found


HEAVY = {
    *(LAB - CORE),
    *("optax", "flax", "torch", "tensorflow", "pandas", "PIL", "requests", "pyro"),
}
PROGRAM = """
import sys
import equinox, jax, jaxtyping, numpyro, numpyro.distributions
before = set(sys.modules)
import expectax
new = {name.partition(".")[0] for name in set(sys.modules) - before}
import matplotlib.figure
seen = {name.partition(".")[0] for name in sys.modules}
own = {name for name in before | set(sys.modules) if name.startswith("expectax.")}
print(sorted(new), sorted(seen), sorted(own), sep="\\n")
"""


def test_importing_expectax_loads_no_lab_plotting_optimiser_or_data_library():
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    new, seen, own = (set(ast.literal_eval(line)) for line in out.stdout.splitlines())
    assert not new & HEAVY
    assert "matplotlib" in seen & HEAVY  # so the line above can fail
    assert "expectax._expect" in own
    parts = {name.split(".")[1] for name in own}
    assert not parts & {"lab", "cli", "testing"}
