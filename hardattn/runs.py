"""A run on disk, and weights that stand on their own.

    runs/ram-digits-0/
        config.json                what was asked for; written before the first step
        metrics.jsonl              one line for every log
        events.out.tfevents...     the same for TensorBoard, with pictures
        checkpoints/step-00002000/ model.safetensors, optimizer.pt, progress.json
        best.safetensors           the weights with the lowest validation error so far

A checkpoint is a folder that gets its name when it is complete. Nothing that is loaded is executed: weights are safetensors, the
optimizer's state is read with `weights_only`.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

STEP, UNFINISHED = "step-", "unfinished-"


class Run:
    """A folder of a run. `create` makes a new one, `open` finds an old one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._board: Any = None
        self._purge: int | None = None

    @classmethod
    def create(cls, runs_dir: Path, name: str, config: dict[str, Any]) -> "Run":
        """A new folder `name` under `runs_dir`, or `name`-2, -3, ... if that is taken, with its configuration.

        Raises:
            ValueError: if the folder cannot be made.
        """
        number = 1
        while True:
            folder = Path(runs_dir) / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                if not folder.is_dir():
                    raise ValueError(f"{folder} is in the way: choose another folder with --runs-dir") from None
                number += 1
            except OSError as problem:
                raise ValueError(
                    f"cannot make a folder for the run at {folder}: {problem.strerror}. Choose another with --runs-dir"
                ) from None
        try:
            write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        except OSError as problem:
            shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(f"cannot write into {folder}: {problem.strerror}. Choose another with --runs-dir") from None
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in `folder`.

        Raises:
            ValueError: if there is none.
        """
        if not (Path(folder) / "config.json").is_file():
            raise ValueError(f"expected a run at {folder}, found no config.json in it")
        return cls(Path(folder))

    @property
    def config(self) -> dict[str, Any]:
        """What the run was made with."""
        path = self.folder / "config.json"
        try:
            config = json.loads(path.read_text())
        except (OSError, ValueError) as problem:
            raise ValueError(f"cannot read {path}: {problem}") from None
        if not isinstance(config, dict):
            raise ValueError(f"expected the configuration of a run in {path}, found {type(config).__name__}")
        return config

    # Numbers and pictures

    @property
    def board(self) -> Any:
        """TensorBoard's writer, made when first needed. After `rewind`, what lies beyond the resumed step is hidden."""
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder), purge_step=self._purge)
            self._purge = None  # a writer that is opened later hides nothing of what this one writes
        return self._board

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Append to metrics.jsonl and to TensorBoard."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": step} | numbers) + "\n")
        for name, value in numbers.items():
            self.board.add_scalar(name, value, step)

    def metrics(self) -> list[dict[str, int | float]]:
        """All that was logged; a last line cut short by a crash is left out."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        rows = []
        for i, line in enumerate(lines):
            try:
                rows.append(json.loads(line))
            except ValueError:
                if i + 1 < len(lines):
                    raise ValueError(f"{path} is damaged at line {i + 1}") from None
        return rows

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: it will be logged again."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        if (self.folder / "metrics.jsonl").exists():
            write_whole(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept).encode())
        for unfinished in (self.folder / "checkpoints").glob(f"{UNFINISHED}*"):  # a kill came while it was written
            shutil.rmtree(unfinished, ignore_errors=True)
        self._purge = step + 1

    def close(self) -> None:
        """Write out what is waiting."""
        if self._board is not None:
            board, self._board = self._board, None
            board.close()

    # Checkpoints

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted((self.folder / "checkpoints").glob(f"{STEP}*"))

    def save(
        self, step: int, weights: dict[str, Tensor], optimizer: dict[str, Any], progress: dict[str, Any], keep: int = 2
    ) -> None:
        """Save a checkpoint, whole or not at all, and drop all but the last `keep`.

        Raises:
            OSError: if the disk is full or cannot be written; the older checkpoints are then untouched.
        """
        final = self.folder / "checkpoints" / f"{STEP}{step:08d}"
        if final.exists():
            return
        unfinished = final.with_name(f"{UNFINISHED}{step:08d}")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            if self._board is not None:
                self._board.flush()  # or a kill would lose points that the resumed run does not draw again
            unfinished.mkdir(parents=True)
            write_whole(unfinished / "model.safetensors", to_safetensors(_plain(weights)))
            with open(unfinished / "optimizer.pt", "wb") as file:
                torch.save(optimizer, file)
                _flush(file)
            write_whole(unfinished / "progress.json", json.dumps({"step": step} | progress).encode())
            os.rename(unfinished, final)
        except (OSError, RuntimeError) as problem:  # torch reports a full disk as a RuntimeError
            shutil.rmtree(unfinished, ignore_errors=True)
            raise OSError(f"could not save a checkpoint at {final}: {problem}") from None
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]] | None:
        """(weights, optimizer state, progress) of the last checkpoint, or None if there is none.

        Raises:
            ValueError: if it is damaged; the message names the folder to remove.
        """
        found = self.checkpoints()
        if not found:
            return None
        last = found[-1]
        try:
            weights, _ = load_weights(last / "model.safetensors")
            optimizer = torch.load(last / "optimizer.pt", map_location="cpu", weights_only=True)
            progress = json.loads((last / "progress.json").read_text())
            if not (isinstance(optimizer, dict) and isinstance(progress, dict) and isinstance(progress.get("step"), int)):
                raise ValueError("it does not hold what a checkpoint holds")
        except Exception as problem:  # torch.load raises half a dozen types for a damaged file
            before = f"continue from {found[-2].name}" if len(found) > 1 else "start the run over"
            reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise ValueError(f"the checkpoint {last} is damaged ({reason}). Remove that folder to {before}") from None
        return weights, optimizer, progress


def save_weights(path: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    """One file that rebuilds a model: weights, with their configuration as JSON in the metadata. Written whole or not at all."""
    write_whole(path, to_safetensors(_plain(weights), metadata={"config": json.dumps(config)}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, configuration) of a file; the configuration is empty in a checkpoint.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            config = json.loads((file.metadata() or {}).get("config", "{}"))
    except FileNotFoundError:
        raise ValueError(f"expected weights at {path}, found no such file") from None
    except (SafetensorError, OSError, ValueError) as problem:
        raise ValueError(f"{path} holds no readable weights ({problem}). It is damaged or not a safetensors file") from None
    return weights, config


def load_into(module: torch.nn.Module, weights: dict[str, Tensor], origin: Path) -> None:
    """Give a module its weights.

    Raises:
        ValueError: if names or shapes differ, naming the first difference.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{origin} does not fit this model: {name} should be {expected.get(name, 'absent')} and is {found.get(name, 'absent')}. "
                "Use the configuration it was trained with"
            )
    module.load_state_dict(weights)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it when it is on disk: readers find the old one or the new one, never a part."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            _flush(file)
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in weights.items()}
