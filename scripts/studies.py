"""Every study: a task, an agent and how it is trained. A new study is a new value here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, get_type_hints

import torch
import tyro

from agents.draw import DrawConfig
from agents.lstm import LSTMConfig
from agents.memory_network import MemoryNetworkConfig
from agents.ntm import NTMConfig
from agents.plain import ConvNetConfig, FullyConnectedConfig
from agents.player import PlayerConfig
from agents.ram import RAMConfig
from agents.rl_ntm import RLNTMConfig
from agents.soft_attention import SoftAttentionConfig
from envs.algorithms import CopyConfig, NgramsConfig, RecallConfig, RepeatCopyConfig, SortConfig
from envs.babi import BabiConfig
from envs.catch import CatchConfig
from envs.digits import DigitsConfig
from envs.foreign import CircleSquareConfig
from envs.play import PlayCatchConfig
from envs.tapes.exercises import ExercisesConfig
from envs.tapes.play import PlayTapeConfig
from envs.tapes.sequences import TapeSequencesConfig
from envs.tapes.three_tapes import ThreeTapesConfig
from hardattn.checks import at_least_one
from hardattn.contract import StorySpec
from hardattn.learner import LearnerConfig
from hardattn.runs import load_into, load_weights

TASKS = {
    "digits": DigitsConfig,
    "babi": BabiConfig,
    "copy": CopyConfig,
    "repeat-copy": RepeatCopyConfig,
    "recall": RecallConfig,
    "ngrams": NgramsConfig,
    "sort": SortConfig,
    "catch": PlayCatchConfig,
    "tape": PlayTapeConfig,
    "circle-square": CircleSquareConfig,
    "exercises": ExercisesConfig,
    "tape-sequences": TapeSequencesConfig,
}
AGENTS = {
    "ram": RAMConfig,
    "draw": DrawConfig,
    "soft-attention": SoftAttentionConfig,
    "fully-connected": FullyConnectedConfig,
    "conv-net": ConvNetConfig,
    "memory-network": MemoryNetworkConfig,
    "ntm": NTMConfig,
    "lstm": LSTMConfig,
    "player": PlayerConfig,
    "rl-ntm": RLNTMConfig,
}
# For the command line one of many, each with options of its own; for whoever has one, whatever it is.
if TYPE_CHECKING:
    TaskConfig: TypeAlias = Any
    AgentConfig: TypeAlias = Any
else:
    TaskConfig = Union[tuple(TASKS.values())]  # noqa: UP007
    AgentConfig = Union[tuple(AGENTS.values())]  # noqa: UP007


@dataclass(frozen=True)
class FitConfig:
    """How long and how often."""

    steps: int = 4000
    """Batches in all: updates, if `epochs` is 1."""
    batch_size: int = 128
    """Examples of an update, over all processes."""
    log_every: int = 50
    """Steps between two logs."""
    evaluate_every: int = 1000
    """Steps between two evaluations on the validation set."""
    pictures: bool = True
    """Draw pictures at every evaluation, for TensorBoard."""
    save_every: int = 1000
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "batch_size", "log_every", "evaluate_every", "save_every")


flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class Study:
    """What is to be learned, by whom, and how."""

    task: Annotated[TaskConfig, flat] = field(default_factory=DigitsConfig)
    agent: Annotated[AgentConfig, flat] = field(default_factory=RAMConfig)
    learner: Annotated[LearnerConfig, flat] = field(default_factory=LearnerConfig)
    fit: Annotated[FitConfig, flat] = field(default_factory=FitConfig)
    sentence: tyro.conf.Suppress[str] = ""
    """What it is, for `--help`."""

    def to_json(self) -> dict[str, Any]:
        """As config.json has it; `from_json` reads it."""
        return {
            "task": {"kind": _name(TASKS, self.task), **dataclasses.asdict(self.task)},
            "agent": {"kind": _name(AGENTS, self.agent), **dataclasses.asdict(self.agent)},
            "learner": dataclasses.asdict(self.learner),
            "fit": dataclasses.asdict(self.fit),
        }

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Study":
        """Rebuild a study.

        Raises:
            ValueError: if the configuration is not one that this version writes.
        """
        try:
            task, agent = dict(config["task"]), dict(config["agent"])
            return cls(
                _built(TASKS[task.pop("kind")], task),
                _built(AGENTS[agent.pop("kind")], agent),
                LearnerConfig(**config["learner"]),
                FitConfig(**config["fit"]),
            )
        except (KeyError, TypeError) as problem:
            raise ValueError(f"the configuration is not one of this version's: {problem}") from None


def _built(kind: type, values: Mapping[str, Any]) -> Any:
    """A configuration from JSON, which knows neither tuples nor configurations within others."""
    hints = get_type_hints(kind)
    inner = {name: _built(hints[name], value) if isinstance(value, dict) else _frozen(value) for name, value in values.items()}
    return kind(**inner)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _name(kinds: Mapping[str, type], value: Any) -> str:
    return next(name for name, kind in kinds.items() if type(value) is kind)


_MNIST = DigitsConfig(source="mnist", height=28, width=28, positions=1, glimpses=6, side=8, scales=1)
_SIXTY = DigitsConfig(source="mnist", height=60, width=60, positions=1, glimpses=8, side=12, scales=3)
_HUNDRED = dataclasses.replace(_SIXTY, height=100, width=100, scales=4)

STUDIES: dict[str, Study] = {
    "ram-digits": Study(
        sentence="RAM on scikit-learn's handwritten digits, placed on a 40 x 40 canvas; no download, minutes on a CPU",
    ),
    "ram-mnist": Study(
        task=_MNIST,
        fit=FitConfig(steps=100_000, evaluate_every=5000, save_every=2000),
        sentence="RAM on MNIST, 28 x 28, 6 glimpses of 8 x 8 (Mnih et al. 2014, Table 1a)",
    ),
    "ram-translated-60": Study(
        task=_SIXTY,
        fit=FitConfig(steps=100_000, evaluate_every=5000, save_every=2000),
        sentence="RAM on translated MNIST, 60 x 60, 8 glimpses of 12 x 12 at 3 scales (Table 1b)",
    ),
    "ram-cluttered-60": Study(
        task=dataclasses.replace(_SIXTY, pieces=4),
        fit=FitConfig(steps=200_000, evaluate_every=5000, save_every=2000),
        sentence="RAM on cluttered MNIST, 60 x 60 with 4 pieces (Table 2a)",
    ),
    "ram-cluttered-100": Study(
        task=dataclasses.replace(_HUNDRED, pieces=8),
        fit=FitConfig(steps=200_000, evaluate_every=5000, save_every=2000),
        sentence="RAM on cluttered MNIST, 100 x 100 with 8 pieces, 4 scales (Table 2b)",
    ),
}

CONTENDERS: dict[str, tuple[AgentConfig, str]] = {
    "grid-gaze": (RAMConfig(policy="grid"), "RAM that chooses among 7 x 7 places"),
    "random-gaze": (RAMConfig(gaze="random"), "RAM trained with a gaze that is drawn at random: a control"),
    "centre-gaze": (RAMConfig(gaze="centre"), "RAM trained with its gaze on the middle: a control"),
    "raster-gaze": (RAMConfig(gaze="raster"), "RAM trained with a gaze that follows a grid: a control"),
    "draw": (DrawConfig(), "the Gaussian filterbank of DRAW, a glimpse with a gradient (Gregor et al. 2015)"),
    "bilinear": (DrawConfig(sensor="bilinear"), "the spatial transformer's bilinear glimpse (Jaderberg et al. 2015)"),
    "soft": (SoftAttentionConfig(), "soft attention over a convolutional map (after Xu et al. 2015)"),
    "fc-64": (FullyConnectedConfig(hidden=64), "two layers of 64 units on the whole image: a control of Mnih et al. 2014"),
    "fc-256": (FullyConnectedConfig(), "two layers of 256 units on the whole image: a control of Mnih et al. 2014"),
    "conv": (ConvNetConfig(), "8 filters of 10 x 10 and 256 units on the whole image: a control of Mnih et al. 2014"),
    "matched-conv": (
        ConvNetConfig(hidden=537),
        "the same with 537 units, as many parameters as RAM has on the digits: a control",
    ),
    "deep-conv": (
        ConvNetConfig(channels=(16, 32, 64), kernel=3, stride=2),
        "three convolutions of 3 x 3 on the whole image: a control",
    ),
}
"""What RAM is compared with, on the same tasks: `compare.py` puts them into one table."""

# On a large canvas a window that is free to go anywhere, and whose gradient is free to explode, finds nothing (LOG.md).
_FIRM: dict[str, Any] = {"standardised": True, "bounded": True, "supervise": "every", "limit": 1.0}

for _where in ("digits", "translated-60", "cluttered-60", "cluttered-100"):
    for _who, (_agent, _sentence) in CONTENDERS.items():
        if isinstance(_agent, DrawConfig) and _where != "digits":
            _agent = dataclasses.replace(_agent, **_FIRM)
        _published = STUDIES[f"ram-{_where}"]
        _what = f"{_sentence}, on {_where}"
        STUDIES[f"{_who}-{_where}"] = dataclasses.replace(_published, agent=_agent, sentence=_what)


_STORIES = Study(
    task=BabiConfig(),
    agent=MemoryNetworkConfig(linear_start=0.3),
    learner=LearnerConfig(optimizer="sgd", momentum=0.0, learning_rate=0.16, clip=2.5),
    fit=FitConfig(steps=40_000, batch_size=32, log_every=200, evaluate_every=2500, save_every=2500),
    sentence="end-to-end memory network on bAbI, by default on all 20 tasks at once, 1,000 questions each (Sukhbaatar et al. 2015, Table 1)",
)
STUDIES |= {
    "memn2n-babi-1k": _STORIES,
    "memn2n-babi-10k": dataclasses.replace(
        _STORIES,
        task=BabiConfig(size="10k"),
        sentence="end-to-end memory network on bAbI, 10,000 questions of each task (Sukhbaatar et al. 2015, Table 3)",
    ),
    "memn2n-babi-1k-hard": dataclasses.replace(
        _STORIES,
        task=BabiConfig(tasks=(1, 2, 3, 6, 14, 16)),
        agent=MemoryNetworkConfig(linear_start=0.3, soft_start=0.4, access="sampled"),
        fit=dataclasses.replace(_STORIES.fit, steps=20_000, evaluate_every=1000),
        sentence="memory network whose hops read one sentence each, on bAbI's tasks 1, 2, 3, 6, 14 and 16",
    ),
    "memn2n-stories": dataclasses.replace(
        _STORIES,
        task=BabiConfig(source="generated", tasks=(1, 2, 3, 6, 16)),
        sentence="memory network on stories made up here in the style of bAbI's tasks 1, 2, 3, 6 and 16; no download",
    ),
    "memn2n-own": dataclasses.replace(
        _STORIES,
        task=BabiConfig(source="own"),
        agent=MemoryNetworkConfig(width=20, linear_start=0.3),
        fit=dataclasses.replace(_STORIES.fit, steps=3000, evaluate_every=250),
        sentence="memory network on your own stories: --train-file FILE --test-file FILE, in bAbI's format",
    ),
}

_SEQUENCES = FitConfig(steps=7000, batch_size=16, log_every=100, evaluate_every=1000, save_every=1000)
_MACHINE = LearnerConfig(learning_rate=1e-3, schedule="constant", clip=50.0)
_ALGORITHMS: dict[str, tuple[Any, str]] = {
    "copy": (CopyConfig(), "copying (Section 4.1)"),
    "repeat-copy": (RepeatCopyConfig(), "copying several times (Section 4.2)"),
    "recall": (RecallConfig(), "associative recall (Section 4.3)"),
    "ngrams": (NgramsConfig(), "dynamic 6-grams (Section 4.4)"),
    "sort": (SortConfig(), "priority sort (Section 4.5)"),
}
_CONTROLLERS: dict[str, tuple[AgentConfig, str]] = {
    "ntm": (NTMConfig(), "Neural Turing Machine with an LSTM"),
    "ntm-ff": (NTMConfig(controller="feed-forward"), "Neural Turing Machine with a feed-forward controller"),
    "lstm": (LSTMConfig(), "LSTM, a control"),
}
_OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "ntm-ngrams": {"memory": "learned"},
    "ntm-ff-recall": {"hidden": 256, "heads": 4},
    "ntm-ff-sort": {"hidden": 512, "heads": 8},
    "ntm-sort": {"layers": 2, "heads": 5},
    "lstm-repeat-copy": {"hidden": 512},
    "lstm-ngrams": {"hidden": 128},
    "lstm-sort": {"hidden": 128},
}
"""What differs from copying: sizes, by the paper's Tables 1 to 3, and of 6-grams a first memory that is learned."""
# At a rate that does not fall a machine learns to copy as well, and carries it less far (LOG.md).
_FALLING = dataclasses.replace(_MACHINE, schedule="linear")
_FALLING_FIT: dict[str, FitConfig] = {
    "copy": dataclasses.replace(_SEQUENCES, steps=20_000, batch_size=8, evaluate_every=4000),
    "recall": _SEQUENCES,
    "ngrams": _SEQUENCES,
}
"""What is trained at a falling rate, and for how long: a control as the machine that it is the control of."""
for _what, (_task, _sentence) in _ALGORITHMS.items():
    _rate, _long = (_FALLING, _FALLING_FIT[_what]) if _what in _FALLING_FIT else (_MACHINE, _SEQUENCES)
    for _who, (_agent, _description) in _CONTROLLERS.items():
        _told = f"{_description}: {_sentence} of Graves et al. 2014"
        _agent = dataclasses.replace(_agent, **_OTHER_SETTINGS.get(f"{_who}-{_what}", {}))
        STUDIES[f"{_who}-{_what}"] = Study(_task, _agent, _rate, _long, _told)
