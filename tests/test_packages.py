"""The packages are the checkout's, from wherever one stands. (Another project, too, installs a package named `agents`.)"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hardattn", "envs", "agents")


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_packages_come_from_the_checkout(tmp_path):
    code = f"import {', '.join(PACKAGES)}; print(*(x.__file__ for x in ({', '.join(PACKAGES)})), sep='\\n')"
    found = python(tmp_path, "-c", code)
    assert found.returncode == 0, found.stderr
    assert [Path(line) for line in found.stdout.splitlines()] == [ROOT / name / "__init__.py" for name in PACKAGES]


@pytest.mark.slow
def test_scripts_run_from_another_folder(tmp_path):
    """All in one process, because torch takes seconds to import."""
    scripts = [str(path) for path in sorted((ROOT / "scripts").glob("*.py")) if "__main__" in path.read_text()]
    code = (
        "import runpy, sys\n"
        f"for script in {scripts}:\n"
        "    sys.argv = [script, '--help']\n"
        "    try: runpy.run_path(script, run_name='__main__')\n"
        "    except SystemExit as end: assert not end.code, script\n"
    )
    found = python(tmp_path, "-c", code)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("usage: python scripts/") == len(scripts) >= 5
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_help_does_not_wait_for_what_only_training_needs(tmp_path):
    code = (
        "import sys, scripts.train as train\n"
        "try:\n    train.parse(['ram-digits', '--help'], list(train.STUDIES), 'train')\n"
        "except SystemExit: pass\n"
        "print('loaded', *({'lightning_fabric', 'tensorboard', 'sklearn', 'matplotlib', 'scipy.stats'} & set(sys.modules)))"
    )
    found = python(ROOT, "-c", code)
    assert found.returncode == 0 and found.stdout.splitlines()[-1].strip() == "loaded", found.stdout[-200:] + found.stderr
