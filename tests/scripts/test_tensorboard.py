"""TensorBoard itself, as people open it: what a comparison wrote can be seen in a browser."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from PIL import Image

from hardattn import figures
from hardattn.runs import Run
from scripts.compare import board
from scripts.studies import STUDIES, Trained

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RUNS = {"ram-digits": 80.0, "soft-digits": 70.0, "draw-digits": 60.0}
IMAGES = {
    *(f"attention/ram-digits/{name}" for name in ("glimpses", "seen", "fixations")),
    *("attention/soft-digits/attention", "attention/draw-digits/windows", "comparison/bars"),
}
BARS = figures.error_bars([figures.Bar("ram-digits", 80.0, 78.0, 82.0)])


@pytest.fixture(scope="module")
def logdir(tmp_path_factory) -> Path:
    """The board of three models that have learned nothing, with curves made up."""
    folder = tmp_path_factory.mktemp("board")
    models = []
    for name, error in RUNS.items():
        study = STUDIES[name]
        task = replace(study.task, height=24, width=24, positions=1, glimpses=3, scales=1).build(folder)
        torch.manual_seed(0)
        agent = replace(study.agent, hidden=8).build(task.spec).eval()
        run = Run.create(folder / "runs", f"{name}-0", {})
        for step in (100, 200, 300):
            run.log(step, {"validation/mean": error / step})
        run.close()
        models.append(Trained(name, 0, study, agent, task, run.folder))
    board(folder / "board", models, {"bars": BARS}, "| model |\n| --- |\n| ram-digits |\n")
    return folder / "board"


@pytest.fixture(scope="module")
def address(logdir):
    """Of a TensorBoard that serves it."""
    said = logdir.parent / "tensorboard.err"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tensorboard.main",
        "--logdir",
        logdir,
        "--port",
        "0",
        "--host",
        "127.0.0.1",
    ]
    with open(said, "w") as err, subprocess.Popen(command, stdout=err, stderr=err, cwd=logdir.parent) as server:
        try:
            end = time.monotonic() + 120
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", said.read_text())):
                assert server.poll() is None and time.monotonic() < end, said.read_text()
                time.sleep(0.1)
            # It reads the files in a thread of its own; what was written last comes last.
            while "comparison/bars" not in json.loads(get(found[0], "plugin/images/tags")).get(".", ()):
                assert time.monotonic() < end, "the pictures do not come"
                time.sleep(0.1)
            yield found[0]
        finally:
            server.terminate()
            server.wait(30)


def get(address: str, path: str, **query: Any) -> bytes:
    url = f"{address}/data/{path}" + (f"?{urlencode(query)}" if query else "")
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


@pytest.mark.slow
def test_tensorboard_serves_curves_and_pictures(address):
    assert json.loads(get(address, "runs")) == ["."]
    assert set(json.loads(get(address, "plugin/images/tags"))["."]) == IMAGES
    assert set(json.loads(get(address, "plugin/scalars/tags"))["."]) == {f"validation error/{name}-0" for name in RUNS}
    for name, error in RUNS.items():
        points = json.loads(get(address, "plugin/scalars/scalars", run=".", tag=f"validation error/{name}-0"))
        assert [(step, value) for _, step, value in points] == [(s, pytest.approx(error / s)) for s in (100, 200, 300)]
    (shown,) = json.loads(get(address, "plugin/images/images", run=".", tag="comparison/bars"))
    assert get(address, "plugin/images/individualImage?" + shown["query"]) == figures.png_bytes(BARS)


@pytest.mark.slow
def test_the_chart_of_all_curves_finds_them(address):
    """The layout names tags by regular expressions."""
    layout = json.loads(get(address, "plugin/custom_scalars/layout"))
    ((chart,),) = (category["chart"] for category in layout["category"])
    for name, pattern in zip(RUNS, chart["multiline"]["tag"], strict=True):
        found = json.loads(get(address, "plugin/custom_scalars/scalars", run=".", tag=pattern))
        assert found["regex_valid"] and set(found["tag_to_events"]) == {f"validation error/{name}-0"}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium, chromium-browser or google-chrome")
def test_a_browser_shows_the_pictures(address, tmp_path):
    arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", "--virtual-time-budget=20000")
    page = f"{address}/#images"
    told = {"capture_output": True, "text": True, "timeout": 120, "cwd": tmp_path}
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    ended = subprocess.run([BROWSER, *arguments, profile, "--screenshot=page.png", page], **told)
    assert (tmp_path / "page.png").exists(), ended.stderr
    with Image.open(tmp_path / "page.png") as picture:
        pixels = np.asarray(picture.convert("L")).astype(float)
    assert pixels.std() > 10 and len(np.unique(pixels)) > 20, "the page is blank"
    seen = subprocess.run([BROWSER, *arguments, profile, "--dump-dom", page], **told).stdout
    assert "<title>TensorBoard</title>" in seen