WHO = ("ram", *CONTENDERS, *_CONTROLLERS, "ntm-hard")
"""What the names of studies begin with that share their tasks; the task follows."""
# With one head and an LSTM recall is learned late (Figure 10 of the paper); this controller learns it soonest.
STUDIES["ntm-recall"] = STUDIES["ntm-ff-recall"]
# As those that are soft, with rows that do not begin short; and one large gradient can cost such a machine all that it learned (LOG.md).
for _what, (_task, _sentence) in _ALGORITHMS.items():
    _soft = STUDIES[f"ntm-{_what}"]
    STUDIES[f"ntm-hard-{_what}"] = Study(
        task=_task,
        agent=dataclasses.replace(_soft.agent, access="straight-through", constant=0.1),
        learner=dataclasses.replace(_soft.learner, clip=10.0),
        fit=_SEQUENCES,
        sentence=f"Neural Turing Machine whose heads draw one row each: {_sentence} of Graves et al. 2014",
    )

_CATCH = Study(
    task=PlayCatchConfig(),
    agent=PlayerConfig(hidden=128, features=128, discount=0.97, decay=0.95, entropy=0.003, shared=True, standardised=True),
    learner=LearnerConfig(learning_rate=2e-3, epochs=3),
    fit=FitConfig(steps=1000, batch_size=512, evaluate_every=50, save_every=50),
    sentence="Catch, by reward alone: where to look and how to move (Mnih et al. 2014, Section 4.2)",
)
STUDIES |= {
    "ram-catch": _CATCH,
    "random-gaze-catch": dataclasses.replace(
        _CATCH,
        agent=dataclasses.replace(_CATCH.agent, gaze="random"),
        sentence="Catch with a gaze that is drawn at random: a control",
    ),
    "full-view-catch": dataclasses.replace(
        _CATCH,
        task=PlayCatchConfig(CatchConfig(sight="full")),
        sentence="Catch by a player that sees the whole screen: a control",
    ),
}


