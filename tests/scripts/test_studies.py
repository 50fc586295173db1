"""Every study can be run by its name, and what `--help` says of it is true."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.glimpse import ask
from hardattn.contract import Batch
from hardattn.noise import keys
from tests.scripts.processes import run

DATA = os.environ.get("HARDATTN_DATA", "")
ON_IMAGES = ["ram-digits", "ram-mnist", "ram-translated-60", "ram-cluttered-60", "ram-cluttered-100"]
PRESETS = [*ON_IMAGES, "ram-catch"]
PLACES = ["digits", "translated-60", "cluttered-60", "cluttered-100"]
WHO = [
    *("grid-gaze", "random-gaze", "centre-gaze", "raster-gaze", "draw", "bilinear"),
    *("soft", "fc-64", "fc-256", "conv", "matched-conv", "deep-conv"),
]
CONTENDERS = [f"{who}-{where}" for where in PLACES for who in WHO]
ON_MNIST = [name for name in (*ON_IMAGES, *CONTENDERS) if not name.endswith("-digits")]
ON_STORIES = ["memn2n-babi-1k", "memn2n-babi-10k", "memn2n-babi-1k-hard", "memn2n-stories", "memn2n-own"]
ALGORITHMS = ["copy", "repeat-copy", "recall", "ngrams", "sort"]
ON_SEQUENCES = [f"{who}-{what}" for what in ALGORITHMS for who in ("ntm", "ntm-ff", "ntm-hard", "lstm")]
ON_SEQUENCES += [f"ntm-tape-{what}" for what in ("copy", "duplicated-input", "reverse", "repeat-copy")]
ON_TAPES = [f"player-{what}" for what in ("Copy", "DuplicatedInput", "RepeatCopy", "Reverse", "ReversedAddition")]
EXERCISES = [f"rlntm-{what}" for what in ("copy", "duplicated", "reverse", "repeatcopy", "forwardreverse")]
GAMES = ["ram-catch", "random-gaze-catch", "full-view-catch", *ON_TAPES, *EXERCISES]
WITHOUT_DATA = ["memn2n-stories", *ON_SEQUENCES, *GAMES]


@pytest.fixture(scope="module")
def studies():
    from scripts.studies import STUDIES

    return STUDIES


def agent_of(study, folder):
    task = study.task.build(folder)
    return study.agent.build(task.spec), task


def test_every_study_is_tested(studies):
    """And a contender is on every task that it shares with RAM."""
    assert [name for name in studies if name.startswith("ram-")] == PRESETS
    others = {*ON_STORIES, *ON_SEQUENCES, *GAMES, "player-circle-square"}
    assert list(studies)[: len(ON_IMAGES + CONTENDERS)] == [*ON_IMAGES, *CONTENDERS]
    assert set(studies) == {*ON_IMAGES, *CONTENDERS} | others


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_a_study_that_needs_no_data_can_take_a_step(studies, tmp_path, name):
    study = studies[name]
    if name == "memn2n-stories":  # a thousand of each kind take long to make up
        study = dataclasses.replace(study, task=dataclasses.replace(study.task, generated=20))
    agent, task = agent_of(study, tmp_path)
    loss = agent(next(task.batches("train", batch_size=2)))
    loss.total.backward()
    assert loss.total.isfinite() and all(p.grad.isfinite().all() for p in agent.parameters() if p.grad is not None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option", "drawn"),
    [
        ("memn2n-stories", ("--generated", 20), {"hops.png"}),
        ("ntm-recall", ("--frozen", 20), {"memory-items-20.png", "bits.png", "bits-by-items.png"}),
        ("lstm-copy", ("--frozen", 20), {"output.png", "output-length-50.png", "bits.png", "wrong-bits-by-length.png"}),
        ("ram-catch", ("--frozen", 1), {"episodes.png", "animation.gif", "return.png"}),
        ("player-Copy", ("--frozen", 4), {"episodes.png", "heads.png", "animation.gif", "return.png", "return-by-level.png"}),
        ("rlntm-reverse", ("--frozen", 4), {"heads-input.png", "heads-memory.png", "level.png", "animation.gif"}),
    ],
)
def test_a_study_of_every_kind_runs(tmp_path, name, option, drawn):
    """From the command line to the rows of its test set, and its pictures."""
    ended = run("train", name, "--steps", 2, "--batch-size", 4, "--log-every", 1, *option, folder=tmp_path)
    assert ended.code == 0, ended.text
    from scripts.studies import load_trained

    rows = json.loads((tmp_path / "runs" / f"{name}-0" / "test.json").read_text())
    parts = getattr(load_trained(tmp_path / "runs" / f"{name}-0", tmp_path).task, "parts", ())
    assert not parts or {row["name"] for row in rows} >= set(parts)
    on_board = {
        "ntm-recall": {"memory", "memory-items-20", "bits", "bits-by-items"},  # also sizes that it was never trained on
        "player-Copy": {"episodes", "heads", "return"},
        "rlntm-reverse": {"heads-input", "heads-memory", "level"},
    }
    if name in on_board:
        board = EventAccumulator(str(tmp_path / "runs" / f"{name}-0"), size_guidance={"images": 0}).Reload()
        assert on_board[name] <= set(board.Tags()["images"])
    ended = run("visualize", tmp_path / "runs" / f"{name}-0", "--out", "pictures", "--split", "test", folder=tmp_path)
    found = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert ended.code == 0 and found >= {"learning.png", "policies.png", *drawn}, ended.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ram-digits", *(f"{who}-digits" for who in WHO)])
def test_a_study_of_the_digits_runs(studies, tmp_path, name):
    """With its own sizes, on fewer frozen scenes."""
    ended = run("train", name, "--steps", 2, "--batch-size", 16, "--positions", 1, "--no-pictures", folder=tmp_path)
    assert ended.code == 0, ended.text
    rows = json.loads((tmp_path / "runs" / f"{name}-0" / "test.json").read_text())
    hows = agent_of(studies[name], tmp_path)[0].hows
    assert [row["name"] for row in rows] == [how for how in hows for _ in range(12)]


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="needs MNIST: HARDATTN_DATA names the folder that holds MNIST/raw")
@pytest.mark.parametrize("name", [name for name in ON_IMAGES if name != "ram-digits"])
def test_a_preset_runs_on_mnist(studies, tmp_path, name):
    ended = run("train", name, "--steps", 2, "--no-pictures", "--data-dir", Path(DATA).absolute(), folder=tmp_path)
    assert ended.code == 0, ended.text
    assert len(json.loads((tmp_path / "runs" / f"{name}-0" / "test.json").read_text())) == 6 * 12


@pytest.mark.parametrize("name", ON_MNIST)
def test_a_study_on_mnist_fits_its_task(studies, tmp_path, name):
    """Noise of the scenes' size is enough to know: there need be no data."""
    agent, task = agent_of(studies[name], tmp_path)
    height, width, n = task.config.height, task.config.width, 3
    question = ask(
        torch.rand(n, 1, height, width), torch.rand(n, 2) * 2 - 1, keys(0, "noise", torch.arange(n)), task.config.eye
    )
    loss = agent.loss(Batch(question, torch.arange(n)))
    loss.total.backward()
    assert loss.total.isfinite() and all(p.grad.isfinite().all() for p in agent.parameters() if p.grad is not None)
    for how in agent.hows:
        probabilities = agent.answer(question, how).output.exp()
        assert probabilities.shape == (n, 10)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(n))


