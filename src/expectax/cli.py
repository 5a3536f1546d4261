"""The command line: parse, call, print. Status 0, or 1 (training broke), or 2 (wrong usage)."""

import contextlib
import dataclasses
import io
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console

from ._errors import ExpectaxError, complain
from .lab import devices, show, watch
from .lab.config import TrainConfig
from .lab.data.command import DataOptions, run_data
from .lab.errors import NonFiniteError, UsageError, unknown
from .lab.report.command import ReportOptions, run_report
from .lab.run_folder import RunFolder, claim_folder, fresh_folder, unfinished_folder

PROGRAM = "expectax"


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train a VAE with discrete latents, and leave a folder with the run."""

    config: tyro.conf.OmitArgPrefixes[TrainConfig] = dataclasses.field(default_factory=TrainConfig)
    """what to train; options without a default here take the model's or the estimator's"""
    run_dir: pathlib.Path | None = None
    """folder for the run; by default the first free runs/MODEL-DATA-ESTIMATOR-N"""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """go on with the run in --run-dir, with the options it was begun with"""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """write the metrics for TensorBoard, too, into the run's folder"""
    num_devices: int | None = None
    """spread the batch over this many devices; by default as many as divide it"""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, each started with the same options"""
    num_processes: int | None = None
    """how many processes there are"""
    process_id: int | None = None
    """which of them this is, from 0; the first writes the folder"""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """List the estimators with their claims and their options."""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Set estimators side by side on a small problem: bias, variance, evaluations, time."""

    problem: str = "quadratic-bits"
    """one-bit, quadratic-bits, linear-bits, many-bits, floor-bits, near-constant, two-hundred-bits,
    expensive, categories, gaussian or small-vae"""
    estimators: str = ""
    """names separated by commas; by default all of them"""
    num_draws: int = 2000
    """gradients drawn for each"""
    tuning_steps: int = 2000
    """steps in which learned baselines and control variates are tuned first"""
    seed: int = 0
    """of the problem and of the draws"""
    run_dir: pathlib.Path | None = None
    """folder for table and plot; by default the first free runs/compare-PROBLEM-N"""


@dataclasses.dataclass(frozen=True)
class RecommendOptions:
    """Try every estimator on a small problem, and rank those that can serve it."""

    problem: str = "quadratic-bits"
    """one-bit, quadratic-bits, linear-bits, many-bits, floor-bits, near-constant, two-hundred-bits,
    expensive, categories, gaussian or small-vae"""
    budget_seconds: float = 20.0
    """seconds to take at most, compiling included"""
    allow_biased: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """rank biased estimators too, by mean squared error"""
    seed: int = 0
    """of the problem and of the draws"""
    run_dir: pathlib.Path | None = None
    """folder for table and plot; by default the first free runs/recommend-PROBLEM-N"""


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """Run a published experiment again: published | ours | verdict."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """the experiment; any other name lists those there are"""
    run_dir: pathlib.Path | None = None
    """folder for tables and pictures; by default the first free runs/NAME-N"""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """a minute's version, of one contender or a few"""
    steps: int | None = None
    """optimiser steps, where a model is trained; by default as published"""
    num_seeds: int | None = None
    """independent copies, where a model is trained"""
    data: str | None = None
    """data set, of those that the experiment was published on"""
    data_dir: pathlib.Path | None = None
    """folder with the published files of the data set, or the folder above it"""
    only: str = ""
    """contenders to train, separated by commas, and those where they start; by default all"""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """go on in --run-dir with what was trained there"""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """write the metrics for TensorBoard, too, into each contender's folder"""


def main(argv: Sequence[str] | None = None) -> None:
    """The `expectax` command. It always ends by SystemExit.

    Arguments:
        argv: the arguments; by default those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        name = given[0] if given else "--help"
        if name in ("-h", "--help"):
            _help()
        elif name not in COMMANDS:
            raise unknown("command", name, list(COMMANDS))
        else:
            command = COMMANDS[name]
            command.run(_parse(name, command.options, given[1:]), given[1:])
    except NonFiniteError as error:
        _fail(error, 1)
    except ExpectaxError as error:
        _fail(error, 2)
    except KeyboardInterrupt:
        _fail("stopped; a run goes on with --run-dir DIR --resume", 130)
    sys.exit(0)


def _fail(error: ExpectaxError | str, status: int) -> None:
    show.show_error(Console(stderr=True), error)
    sys.exit(status)


def _help() -> None:
    print(f"usage: {PROGRAM} COMMAND [OPTIONS]\n")
    for name, command in COMMANDS.items():
        print(f"  {name:<10} {command.options.__doc__}")
    print(f"\n{PROGRAM} COMMAND --help shows the options of a command.")


def _parse(name: str, options: type, argv: list[str], default: Any = None) -> Any:
    """tyro's parse, with its error box made one line."""
    box = io.StringIO()
    keywords = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(options, prog=f"{PROGRAM} {name}", args=argv, **keywords)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_unbox(box.getvalue())) from None


def _unbox(box: str) -> str:
    """The sections of a box as one line, without the help text of each suggestion.

    Example:
        >>> print(_unbox("╭─ Bad ─╮\\n│ no --x │\\n│ ────── │\\n│ run it │\\n╰───────╯"))
        no --x; run it
    """
    rows = [row.strip("│| ") for row in box.splitlines() if row[:1] not in "╭╰+"]
    text = " ".join("\n" if row and not row.strip("─-") else row for row in rows)
    sections = [" ".join(part.split()) for part in text.split("\n")]
    wanted = [part for part in sections if not part.startswith("Argument helptext")]
    return re.sub(r"\.; ", "; ", "; ".join(filter(None, wanted)))