STUDIES["player-circle-square"] = Study(
    task=CircleSquareConfig(),
    agent=PlayerConfig(hidden=128, features=128, std=0.5, discount=0.9, decay=0.95, entropy=0.05, shared=True),
    learner=LearnerConfig(learning_rate=2e-3),
    fit=FitConfig(steps=600, batch_size=256, evaluate_every=100, save_every=100),
    sentence="ap_gym's CircleSquare-v0, by REINFORCE: circle or square, seen 5 x 5 pixels at a time",
)
_READER = PlayerConfig(hidden=128, features=64, discount=0.95, decay=0.95, entropy=0.02, shared=True, standardised=True)
# Who could learn an input by heart does: from the beginning inputs are too long for that, and there is little to remember with (LOG.md).
_WALKER = dataclasses.replace(_READER, hidden=16, discount=0.99)
# Too certain too early, and a carry that was met too seldom is never added (LOG.md).
_ADDER = dataclasses.replace(_READER, hidden=32, features=32, discount=0.99, entropy=0.05)
_TAPES: dict[str, tuple[PlayTapeConfig, PlayerConfig, LearnerConfig, FitConfig]] = {
    **{
        e: (
            PlayTapeConfig(e, skew=2.0),
            _READER,
            LearnerConfig(learning_rate=2e-3, epochs=3),
            FitConfig(150, 128, 25, 50, save_every=50),
        )
        for e in ("Copy", "DuplicatedInput")
    },
    **{
        e: (
            PlayTapeConfig(e, top=top, skew=0.3, exploring_starts=0.8),
            _WALKER,
            LearnerConfig(learning_rate=5e-3, epochs=3),
            FitConfig(400, 256, 50, 50, save_every=50),
        )
        for e, top in (("RepeatCopy", 10), ("Reverse", 20))
    },
    # A guess pays nothing on average: only many episodes tell one from the right digit.
    "ReversedAddition": (
        PlayTapeConfig("ReversedAddition", top=5),
        _ADDER,
        LearnerConfig(learning_rate=4e-3, schedule="constant", epochs=3),
        FitConfig(800, 2048, 50, 50, save_every=50),
    ),
}
for _exercise, (_tape, _player, _learner, _fit) in _TAPES.items():
    STUDIES[f"player-{_exercise}"] = Study(
        task=_tape,
        agent=_player,
        learner=_learner,
        fit=_fit,
        sentence=f"OpenAI Gym's {_exercise}, by reward alone",
    )
