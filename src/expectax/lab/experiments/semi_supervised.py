"""Semi-supervised VAEs: few labels, and four gradients of the label's expectation.

Reference: Lorberbom, Gane, Jaakkola & Hazan (2019), "Direct optimization through arg max for
discrete variational auto-encoder", section 5.3: the bound for every picture, and the chance of a
wrong label for the labelled. Kingma, Mohamed, Rezende & Welling (2014), "Semi-supervised learning
with deep generative models", the model M2. Two views of a picture that must agree: Sajjadi,
Javanmardi & Tasdizen (2016); classes in balance: Hu et al. (2017), "Learning discrete
representations via information maximizing self-augmented training".
"""

import dataclasses
from typing import Any

from ._semi_supervised_task import ESTIMATORS, FewLabels
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel

NAME = "semi-supervised"
STEPS = 2_500
DATA = ("mnist", "fashion")

PUBLISHED = {
    ("direct", "mnist"): {
        50: ("92.6", "90.24"), 100: ("95.4", "90.93"), 300: ("96.4", "90.39"),
        600: ("96.7", "90.78"), 1200: ("96.8", "90.45"),
    },
    ("gumbel-softmax", "mnist"): {
        50: ("84.7", "91.23"), 100: ("88.4", "90.64"), 300: ("91.7", "90.01"),
        600: ("92.3", "89.77"), 1200: ("92.7", "90.37"),
    },
    ("direct", "fashion"): {
        50: ("63.3", "129.66"), 100: ("67.2", "130.82"), 300: ("70.0", "130.65"),
        600: ("72.1", "130.81"), 1200: ("73.7", "130.92"),
    },
    ("gumbel-softmax", "fashion"): {
        50: ("61.2", "129.81"), 100: ("64.2", "129.05"), 300: ("69.3", "130.37"),
        600: ("71.6", "129.97"), 1200: ("73.2", "130.06"),
    },
}  # fmt: skip
"""Test accuracy in % and −ELBO in nats, by the number of labels."""

FIGURES: tuple[str, ...] = ("test_accuracy", "test_bound")

NUM_LABELS = tuple(PUBLISHED["direct", "mnist"])

EVALUATIONS = {
    "direct": "1 + 9", "gumbel-softmax": "0 + 1", "straight-through": "1 + 0", "exact": "10 + 0",
}  # fmt: skip

ABLATIONS: dict[str, dict[str, Any]] = {
    "plain": {
        "label_weight": 1.0, "surprise": 0.0, "distort": False, "agreement": 0.0, "balance": 0.0,
    },
    "weighted": {"surprise": 0.0, "distort": False, "agreement": 0.0, "balance": 0.0},
    "surprised": {"distort": False, "agreement": 0.0, "balance": 0.0},
    "distorted": {"agreement": 0.0, "balance": 0.0},
    "agreeing": {"balance": 0.0},
}  # fmt: skip
"""What is left out, from the published loss upwards; with nothing left out it is `exact`."""

ABLATED = 100
"""Labels."""

PROTOCOL = (
    "A label of 10 classes and a style of {style} normal variables, of pictures of {data} rounded "
    "at ½: p(y) p(z | y) p(x | z), q(y | x) q(z | x), with {hidden} units (leaky rectifiers) in "
    "each hidden layer: two layers for q(y | x), one for q(z | x) and p(x | z). Trained is −ELBO "
    "of all pictures, and {weight:g} times: the chance of a wrong label of the labelled pictures, "
    "each seen turned, zoomed, slanted and moved at random (clothes mirrored too), and −log q(y | "
    "x) of that label; {agreement:g} times the cross-entropy of q(y | x) of such a view of every "
    "picture from that of the picture itself, squared, balanced over the batch and held fixed; "
    "KL(mean of q(y | x) over the batch ‖ uniform). The contender estimates the chance of a wrong "
    "label, and the label's part in −ELBO: direct optimization two-sided, ε = 1 of chances and .1 "
    "of nats, Gumbel-Softmax at temperature ½. As many labels of each class, drawn by the seed. "
    "Batch {batch}, and {labelled} labelled, {steps:,} steps of Adam {rate:g}, falling to 0 as a "
    "cosine, {seeds}. Accuracy is of the likeliest label and −ELBO has the label summed out, "
    "both of all test pictures, lower is better of the latter. *-plain has the published loss "
    "alone, *-weighted its weight, *-surprised −log q(y | x) of labels too, *-distorted the views "
    "of labelled pictures, *-agreeing those of all; what is left out last is the balance. The "
    "published runs are of another model, a decoder of label and style, without views. f: "
    "evaluations of f, a label's cost, for one draw of one expectation, at hard draws + elsewhere."
)


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    task = FewLabels(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 600),
        num_seeds=asked.choose("num_seeds", 5, 2),
        hidden=40 if asked.quick else 400,
        num_style=8 if asked.quick else 50,
    )
    contenders = []
    for num_labels in NUM_LABELS:
        for name in ESTIMATORS:
            mine = dataclasses.replace(task, estimator=name, num_labels=num_labels)
            figures = PUBLISHED.get((name, data), {}).get(num_labels, ())
            published = dict(zip(FIGURES, figures, strict=False))
            contenders.append(
                Contender(
                    f"{name}-{num_labels}", mine, EVALUATIONS[name], published, "another model"
                )
            )
    for name, less in ABLATIONS.items():
        mine = dataclasses.replace(task, num_labels=ABLATED, **less)
        contenders.append(Contender(f"exact-{ABLATED}-{name}", mine, EVALUATIONS["exact"]))
    if asked.quick:
        contenders = [c for c in contenders if c.name == "exact-100"]
    protocol = PROTOCOL.format(
        style=task.num_style, data=data, hidden=task.hidden, weight=task.label_weight,
        agreement=task.agreement, batch=task.batch_size, labelled=task.label_batch,
        steps=task.steps, rate=task.learning_rate, seeds=task.seeds,
    )  # fmt: skip
    panels = (
        Panel("test_accuracy", "Test accuracy, %: mean ± s.e."),
        Panel("test_accuracy", "The same, by the clock", clock=True),
        Panel("test_bound", "Test −ELBO, nats a picture"),
    )
    return Plan(protocol, tuple(contenders), FIGURES, panels, STEPS, 0.5)


EXPERIMENT = TrainingExperiment(
    NAME, "semi-supervised VAEs, 50 to 1,200 labels: direct, relaxed, straight-through, exact", plan
)
