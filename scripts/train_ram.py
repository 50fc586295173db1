"""Train the Recurrent Attention Model: `python scripts/train_ram.py [PRESET] [options]`. Without a preset it learns the embedded digits."""

import sys

from scripts.cli import main
from scripts.studies import STUDIES
from scripts.train import parse, train

PRESETS = [name.removeprefix("ram-") for name in STUDIES if name.startswith("ram-")]


def run_command() -> int:
    return train(*parse(sys.argv[1:], PRESETS, "python scripts/train_ram.py", prefix="ram-", default="digits"))


if __name__ == "__main__":
    main(run_command)