_LSTM = RLNTMConfig(controller="lstm", inverse_temperature=0.3)
_DIRECT = RLNTMConfig(controller="direct", inverse_temperature=0.3)
_MOVES = LearnerConfig(learning_rate=5e-3, schedule="constant", clip=2.0)
_MOVES_FALLING = dataclasses.replace(_MOVES, schedule="linear")
# Hurried where it matters: who has the time reads all of a short input and learns it by heart, which does not lead to longer ones.
_RL_NTM: dict[str, tuple[ThreeTapesConfig, RLNTMConfig, LearnerConfig, int]] = {
    "copy": (ThreeTapesConfig(task="copy", symbols=10, longest=10, steps=25, depth=35), _LSTM, _MOVES, 2000),
    "duplicated": (
        ThreeTapesConfig(task="duplicated-input", symbols=10, longest=20, steps=62, depth=35, hurried=True),
        dataclasses.replace(_LSTM, hidden=20, entropy=0.02),
        _MOVES_FALLING,
        3000,
    ),
    "reverse": (ThreeTapesConfig(task="reverse", symbols=10, longest=10, steps=25), _DIRECT, _MOVES, 2000),
    "repeatcopy": (
        ThreeTapesConfig(task="repeat-copy", symbols=10, longest=10, steps=44, hurried=True),
        dataclasses.replace(_DIRECT, entropy=0.02),
        _MOVES_FALLING,
        3000,
    ),
    "forwardreverse": (
        ThreeTapesConfig(task="forward-reverse", symbols=10, longest=20, steps=48, hurried=True, marked=True),
        dataclasses.replace(_DIRECT, entropy=0.02),
        _MOVES,
        3000,
    ),
}
for _machine, (_tapes, _controller, _learner, _steps) in _RL_NTM.items():
    STUDIES[f"rlntm-{_machine}"] = Study(
        task=ExercisesConfig(_tapes, lengths=(100,), frozen=500),
        agent=_controller,
        learner=_learner,
        fit=FitConfig(steps=_steps, batch_size=100, evaluate_every=200, save_every=200),
        sentence=f"RL-NTM on {_tapes.task} (Zaremba and Sutskever 2015), smaller than published: 10 symbols",
    )
    if _machine != "forwardreverse":  # for a machine without tapes it is reverse
        STUDIES[f"ntm-tape-{_tapes.task}"] = Study(
            task=TapeSequencesConfig(dataclasses.replace(_tapes, hurried=False)),  # it has no heads to hurry
            agent=NTMConfig(),
            learner=_MACHINE,
            fit=_SEQUENCES,
            sentence=f"Neural Turing Machine on RL-NTM's {_tapes.task}: the soft counterpart",
        )


