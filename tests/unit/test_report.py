"""The report: what is read, what is refused, and a page that stands alone."""

import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest

from expectax.lab import plots
from expectax.lab.config import TrainConfig
from expectax.lab.errors import UsageError
from expectax.lab.report import charts, read
from expectax.lab.report.page import PAGE, amount, over_seeds, write_report
from expectax.lab.run_folder import RunFolder

HOSTILE = """<script>alert("1")</script>' onerror=x $\\frac{ & {{ 7*7 }} ]]>"""
STEPS = (0, 5, 10)


def make_run(path, *, seeds=2, finished=True, shift=0.0, cost=True, **choices):
    """A run folder as training leaves it, without training."""
    folder = RunFolder(path)
    folder.create(TrainConfig(**{"steps": 10, "num_seeds": seeds, **choices}))
    for step in STEPS:
        value = lambda seed, step=step: -30 + step + 2.0 * seed + shift
        folder.append(
            [
                {"step": step, "seed": seed, "objective": -value(seed) if step else None}
                | {"train_elbo": value(seed), "gradient_variance": 4.0 / (1 + step)}
                for seed in range(seeds)
            ]
        )
        folder.append_time(
            {"step": step, "seconds": step / 4} | ({"evaluations": 100 * step} if cost else {})
        )
    if finished:
        folder.results.write_text(json.dumps({"step": 10, "test_elbo": [-20.0, -18.0][:seeds]}))
        pictures = {"Test pictures": np.eye(4), "Draws": np.zeros((4, 4))}
        plots.draw_samples(path / "samples.png", pictures, (2, 2), "title")
    return path


def make_experiment(path):
    """A reproduction as it is left, with two contenders."""
    make_run(path / "arm", estimator="arm", cost=False, batch_size=10)
    make_run(path / "disarm", shift=3.0, cost=False, batch_size=10)
    row = {"group": "train ELBO, nats", "quantity": "train ELBO", "standard_error": 0.5}
    verdict = lambda holds, text: {"holds": holds, "text": text}
    rows = [
        row | {"name": "disarm", "evaluations": "2 + 0", "published": "-16.30", "ours": -16.0}
        | {"verdict": verdict(True, "agrees")},
        row | {"name": "arm", "evaluations": "1 + 2", "published": "-9.0", "ours": -19.0}
        | {"verdict": verdict(False, "DISAGREES")},
        row | {"name": "none", "evaluations": "", "published": "", "ours": None}
        | {"verdict": verdict(None, "")},
    ]  # fmt: skip
    record = {
        "experiment": "two-arms", "protocol": "As published.",
        "settings": {"seed": 0, "evaluations": {"disarm": 2, "arm": 3}},
        "versions": {"jax": "1"}, "summary": "1 of 2 reproduced.", "rows": rows,
    }  # fmt: skip
    (path / "results.json").write_text(json.dumps(record))
    (path / "table.md").write_text("")
    plots.draw_samples(path / "two-arms.png", {"x": np.eye(4)}, (2, 2), "picture")
    return path


class Page(html.parser.HTMLParser):
    """A page taken apart: elements with their attributes, their text, and whether they nest."""

    VOID = frozenset({"meta", "img", "path", "use", "rect", "br", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self, *tags):
        return [text for tag, text in self.texts if tag in tags]


def page_of(paths, folder, **options):
    folder.mkdir(exist_ok=True)
    written = write_report(paths, folder, **options)
    assert written[0] == folder / PAGE
    return Page(written[0].read_text(encoding="utf-8")), written


def check_self_contained(page):
    """Nothing is fetched, nothing is run, and every picture is told in words."""
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "data", "action"}:
                assert re.match(r"data:image/png;base64,|#", value), value
            elif not name.startswith("xmlns"):
                assert "://" not in (value or "")
                assert all(u.startswith("#") for u in re.findall(r"url\(\s*(.*?)\)", value or ""))
    assert not re.search(r"url\(|@import|//", "".join(page.said("style")))
    for picture in page.named("img"):
        assert picture["alt"].strip()
    for picture in page.named("svg"):
        assert picture.get("aria-hidden") == "true" or picture["aria-label"].strip()