def test_contenders_differ_from_ram_in_the_agent_alone(studies):
    for where in PLACES:
        published = studies[f"ram-{where}"]
        agents = {studies[f"{who}-{where}"].agent for who in WHO} | {published.agent}
        assert len(agents) == len(WHO) + 1
        for who in WHO:
            study = studies[f"{who}-{where}"]
            assert (study.task, study.learner, study.fit) == (published.task, published.learner, published.fit)
            assert study.sentence.endswith(f", on {where}")


def test_a_study_survives_its_configuration_file(studies):
    for study in studies.values():
        again = type(study).from_json(json.loads(json.dumps(study.to_json())))
        assert again == dataclasses.replace(study, sentence="")


def test_the_studies_are_the_published_ones(studies):
    """Canvas, pieces, glimpses, pixels a side and scales of Mnih et al. 2014, Tables 1 and 2."""
    published = {
        "ram-mnist": (28, 0, 6, 8, 1),
        "ram-translated-60": (60, 0, 8, 12, 3),
        "ram-cluttered-60": (60, 4, 8, 12, 3),
        "ram-cluttered-100": (100, 8, 8, 12, 4),
    }
    for name, sizes in published.items():
        task = studies[name].task
        assert (task.height, task.pieces, task.glimpses, task.side, task.scales) == sizes and task.width == task.height