@dataclass(frozen=True)
class Trained:
    """A model with where it comes from."""

    name: str
    seed: int
    study: Study
    agent: Any
    """One of AGENTS, built."""
    task: Any
    """One of TASKS, built."""
    folder: Path | None
    """Of the run, if it comes from one."""


def load_trained(path: Path, data_dir: Path, glimpses: int | None = None) -> Trained:
    """A trained model from weights, or from a run's folder (its best weights so far).

    Args:
        path: of the weights or the run.
        data_dir: where its task finds data.
        glimpses: that it may take, if not as many as in its training.

    Raises:
        ValueError: if there is nothing to load, it is damaged, or `glimpses` are asked of a task that has none.
    """
    file = _weights_of(path)
    weights, config, study = _opened(file)
    if glimpses is not None:
        if not hasattr(study.task, "glimpses"):
            raise ValueError(f"expected a model that takes glimpses, found {config['name']}: leave --glimpses out")
        study = dataclasses.replace(study, task=dataclasses.replace(study.task, glimpses=glimpses))
    task = study.task.build(data_dir)
    same_words(config, task.spec, path)
    agent = study.agent.build(task.spec)
    load_into(agent, weights, file)
    agent.eval()
    return Trained(config["name"], config["seed"], study, agent, task, Path(path) if Path(path).is_dir() else None)