def _train(options: TrainOptions, argv: list[str]) -> None:
    devices.join(options.coordinator, options.num_processes, options.process_id)
    begun, stored = devices.first_decides(lambda: _begun(options, argv))
    config = TrainConfig.from_json(stored)
    from .lab.loop import Run

    console = Console(quiet=not devices.is_first())
    with console.status("compiling"):
        run = Run(config, num_devices=options.num_devices)
    folder = RunFolder(pathlib.Path(devices.first_decides(lambda: _claim(options, config, begun))))
    mine = folder if devices.is_first() else None
    with watch.progress(console, config) as report:
        warn = show.note_damage(Console(stderr=True))
        results = run.train(mine, report=report, warn=warn, tensorboard=options.tensorboard)
    if mine:
        from .lab.report.page import write_report

        results.files.extend(write_report([mine.path], mine.path, png=False))
    watch.show_results(console, config, run.data.summary, folder, results)


def _stem(config: TrainConfig) -> str:
    return f"{config.model}-{config.data}-{config.estimator}"


def _begun(options: TrainOptions, argv: list[str]) -> tuple[bool, dict[str, Any]]:
    """Whether the run was begun before, and its config; refused before anything is compiled."""
    if not options.resume:
        fresh_folder(options.run_dir, _stem(options.config))
        return False, options.config.to_json()
    stored = RunFolder(unfinished_folder(options.run_dir)).stored(TrainConfig)
    return stored is not None, (_agree(stored, argv) if stored else options.config).to_json()


def _claim(options: TrainOptions, config: TrainConfig, begun: bool) -> str:
    """The path of the run's folder, with its config written."""
    path = options.run_dir
    path = path if path and options.resume else claim_folder(path, _stem(config))
    if not begun:
        RunFolder(path).create(config)
    return str(path)


def _agree(stored: TrainConfig, argv: list[str]) -> TrainConfig:
    """The stored config, once what the command line says besides does not contradict it."""
    now = _parse("train", TrainOptions, argv, TrainOptions(config=stored)).config
    # the data's bytes are known by their checksum: the folder may have moved
    stored = dataclasses.replace(stored, data_dir=now.data_dir)
    for field in dataclasses.fields(stored):
        mine, asked = getattr(stored, field.name), getattr(now, field.name)
        if mine != asked:
            flag = "--" + field.name.replace("_", "-")
            raise UsageError(
                complain(
                    f"--resume was given with {flag} {asked}",
                    f"the run was begun with {mine}, and goes on as it was begun",
                    f"drop {flag}, or train into another --run-dir",
                )
            )
    return stored


def _list(options: ListOptions, argv: list[str]) -> None:
    del options, argv
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width
    console.print(show.estimator_table(console.width))
    show.show_lines(console, show.legend())


def _compare(options: CompareOptions, argv: list[str]) -> None:
    del argv
    from .lab.comparison import run_comparison, save_table

    console = Console()
    stem = f"compare-{options.problem}"
    fresh_folder(options.run_dir, stem)
    names = [name.strip() for name in options.estimators.split(",") if name.strip()]
    with console.status("comparing"):
        comparison = run_comparison(
            options.problem,
            names,
            num_draws=options.num_draws,
            tuning_steps=options.tuning_steps,
            seed=options.seed,
        )
    if not (able := any(not row.reason for row in comparison.rows)):
        raise UsageError(comparison.rows[0].reason)
    console.print(str(comparison), soft_wrap=True, highlight=False)
    folder = claim_folder(options.run_dir, stem)
    show.show_lines(console, save_table(folder, comparison, "comparison", able))


def _recommend(options: RecommendOptions, argv: list[str]) -> None:
    del argv
    from .lab.comparison import run_recommendation, save_table

    console = Console()
    stem = f"recommend-{options.problem}"
    fresh_folder(options.run_dir, stem)
    with console.status("trying estimators"):
        found = run_recommendation(
            options.problem,
            budget_seconds=options.budget_seconds,
            allow_biased=options.allow_biased,
            seed=options.seed,
        )
    console.print(str(found), soft_wrap=True, highlight=False)
    folder = claim_folder(options.run_dir, stem)
    show.show_lines(console, save_table(folder, found, "recommendation", bool(found.rows)))


def _reproduce(options: ReproduceOptions, argv: list[str]) -> None:
    del argv
    from .lab.experiments import EXPERIMENTS, tailored

    if options.name not in EXPERIMENTS:
        raise unknown("experiment", options.name, list(EXPERIMENTS))
    names = ("steps", "num_seeds", "data", "data_dir")
    given: dict[str, Any] = {n: x for n in names if (x := getattr(options, n)) is not None}
    if only := tuple(filter(None, map(str.strip, options.only.split(",")))):
        given["only"] = only
    flags = {n: True for n in ("resume", "tensorboard") if getattr(options, n)}
    experiment = tailored(EXPERIMENTS[options.name], given, **flags)
    console, path = Console(), options.run_dir
    path = unfinished_folder(path) if options.resume else fresh_folder(path, options.name)
    experiment.run(path, options.quick, console)
    show.show_lines(console, {"run folder": path})


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: its options, and what is called with them and the arguments as given."""

    options: type
    run: Callable[[Any, list[str]], None]


COMMANDS: dict[str, Command] = {
    "train": Command(TrainOptions, _train),
    "list": Command(ListOptions, _list),
    "compare": Command(CompareOptions, _compare),
    "recommend": Command(RecommendOptions, _recommend),
    "reproduce": Command(ReproduceOptions, _reproduce),
    "report": Command(ReportOptions, lambda options, _: run_report(options, Console())),
    "data": Command(DataOptions, lambda options, _: run_data(options, Console())),
}

if __name__ == "__main__":
    main()
