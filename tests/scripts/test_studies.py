"""Every study can be run by its name, and what `--help` says of it is true."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from tests.scripts.processes import run

DATA = os.environ.get("HARDATTN_DATA", "")
STUDIES = ["ram-digits", "ram-mnist", "ram-translated-60", "ram-cluttered-60", "ram-cluttered-100"]


@pytest.fixture(scope="module")
def studies():
    from scripts.studies import STUDIES

    return STUDIES


def test_every_study_is_tested(studies):
    assert list(studies) == STUDIES


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs(studies, tmp_path, name):
    """With its own sizes."""
    data = []
    if studies[name].task.source == "mnist":
        if not DATA:
            pytest.skip("HARDATTN_DATA names no folder that holds MNIST/raw")
        data = ["--data-dir", Path(DATA).absolute()]
    ended = run("train", name, "--steps", 2, "--no-pictures", *data, folder=tmp_path)
    assert ended.code == 0, ended.text
    folder = tmp_path / "runs" / f"{name}-0"
    assert len(json.loads((folder / "test.json").read_text())) == 6 * 12


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


@pytest.mark.parametrize(("script", "prefix"), [("train", ""), ("train_ram", "ram-")])
def test_help_lists_every_study_with_a_sentence(studies, tmp_path, script, prefix):
    ended = run(script, "--help", folder=tmp_path)
    assert ended.code == 0 and ended.err == ""
    text = " ".join(ended.out.split())
    for name in STUDIES:
        assert name.removeprefix(prefix) in text and " ".join(studies[name].sentence.split()[:4]) in text
    of_one = run(script, "ram-digits".removeprefix(prefix), "--help", folder=tmp_path)
    assert of_one.code == 0
    for option in ("--seed", "--steps", "--data-dir", "--device", "--precision", "--runs-dir", "--resume", "--std"):
        assert option in of_one.out


def test_without_a_study_they_are_listed(tmp_path):
    ended = run("train", folder=tmp_path)
    assert ended.code == 2 and "ram-cluttered-100" in ended.text