def same_words(config: dict[str, Any], spec: Any, source: Path) -> None:
    """Raises ValueError if a reader's stories no longer have the words that it was trained with: its numbers would stand for others."""
    known = config.get("spec", {}).get("vocabulary")
    if known is not None and tuple(known) != spec.vocabulary:
        raise ValueError(
            f"the stories have other words than those that {source} was trained on: put the files back, or train again"
        )


def load_answering(path: Path) -> tuple[Any, Any]:
    """A model that can be asked about a file of one's own, without the data that it was trained on; and what it knows: the `StorySpec` of a reader of
    stories, with its vocabulary, or the task of a player of tapes, a `PlayTape` or an `Exercises`.

    Raises:
        ValueError: if there is nothing to load, it is damaged, or it can be asked nothing.
    """
    file = _weights_of(path)
    weights, config, study = _opened(file)
    if "spec" in config:
        knows: Any = StorySpec(**config["spec"] | {"vocabulary": tuple(config["spec"]["vocabulary"])})
    elif isinstance(study.task, PlayTapeConfig | ExercisesConfig):
        knows = study.task.build()
    else:
        raise ValueError(
            "expected a reader of stories, such as weights/memn2n-babi-1k.safetensors, or a player of tapes, such as "
            f"weights/rlntm-copy.safetensors; {path} is {config['name']}"
        )
    agent = study.agent.build(knows if isinstance(knows, StorySpec) else knows.spec)
    load_into(agent, weights, file)
    agent.eval()
    return agent, knows


def _weights_of(path: Path) -> Path:
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / "config.json").exists():
        raise ValueError(f"expected a run or a .safetensors file at {path}, found a folder without config.json")
    if not (path / "best.safetensors").exists():
        raise ValueError(f"the run {path} has no best.safetensors yet: it comes with the first evaluation. Let the run go on")
    return path / "best.safetensors"


def _opened(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], Study]:
    """Weights, what they say of themselves, and their study."""
    weights, config = load_weights(file)
    if not config:
        raise ValueError(f"{file} says nothing about its configuration: expected weights that a run or weights/ holds")
    try:
        return weights, {"name": config["name"], "seed": config["seed"], **config}, Study.from_json(config["study"])
    except (KeyError, TypeError) as problem:
        raise ValueError(f"{file}: the configuration has no {problem}. Expected weights that a run or weights/ holds") from None
    except ValueError as problem:
        raise ValueError(f"{file}: {problem}") from None


def describe(name: str, seed: int, study: Study, spec: Any) -> dict[str, Any]:
    """What weights say of themselves. A reader's hold its vocabulary, so that it can read stories of one's own without the data."""
    said = {"name": name, "seed": seed, "study": study.to_json(), "torch": torch.__version__}
    return said | ({"spec": dataclasses.asdict(spec)} if isinstance(spec, StorySpec) else {})