@pytest.mark.parametrize(
    ("who", "sizes"),
    [
        ("ntm-ff", [(1, 1, 100), (1, 1, 100), (4, 1, 256), (1, 1, 100), (8, 1, 512)]),  # Table 1
        ("ntm", [(1, 1, 100), (1, 1, 100), (4, 1, 256), (1, 1, 100), (5, 2, 100)]),  # Table 2, but for recall: Table 1
        ("ntm-hard", [(1, 1, 100), (1, 1, 100), (4, 1, 256), (1, 1, 100), (5, 2, 100)]),  # as those that are soft
        ("lstm", [(0, 3, 256), (0, 3, 512), (0, 3, 256), (0, 3, 128), (0, 3, 128)]),  # Table 3
    ],
)
def test_machines_have_the_published_sizes(studies, who, sizes):
    """Heads, layers and units of Graves et al. 2014."""
    for task, expected in zip(("copy", "repeat-copy", "recall", "ngrams", "sort"), sizes):
        agent = studies[f"{who}-{task}"].agent
        assert (getattr(agent, "heads", 0), agent.layers, agent.hidden) == expected, task
        assert (getattr(agent, "rows", 128), getattr(agent, "columns", 20)) == (128, 20)


def test_hard_machines_differ_from_soft_ones_in_their_access(studies):
    """And in what that needs: rows that do not begin short, and smaller gradients."""
    for task in ALGORITHMS:
        hard, soft = studies[f"ntm-hard-{task}"], studies[f"ntm-{task}"]
        hardened = dataclasses.replace(soft.agent, access="straight-through", constant=0.1)
        assert hard.agent == hardened and hard.task == soft.task
        assert hard.learner == dataclasses.replace(soft.learner, clip=10.0), task


def test_own_stories_from_training_to_answers(tmp_path):
    """Also from another folder, and not when their words have changed."""
    for name in ("train", "test"):
        lines = (
            f"1 Mary went to the {place}.\n2 Where is Mary?\t{place}\t1\n" for place in ("hall", "garden") for _ in range(6)
        )
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    own = ("memn2n-own", "--train-file", "train.txt", "--test-file", "test.txt", "--steps", 4, "--no-pictures")
    ended = run("train", *own, folder=tmp_path)
    trained, elsewhere = tmp_path / "runs" / "memn2n-own-0", tmp_path / "elsewhere"
    assert ended.code == 0 and not EventAccumulator(str(trained)).Reload().Tags()["images"], ended.text
    elsewhere.mkdir()
    assert run("evaluate", trained, folder=elsewhere).code == 0
    assert "where is mary?" in run("answer", trained, "train.txt", folder=tmp_path).out
    for name in ("train", "test"):
        path = tmp_path / f"{name}.txt"
        path.write_text(path.read_text().replace("garden", "zoo"))
    ended = run("evaluate", trained, folder=tmp_path)
    assert ended.code == 2 and "the stories have other words than those that" in ended.err, ended.text
    ended = run("train", "memn2n-own", folder=tmp_path)
    assert ended.code == 2 and "--train-file FILE and --test-file FILE" in ended.err


@pytest.mark.parametrize(("script", "prefix"), [("train", ""), ("train_ram", "ram-")])
def test_help_lists_every_study_with_a_sentence(studies, tmp_path, script, prefix):
    ended = run(script, "--help", folder=tmp_path)
    assert ended.code == 0 and ended.err == ""
    text = " ".join(ended.out.split())
    for name in (name for name in studies if name.startswith(prefix)):
        assert name.removeprefix(prefix) in text and " ".join(studies[name].sentence.split()[:4]) in text
    of_one = run(script, "ram-digits".removeprefix(prefix), "--help", folder=tmp_path)
    assert of_one.code == 0
    for option in ("--seed", "--steps", "--data-dir", "--device", "--precision", "--runs-dir", "--resume", "--std"):
        assert option in of_one.out


def test_without_a_study_they_are_listed(tmp_path):
    ended = run("train", folder=tmp_path)
    assert ended.code == 2 and all(name in ended.text for name in (*PRESETS, *CONTENDERS))


def test_the_presets_of_ram_have_a_script_of_their_own(tmp_path):
    ended = run("train_ram", "soft-digits", folder=tmp_path)
    assert ended.code == 2 and "found 'soft-digits'" in ended.err and not (tmp_path / "runs").exists()