def test_a_run_becomes_a_page_that_stands_alone(tmp_path):
    page, written = page_of([make_run(tmp_path / "run")], tmp_path / "out")
    check_self_contained(page)
    assert page.said("h1") == ["run"]
    assert page.said("h2") == [
        "What it came to", "Curves", "Samples and reconstructions", "What was run",
    ]  # fmt: skip
    assert page.said("h3") == ["train ELBO", "gradient variance", "objective"]
    captions = page.said("figcaption")
    assert captions[:9] == [*charts.AXES.values()] * 3
    assert captions[9:] == ["Test pictures", "Draws"]
    cells = page.said("td")
    # two seeds of -20 and -18: mean -19, and a standard error of 1
    assert {"−19.0 ± 1.0", "10 of 10", "2.5 s"} <= set(cells)
    assert page.said("span").count("finished") == 1
    described = [svg["aria-label"] for svg in page.named("svg") if "aria-label" in svg]
    assert described[0] == "train ELBO by step, run: run ends at −19.0 ± 1.0"
    assert {"batch size", "python", "jaxlib", "devices"} <= set(page.said("dt"))
    assert [path.name for path in written[1:]] == [
        "report-train-elbo.png", "report-gradient-variance.png", "report-objective.png",
    ]  # fmt: skip
    for path in written[1:]:
        assert path.read_bytes()[:4] == b"\x89PNG"
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_a_resource_from_elsewhere_is_seen():
    for planted in (
        '<img src="https://example.org/a.png" alt="x">',
        '<img src="data:image/png;base64,x" alt="">',
        "<style>@import 'x'</style>", '<p style="background: url(x)"></p>', "<script></script>",
        '<p onclick="x"></p>', '<svg role="img" aria-label=" "></svg>',
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check_self_contained(Page(planted))


def test_a_reproduction_has_the_published_table_beside_ours(tmp_path):
    page, _ = page_of([make_experiment(tmp_path / "two")], tmp_path / "out", png=False)
    check_self_contained(page)
    assert page.said("h1") == ["two-arms"]
    assert page.said("h2")[0] == "Published, and ours"
    assert {"−16.30", "−16.00 ± 0.50", "−9.0", "−19.00 ± 0.50", "2 + 0", "–"} <= set(
        page.said("td")
    )
    spans = [(a.get("class"), "span") for a in page.named("span")]
    assert ("holds", "span") in spans
    assert ("fails", "span") in spans
    assert "As published." in page.said("p")
    assert "1 of 2 reproduced." in page.said("p")
    # contenders in the table's order, in the legend and wherever they stand side by side
    assert page.said("li") == ["disarm", "arm"]
    assert [t for t in page.said("th") if t in ("disarm", "arm")] == ["disarm", "arm"]
    assert "two-arms.png" in page.said("summary")
    # what each step counts is a third axis: 2 + 0 and 1 + 2 evaluations a row of ten
    group = read.read_groups([tmp_path / "two"])[0]
    assert [run.axes["evaluations"].tolist() for run in group.runs] == [
        [0, 100, 200],
        [0, 150, 300],
    ]
    assert charts.AXES["evaluations"] in page.said("figcaption")
    assert not any("No curve is drawn by" in text for text in page.said("p"))


@pytest.mark.parametrize("stated", [None, "2 + 0", {}, {"disarm": "2 + 0", "arm": 0}], ids=str)
def test_without_a_count_of_evaluations_no_curve_is_drawn_by_them(stated, tmp_path):
    path = make_experiment(tmp_path / "two") / "results.json"
    record = json.loads(path.read_text())
    record["settings"]["evaluations"] = stated
    path.write_text(json.dumps(record))
    page, _ = page_of([tmp_path / "two"], tmp_path / "out", png=False)
    assert charts.AXES["evaluations"] not in page.said("figcaption")
    assert any("No curve is drawn by evaluations of f" in text for text in page.said("p"))


def test_folders_that_hold_runs_are_opened_and_none_is_shown_twice(tmp_path):
    runs = tmp_path / "runs"
    make_run(runs / "a")
    make_run(runs / "b", shift=1.0)
    make_experiment(runs / "c")
    (runs / "notes").mkdir()
    groups = read.read_groups([runs, runs / "a"])
    assert [[run.name for run in group.runs] for group in groups] == [["a", "b"], ["disarm", "arm"]]
    make_run(tmp_path / "other" / "a")
    (both,) = read.read_groups([runs / "a", tmp_path / "other" / "a"])
    assert [run.name for run in both.runs] == ["runs/a", "other/a"]


def test_what_people_wrote_is_text_and_nothing_else(tmp_path):
    path = make_run(tmp_path / "a$_{<b>x")
    stored = json.loads((path / "config.json").read_text())
    stored["config"]["estimator"] = HOSTILE
    stored["config"][HOSTILE] = "name"
    stored["machine"]["python"] = HOSTILE
    (path / "config.json").write_text(json.dumps(stored))
    (path / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": s, "seed": 0, HOSTILE: s / 2}) + "\n" for s in (0, 1))
    )
    page, written = page_of([path], tmp_path / "out")
    check_self_contained(page)
    assert page.said("dd").count(HOSTILE) == 2
    assert page.said("h1") == ["a$_{<b>x"]
    assert all(path.parent == tmp_path / "out" for path in written)


def test_a_run_still_going_is_told_as_far_as_it_is(tmp_path):
    path = make_run(tmp_path / "run", finished=False)
    with open(path / "metrics.jsonl", "a") as file:  # one seed's row, and a half
        file.write('{"step": 15, "seed": 0, "train_elbo": -1.0}\n{"step": 15, "se')
    with open(path / "times.jsonl", "a") as file:
        file.write('{"ste')
    page, _ = page_of([path], tmp_path / "out", png=False)
    assert "not finished" in page.said("span")
    assert "10 of 10" in page.said("td")
    assert "Samples and reconstructions" not in page.said("h2")
    # the last point is measured, its time not written yet: the curve ends where both are known
    with open(path / "metrics.jsonl", "w") as file:
        for step in (0, 5):
            file.write(json.dumps({"step": step, "seed": 0, "train_elbo": 1.0}) + "\n")
    (path / "times.jsonl").write_text('{"step": 0, "seconds": 0.0}\n')
    run = read.read_run(path, "run")
    assert run.axes["step"].tolist() == [0, 5]
    np.testing.assert_array_equal(run.axes["seconds"], [0.0, np.nan])
    assert "evaluations" not in run.axes
    page_of([path], tmp_path / "out", png=False)


def test_in_an_experiment_a_run_without_a_point_is_named(tmp_path):
    path = make_experiment(tmp_path / "two")
    RunFolder(path / "relax").create(TrainConfig())
    (path / "results.json").unlink()
    (path / "config.json").write_text('{"experiment": "two-arms"}')
    page, _ = page_of([path], tmp_path / "out", png=False)
    assert "relax has no point of its curves yet." in page.said("p")
    assert any(text.startswith("Not finished") for text in page.said("p"))


def spoiled(name, text):
    return lambda path: (path / name).write_text(text)


DAMAGES = {
    "cut config": (spoiled("config.json", '{"task": "Trai'), "config.json"),
    "no object": (spoiled("config.json", "[]"), "no JSON object"),
    "no choices": (spoiled("config.json", '{"task": "x", "config": 3}'), "no choices"),
    "no text": (
        lambda path: (path / "metrics.jsonl").write_bytes(b"\xff\xfe\n{}"),
        "metrics.jsonl",
    ),
    "a line in the middle": (spoiled("metrics.jsonl", '{"step": 0, "seed"\n{}\n'), "line 1"),
    "a row of no step": (spoiled("metrics.jsonl", '{"seed": 0}\n{}\n'), "line 1"),
    "no figures": (spoiled("metrics.jsonl", '{"step": 0, "seed": 0}\n'), "no figures"),
    "cut results": (spoiled("results.json", '{"step": 1, '), "results.json"),
    "results of words": (spoiled("results.json", '{"x": ["y"]}'), "x is no list of numbers"),
    "cut pictures": (spoiled("samples.npz", "PK"), "samples.npz"),
    "no point": (spoiled("metrics.jsonl", ""), "has no point"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_in_three_parts_and_nothing_is_written(damage, tmp_path):
    spoil, words = DAMAGES[damage]
    spoil(make_run(tmp_path / "run"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=words) as error:
        write_report([tmp_path / "run"], tmp_path / "out")
    assert re.search(r"^.+\n  why: .+\n  instead: .+$", str(error.value), re.S)
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "change", [{"rows": 3}, {"rows": ["x"]}, {"settings": "x"}], ids=lambda change: str(change)
)
def test_a_damaged_table_is_told(change, tmp_path):
    path = make_experiment(tmp_path / "two") / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=r"results\.json cannot be read"):
        read.read_groups([tmp_path / "two"])


def test_a_table_of_odd_cells_is_shown_as_text(tmp_path):
    path = make_experiment(tmp_path / "two") / "results.json"
    record = json.loads(path.read_text())
    odd = {"ours": "x", "standard_error": 10**400, "verdict": {"holds": [], "text": HOSTILE}}
    record["rows"] = [{"name": [HOSTILE], "published": HOSTILE} | odd, {}]
    path.write_text(json.dumps(record))
    page, _ = page_of([tmp_path / "two"], tmp_path / "out", png=False)
    check_self_contained(page)
    assert HOSTILE in page.said("td")
    assert HOSTILE in page.said("span")


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine").write_text("x")
    for path, words in (
        (tmp_path / "nowhere", "there is no folder"), (tmp_path / "empty", "it is empty"),
        (tmp_path / "notes", "holds no run"), (tmp_path / "notes" / "mine", "is a file"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            read.read_groups([path])


def test_long_curves_and_large_pictures_are_bounded(tmp_path, monkeypatch):
    (group,) = read.read_groups([make_run(tmp_path / "run")])
    (run,) = group.runs
    many = np.linspace(0.0, 1.0, 20_000)
    long = dataclasses.replace(run, axes={"step": many}, curves={"x": np.stack([many, many + 1])})
    assert len(charts.curve_svg([long], "x", "step", "alt")) < 60_000
    assert len(charts.block_uri(np.ones((5000, 28, 28)))) < 20_000
    monkeypatch.setattr("expectax.lab.report.page.LARGEST_PICTURE", 10)
    page, _ = page_of([make_experiment(tmp_path / "two")], tmp_path / "out", png=False)
    assert "two-arms.png is too large for a page." in page.said("p")


def test_the_band_is_a_standard_error_over_seeds_and_one_seed_has_none(tmp_path):
    (group,) = read.read_groups([make_run(tmp_path / "run")])
    x, mean, error = charts._band(group.runs[0], "train_elbo", "seconds")
    np.testing.assert_allclose(x, [0, 1.25, 2.5])
    np.testing.assert_allclose(mean, [-29, -24, -19])
    np.testing.assert_allclose(error, 1.0)
    assert over_seeds([-3.0]) == "−3"
    assert amount(0.20257412, 6.5e-7) == "0.20257412 ± 6.5e−07"
    assert amount(0.2025041, 0.0) == "0.2025041 ± 0"
    assert amount(123456.0, 2345.0) == "123456 ± 2345"
    one, _ = page_of([make_run(tmp_path / "one", seeds=1)], tmp_path / "out", png=False)
    assert any(text.startswith("One seed") for text in one.said("p"))
    assert "±" not in "".join(one.said("td"))


def test_runs_beyond_the_colors_are_told_apart_by_dashes():
    looks = [str(charts.look(i)) for i in range(len(charts.COLORS) * len(charts.DASHES))]
    assert len(set(looks)) == len(looks)


def luminance(color):
    """Of sRGB, as WCAG defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("paper", [0, 1])
def test_every_color_can_be_read_on_light_and_on_dark_paper(paper, tmp_path):
    page, _ = page_of([make_run(tmp_path / "run")], tmp_path / "out", png=False)
    light, dark = re.findall(r":root \{(.*?)\}", "".join(page.said("style")))
    colors = dict(re.findall(r"--(\w+): (#\w{6})", (light, dark)[paper]))
    assert {f"c{i}" for i in range(len(charts.COLORS))} <= set(colors)
    card = luminance(colors["card"])
    for name, least in [(f"c{i}", 3.0) for i in range(8)] + [
        (name, 4.5) for name in ("ink", "soft", "good", "bad", "accent")
    ]:
        both = sorted((card, luminance(colors[name])))
        assert (both[1] + 0.05) / (both[0] + 0.05) >= least, name
