"""Speed, always as ratios measured side by side in one run: `python scripts/benchmark.py [NAME ...] [--peers DIR]`.

Run it on a machine that does nothing else. A ratio is the median over rounds, in each of which both sides are timed in turn.
"""

import dataclasses
import functools
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from hardattn.evaluation import Row
from scripts.cli import main, read_arguments, tune_for_cpu, write_rows
from scripts.studies import STUDIES

ROUNDS = 31
LENGTH = 10
"""Vectors of the sequences that a Neural Turing Machine is timed on."""
SECONDS = 0.15
"""What one side of a round takes, about."""


@dataclass(frozen=True)
class Benchmark:
    """Two things to time. The ratio is ours divided by theirs: in time per call if `bar` is a ceiling, in calls per time if it is a floor."""

    sentence: str
    sides: Callable[["Options"], tuple[Callable[[], Any], Callable[[], Any]]]
    """Makes (ours, theirs), which do equal work when called."""
    faster_is_more: bool = False
    """Whether the ratio says how many times faster ours is, rather than how many times longer it takes."""
    threads: int = 1
    peer: bool = False


@dataclass(frozen=True)
class Options:
    """Measure speed against references: matrix products alone, loops over a batch, and, with --peers, other projects."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """What to measure. Default: everything that needs no peer, and the peers if --peers is given."""
    peers: Path | None = None
    """A folder of other projects' checkouts: recurrent-visual-attention (kevinzakka's), pytorch-ntm (loudinthecloud's). ap_gym must be installed, too:
    pip install -e '.[peers]'."""
    data_dir: Path = Path("data")
    """The folder that holds MNIST/raw; without it, the benchmarks run on random images."""
    json: str | None = None
    """Write the rows as JSON to this file; "-" for standard output."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in BENCHMARKS]
        if unknown:
            raise ValueError(f"expected names among {', '.join(BENCHMARKS)}; found {', '.join(unknown)}")
        if self.peers is None and any(BENCHMARKS[name].peer for name in self.names):
            raise ValueError("a comparison with another project needs its checkout: --peers DIR")
        if self.peers is not None and not self.peers.is_dir():
            raise ValueError(f"expected a folder of checkouts at {self.peers}, found none")


# Ours


def _scenes(name: str, count: int, **settings: Any) -> tuple[Any, Any]:
    """A RAM as published but for `settings`, and a batch of its size: noise will do, for no step depends on what is seen."""
    from envs.glimpse import ask
    from hardattn.contract import Batch, GlimpseSpec
    from hardattn.noise import keys

    study = STUDIES[name]
    task = study.task
    spec = GlimpseSpec(1, task.height, task.width, 10, task.scales, task.side, task.glimpses)
    agent = dataclasses.replace(study.agent, **settings).build(spec)
    image, gaze = torch.rand(count, 1, task.height, task.width), torch.rand(count, 2) * 2 - 1
    key = keys(0, "benchmark", torch.arange(count))
    return agent, lambda: Batch(ask(image, gaze, key, task.eye), torch.randint(10, (count,)))


def _training_step(name: str, batch_size: int = 128, batches: int = 4, **settings: Any) -> Callable[[], Any]:
    """One update with everything that belongs to it: looks, loss, gradient, clipping, optimiser. The task has made its batches before."""
    from hardattn.learner import Learner

    agent, batch = _scenes(name, batch_size, **settings)
    learner = Learner(agent, STUDIES[name].learner, 10**9)
    step, ready = itertools.count(), itertools.cycle([batch() for _ in range(batches)])
    return lambda: learner.update(next(ready), next(step))


def _lstm_step(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The settings that reach the published errors, against the published ones."""
    return _training_step("ram-mnist", core="lstm", standardised=True, bounded=True, shaping=0.1), _training_step("ram-mnist")


def _matrix_products(name: str, batch_size: int = 128) -> Callable[[], Any]:
    """The products that a training step cannot do without: those of its linear layers, forward, for the weights and for the inputs."""
    agent, _ = _scenes(name, 1)
    glimpses = STUDIES[name].task.glimpses
    layers = [m for m in agent.modules() if isinstance(m, torch.nn.Linear)]
    every = [m for m in layers if m is not agent.classifier]
    work = [
        (torch.rand(batch_size, m.in_features), torch.rand_like(m.weight), torch.rand(batch_size, m.out_features))
        for m in every
    ]
    last = agent.classifier
    once = (torch.rand(batch_size, last.in_features), torch.rand_like(last.weight), torch.rand(batch_size, last.out_features))

    def run() -> None:
        for _ in range(glimpses):
            for x, w, _g in work:
                torch.mm(x, w.T)
        for x, w, g in [once]:
            torch.mm(x, w.T), torch.mm(g.T, x), torch.mm(g, w)
        for _ in range(glimpses):
            for x, w, g in work:
                torch.mm(g.T, x), torch.mm(g, w)

    return run


def _step_against_products(name: str) -> Callable[[Options], tuple[Callable[[], Any], Callable[[], Any]]]:
    return lambda options: (_training_step(name), _matrix_products(name))


def _retina(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A look of 128 images at 60 x 60, 3 scales: ours with its share of the table (8 looks use one), against a loop over the images."""
    from hardattn.glimpse import retina, summed_area_table, window_corners

    image, gaze = torch.rand(128, 1, 60, 60), torch.rand(128, 2) * 2 - 1
    reach, side, scales = (24.0, 24.0), 12, 3

    def ours() -> None:
        table = summed_area_table(image, block=4)
        for _ in range(8):
            retina(table, gaze, side=side, scales=scales, reach=reach)

    def loop() -> None:
        for _ in range(8):
            padded = torch.nn.functional.pad(image, (60, 60, 60, 60))
            corners = window_corners(gaze, size=(60, 60), reach=reach, widths=(12, 24, 48)).tolist()
            glimpses = []
            for picture, windows in zip(padded, corners):
                patches = []
                for i, (left, top) in enumerate(windows):
                    width = side * 2**i
                    patch = picture[:, top + 60 : top + 60 + width, left + 60 : left + 60 + width]
                    patches.append(torch.nn.functional.avg_pool2d(patch, 2**i))
                glimpses.append(torch.cat(patches))
            torch.stack(glimpses)

    return ours, loop


def _scenes_against_step(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Drawing a batch of cluttered scenes of 100 x 100, with all that is made once per image, against a training step on it."""
    from envs.digits import Digits

    task, step = Digits(STUDIES["ram-cluttered-100"].task, options.data_dir), _training_step("ram-cluttered-100")
    number = itertools.count()
    return lambda: task.scenes("train", torch.arange(128) + 128 * next(number)), step


def _filterbank(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A Gaussian glimpse of 12 x 12, its banks included, against its two matrix products; 128 images of 100 x 100."""
    from hardattn.filterbank import gaussian_bank, read

    image, centre = torch.rand(128, 1, 100, 100), 100 * torch.rand(2, 128)
    stride, sigma = (1 + 4 * torch.rand(128)).expand(2, -1), (0.5 + torch.rand(128)).expand(2, -1)
    rows, columns = gaussian_bank(centre, stride, sigma, side=12, size=100)

    def ours() -> None:
        read(image, *gaussian_bank(centre, stride, sigma, side=12, size=100))

    return ours, lambda: rows @ image[:, 0] @ columns.mT


def _hard_growth(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Decisions of a hard agent (8 glimpses, 3 scales) on images of 896 x 896 and of 28 x 28."""
    from scripts.attention_cost import reader

    def deciding(side: int) -> Callable[[], Any]:
        agent, ask = reader("hard", side, 8)
        return lambda: agent.answer(ask())

    return deciding(896), deciding(28)


def _evaluation(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """1,000 answers at 100 x 100, table included, against the matrix products of their forward pass."""
    agent, batch = _scenes("ram-cluttered-100", 1000)
    task = STUDIES["ram-cluttered-100"].task
    layers = [m for m in agent.modules() if isinstance(m, torch.nn.Linear) and m is not agent.baseline]
    work = [(torch.rand(1000, m.in_features), torch.rand_like(m.weight)) for m in layers]

    def products() -> None:
        for _ in range(task.glimpses):
            for x, w in work:
                torch.mm(x, w.T)

    return lambda: agent.answer(batch().question), products


def _vector_env(options: Options, count: int) -> Callable[[], Any]:
    """Steps of our native vector environment on MNIST, 16 glimpses of 5 x 5, actions drawn beforehand."""
    from envs.digits import DigitsConfig
    from envs.vector import GlimpseVectorEnv

    task = DigitsConfig(source="mnist", height=28, width=28, positions=1, glimpses=16, side=5, scales=1)
    env = GlimpseVectorEnv(num_envs=count, task=task, data_dir=options.data_dir)
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    return lambda: env.step(action)


def _env_steps(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return _vector_env(options, 256), _ap_gym(options, 256)


def _native_against_single(name: str) -> Callable[[Options], tuple[Callable[[], Any], Callable[[], Any]]]:
    """Steps of 256 games, actions drawn beforehand: our native vector environment, and Gymnasium's around as many single ones."""

    def sides(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
        import gymnasium as gym

        single = functools.partial(gym.make, name, disable_env_checker=True)

        def stepping(vector: Any) -> Callable[[], Any]:
            vector.reset(seed=0)
            vector.action_space.seed(0)
            actions = itertools.cycle([vector.action_space.sample() for _ in range(16)])
            return lambda: vector.step(next(actions))

        return stepping(gym.make_vec(name, 256)), stepping(gym.vector.SyncVectorEnv([single] * 256))

    return sides


# Theirs


def _ap_gym(options: Options, count: int) -> Callable[[], Any]:
    """ap_gym's MNIST environment with its own settings (16 steps, 5 x 5), given the MNIST files that are here."""
    try:
        from ap_gym.envs.image import ImageClassificationDataset, ImagePerceptionConfig
        from ap_gym.envs.image_classification import ImageClassificationVectorEnv
    except ImportError as problem:
        raise ValueError(f"ap_gym is not installed ({problem}): pip install -e '.[peers]'") from None
    from envs.data import mnist

    images = mnist(options.data_dir)["train"]
    pixels, labels = images.pixels[:, 0, :, :, None].numpy(), images.labels.numpy()

    class Local(ImageClassificationDataset):
        def _get_num_classes(self) -> int:
            return 10

        def _get_num_channels(self) -> int:
            return 1

        def _get_length(self) -> int:
            return len(labels)

        def _get_data_point(self, idx: int) -> Any:
            return pixels[idx], labels[idx]

        def load(self) -> None:
            pass

    env = ImageClassificationVectorEnv(count, ImagePerceptionConfig(dataset=Local()))
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    return lambda: env.step(action)


def _peer_epoch(options: Options, name: str, batches: int) -> Callable[[], Any]:
    """`batches` updates by the trainer of recurrent-visual-attention, unchanged, at the sizes of study `name`."""
    assert options.peers is not None
    checkout = options.peers / "recurrent-visual-attention"
    if not (checkout / "trainer.py").exists():
        raise ValueError(
            f"expected a checkout of kevinzakka/recurrent-visual-attention at {checkout}, found no trainer.py in it"
        )
    import contextlib
    import io
    from types import ModuleType, SimpleNamespace

    # It imports a logger that no longer installs; its use is switched off below.
    logger: Any = ModuleType("tensorboard_logger")
    logger.configure = logger.log_value = lambda *arguments: None
    sys.modules.setdefault("tensorboard_logger", logger)
    sys.path.insert(0, str(checkout))
    try:
        from trainer import Trainer  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(checkout))
    task = STUDIES[name].task
    data = torch.utils.data.TensorDataset(
        torch.rand(128 * batches, 1, task.height, task.width), torch.randint(10, (128 * batches,))
    )
    loader = torch.utils.data.DataLoader(data, batch_size=128, shuffle=True)
    loader.sampler.indices = range(len(data))  # type: ignore[attr-defined]
    config = SimpleNamespace(
        use_gpu=False, is_train=True, patch_size=task.side, glimpse_scale=2, num_patches=task.scales, loc_hidden=128, glimpse_hidden=128,
        num_glimpses=task.glimpses, hidden_size=256, std=0.05, M=1, batch_size=128, init_lr=3e-4, momentum=0.5, epochs=1, lr_patience=20,
        train_patience=50, use_tensorboard=False, resume=False, print_freq=10, plot_freq=10**9, best=True, ckpt_dir="/tmp", logs_dir="/tmp",
        data_dir="/tmp", plot_dir="/tmp", show_progress=False, random_seed=0,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer = Trainer(config, (loader, loader))

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            trainer.train_one_epoch(1)

    return run


def _training_against_peer(name: str) -> Callable[[Options], tuple[Callable[[], Any], Callable[[], Any]]]:
    def sides(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
        batches = 8
        step = _training_step(name)
        return lambda: [step() for _ in range(batches)], _peer_epoch(options, name, batches)

    return sides


def _machine_against_peer(batch: int) -> Callable[[Options], tuple[Callable[[], Any], Callable[[], Any]]]:
    """Updates of a Neural Turing Machine on sequences of 10 vectors against those of pytorch-ntm, with the same sizes and its own optimiser."""

    def sides(options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
        from hardattn.learner import Learner

        assert options.peers is not None
        checkout = options.peers / "pytorch-ntm"
        if not (checkout / "ntm" / "aio.py").exists():
            raise ValueError(f"expected a checkout of loudinthecloud/pytorch-ntm at {checkout}, found no ntm/aio.py in it")
        study = STUDIES["ntm-copy"]
        task = dataclasses.replace(study.task, lengths=(LENGTH,), frozen=batch).build()
        learner = Learner(study.agent.build(task.spec), study.learner, 10**9)
        questions = next(task.batches(f"length-{LENGTH}", batch_size=batch))
        number = itertools.count()

        sys.path.insert(0, str(checkout))
        try:
            from ntm.aio import EncapsulatedNTM  # type: ignore[import-not-found]
        finally:
            sys.path.remove(str(checkout))
        config = study.agent
        sizes = (task.spec.inputs, task.spec.outputs, config.hidden, config.layers, config.heads, config.rows, config.columns)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of functions that torch has renamed since
            peer = EncapsulatedNTM(*sizes)
        optimizer = torch.optim.RMSprop(peer.parameters(), 1e-4, momentum=0.9, alpha=0.95)
        given, wanted = questions.question.input[:, : LENGTH + 1].transpose(0, 1), questions.target[:, -LENGTH:].transpose(0, 1)

        def update() -> None:
            """As its train.py does."""
            optimizer.zero_grad()
            peer.init_sequence(batch)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for vector in given:
                    peer(vector)
                answers = torch.stack([peer()[0] for _ in range(LENGTH)])
            torch.nn.functional.binary_cross_entropy(answers, wanted).backward()
            for parameter in peer.parameters():
                if parameter.grad is not None:
                    parameter.grad.clamp_(-10, 10)
            optimizer.step()

        return lambda: learner.update(questions, next(number)), update

    return sides


_STEP = "RAM training step ÷ the matrix products of its linear layers"

BENCHMARKS = {
    "ram-step-28": Benchmark(f"{_STEP}, 28 x 28, 6 glimpses", _step_against_products("ram-mnist")),
    "ram-step-60": Benchmark(f"{_STEP}, 60 x 60, 3 scales, 8 glimpses", _step_against_products("ram-translated-60")),
    "ram-step-100": Benchmark(f"{_STEP}, 100 x 100, 4 scales, 8 glimpses", _step_against_products("ram-cluttered-100")),
    "ram-step-28-two-threads": Benchmark(
        "as ram-step-28, two threads on both sides", _step_against_products("ram-mnist"), threads=2
    ),
    "ram-step-60-two-threads": Benchmark("as ram-step-60, two threads", _step_against_products("ram-translated-60"), threads=2),
    "lstm-step-28": Benchmark("training step with an LSTM core ÷ as published, 28 x 28, 6 glimpses", _lstm_step),
    "retina": Benchmark(
        "retina, times as fast as a loop over the images; 128 of 60 x 60, 3 scales", _retina, faster_is_more=True
    ),
    "scenes-100": Benchmark("drawing a batch of cluttered scenes ÷ a training step on it, 100 x 100", _scenes_against_step),
    "filterbank": Benchmark("filterbank read ÷ its two matrix products, 128 of 100 x 100", _filterbank),
    "hard-896": Benchmark("a hard decision on 896 x 896 ÷ on 28 x 28", _hard_growth),
    "evaluation-100": Benchmark("answers at 100 x 100 ÷ the matrix products of their forward pass", _evaluation),
    "env-steps": Benchmark(
        "environment steps/s, native vector of 256, times ap_gym's MNIST", _env_steps, faster_is_more=True, peer=True
    ),
    "tapes-steps": Benchmark(
        "steps/s of Gym's Copy, native vector of 256, times SyncVectorEnv's",
        _native_against_single("envs:hardattn/Copy-v0"),
        faster_is_more=True,
    ),
    "catch-steps": Benchmark("the same of Catch", _native_against_single("envs:hardattn/Catch-v0"), faster_is_more=True),
    "peer-28": Benchmark(
        "training images/s, times recurrent-visual-attention's, 28 x 28",
        _training_against_peer("ram-mnist"),
        faster_is_more=True,
        peer=True,
    ),
    "peer-100": Benchmark(
        "training images/s, times recurrent-visual-attention's, 100 x 100, 4 scales",
        _training_against_peer("ram-cluttered-100"),
        faster_is_more=True,
        peer=True,
    ),
    "ntm-batch-1": Benchmark(
        "NTM training sequences/s, times pytorch-ntm's, one at a time", _machine_against_peer(1), faster_is_more=True, peer=True
    ),
    "ntm-batch-16": Benchmark("the same, 16 at a time", _machine_against_peer(16), faster_is_more=True, peer=True),
}


def measure(benchmark: Benchmark, options: Options) -> Iterator[float]:
    """The ratio of every round."""
    torch.set_num_threads(benchmark.threads)
    torch.manual_seed(0)
    sides = benchmark.sides(options)
    for side in sides:
        _seconds(side, 3)  # the first calls are slower
    calls = [max(1, round(SECONDS / _seconds(side, 1))) for side in sides]
    for _ in range(ROUNDS):
        ours, theirs = (_seconds(side, count) / count for side, count in zip(sides, calls))
        yield theirs / ours if benchmark.faster_is_more else ours / theirs


def _seconds(work: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - began


def run_command() -> int:
    options = read_arguments(Options, "python scripts/benchmark.py")
    tune_for_cpu()
    names = options.names or [name for name, b in BENCHMARKS.items() if options.peers is not None or not b.peer]
    console, rows = Console(stderr=options.json == "-"), list[Row]()
    table = Table("name", "ratio", "of the rounds", "what")
    for name in names:
        console.print(f"measuring {name} ...", highlight=False)
        ratios = np.array(list(measure(BENCHMARKS[name], options)))
        low, value, high = ratios.min(), float(np.median(ratios)), ratios.max()
        rows.append({"name": name, "metric": "ratio", "value": value, "low": float(low), "high": float(high)})
        table.add_row(name, f"{value:.2f}", f"{low:.2f} to {high:.2f}", BENCHMARKS[name].sentence)
    console.print(table)
    if options.json is not None:
        write_rows(rows, options.json)
    return 0


if __name__ == "__main__":
    main(run_command)
