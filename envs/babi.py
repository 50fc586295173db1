"""The bAbI tasks: read a short story, answer a question in one word (Weston et al. 2015, "Towards AI-Complete Question Answering").

The files are those of version 1.2, put in place by the user, or the user's own; five of the tasks can be generated instead (`envs/tales.py`). A
tenth of every task's training questions, the same whatever tasks are trained together, is held out for validation. Held-out questions are drawn one
by one, as in the published experiments (Sukhbaatar et al. 2015, Section 4.2), so that other questions about the same story may be among those
trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from envs.numbered import classification_error, in_order
from envs.stories import Told, encode, longest, must_fit, parse, read, vocabulary
from envs.tales import TALES, tale
from hardattn.checks import at_least_one, literals
from hardattn.contract import Answer, Batch, StorySpec
from hardattn.noise import integers, keys, permutation

FOLDER = Path("babi") / "tasks_1-20_v1-2"


@dataclass(frozen=True)
class BabiConfig:
    """Which tasks, and how much of them."""

    tasks: Sequence[int] = tuple(range(1, 21))
    """Numbers of the tasks; several are trained together, with one vocabulary. Your own stories are one task."""
    size: Literal["1k", "10k"] = "1k"
    """Training questions of every task in the files. Where the larger set has no training file of task 3, the smaller one's is used."""
    source: Literal["files", "generated", "own"] = "files"
    """The published files, stories made up on the spot, or your own in the same format: --train-file and --test-file."""
    train_file: str | None = None
    """Your own stories to train on, at least 10 questions, of which a tenth is held out for validation; for source "own"."""
    test_file: str | None = None
    """Your own stories to test on; for source "own"."""
    memory: int = 50
    """So many of a story's last sentences are kept. Your own stories must not be longer."""
    generated: int = 1000
    """Questions of every task that are made up, to train and validate on and as many again for testing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))  # JSON gives a list back
        literals(self)
        if self.source == "own":
            object.__setattr__(self, "tasks", (1,))
        for name in ("train_file", "test_file"):  # a run is found again from any folder
            if (file := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(Path(file).absolute()))
        if self.train_file is not None and self.train_file == self.test_file:
            raise ValueError(f"expected different stories to train and to test on, found {self.train_file} for both")
        at_least_one(self, "memory")
        if self.generated < 10:
            raise ValueError(f"generated must be at least 10, so that a tenth can be held out; found {self.generated}")
        if self.source != "own" and (self.train_file or self.test_file):
            raise ValueError(f'train_file and test_file are for source "own", found them with {self.source!r}')
        known = tuple(TALES) if self.source == "generated" else tuple(range(1, 21))
        if not self.tasks or len(set(self.tasks)) < len(self.tasks) or not set(self.tasks) <= set(known):
            raise ValueError(f"tasks must be different numbers out of {', '.join(map(str, known))}; found {self.tasks}")

    def build(self, data_dir: Path = Path("data")) -> "Babi":
        return Babi(self, data_dir)


class Babi:
    """A task (see `hardattn.contract.Task`) of `envs.stories.Story`s. The targets are the answers' ids; the notes say which slots support them.

    Raises:
        ValueError: if a file is missing or not in the format.
    """

    def __init__(self, config: BabiConfig, data_dir: Path = Path("data")) -> None:
        self.config = config
        stories = [self._stories(task, split, data_dir) for split in ("train", "test") for task in config.tasks]
        everything = [story for part in stories for story in part]
        self.spec = StorySpec(vocabulary(everything), config.memory, longest(everything))
        self.questions = encode(everything, self.spec)
        counts = [sum(len(story.asked) for story in part) for part in stories]
        self._annotated = bool((self.questions.supports >= 0).any())
        every = torch.arange(sum(counts)).split(counts)
        self._index = {"train": [], "validation": [], "test": list(every[len(config.tasks) :])}
        for task, index in zip(config.tasks, every):
            order = permutation(0, f"babi validation {task}", len(index))
            self._index["validation"].append(index[order[: len(index) // 10]])
            self._index["train"].append(index[order[len(index) // 10 :]])
        self._splits = {split: torch.cat(parts) for split, parts in self._index.items()}
        self._splits |= dict(zip((f"task-{task}" for task in config.tasks), self._index["test"])) | {
            "mean": self._splits["test"]
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """The test questions of every task, if there are several, and last those of all: tasks are equally large, so theirs is the mean over tasks."""
        return (*(f"task-{task}" for task in self.config.tasks), "mean") if len(self.config.tasks) > 1 else ()

    def size(self, split: str) -> int:
        """Questions of a split, or of a task's part of the test set."""
        if split not in self._splits:
            raise ValueError(f'split must be "train", "validation" or "test", found {split!r}')
        return len(self._splits[split])

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Questions by number. Those to train on are drawn with replacement, as a function of the seed, from all tasks alike."""
        size, within = self.size(split), self._splits[split]
        key = keys(seed if split == "train" else 0, f"babi {split}", index)
        question = within[integers(key, 1, size)[:, 0] if split == "train" else index]
        return Batch(*self.questions.story(question, self.config.memory, key))

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `envs.numbered.in_order`. A split may also be one of `parts`."""
        return in_order(self, split, batch_size=batch_size, seed=seed, start=start)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """`error`, in percent, and, of an answer whose trace has `weights`, `supporting-hits`.

        That is the part of the hops, in percent, whose likeliest slot is one of the annotated supporting facts. Each hop counts, also when it
        reads a fact that an earlier one has read. A question whose facts are all forgotten can have none; stories without annotations have no such number.
        """
        scores = {"error": classification_error(answer, batch)}
        if answer.trace.weights is not None and self._annotated:
            weights = answer.trace.weights
            likeliest = (weights == weights.amax(-1, keepdim=True)).float()  # of several that are alike each counts in part
            hits = (likeliest * batch.notes[:, None]).sum(-1) / likeliest.sum(-1)
            scores["supporting-hits"] = hits.mean(1) * 100
        return scores

    def _stories(self, task: int, split: str, data_dir: Path) -> list[Told]:
        if self.config.source == "files":
            return read(_file(Path(data_dir) / FOLDER, task, split, self.config.size))
        if self.config.source == "own":
            name = self.config.train_file if split == "train" else self.config.test_file
            if name is None:
                raise ValueError(f"expected your own stories to {split} on: --train-file FILE and --test-file FILE, found none")
            stories = read(Path(name))
            count = sum(len(story.asked) for story in stories)
            if split == "train" and count < 10:
                raise ValueError(
                    f"{name}: expected at least 10 questions to train on, of which a tenth is held out; found {count}"
                )
            must_fit(stories, self.config.memory)
            return stories
        stories = []
        missing = self.config.generated
        while missing > 0:
            index = len(stories)
            told = tale(task, int(split == "test"), index)
            [story] = parse(told, f"generated {split} story {index} of task {task}")
            stories.append(story._replace(asked=story.asked[:missing]))
            missing -= len(story.asked)
        return stories


def _file(folder: Path, task: int, split: str, size: str) -> Path:
    """Where a task's questions are. Many copies lack task 3's training file of 10,000: the one of 1,000 then stands in for it."""
    folders = [folder / "en"] if size == "1k" else [folder / "en-10k"]
    if (task, split) == (3, "train"):
        folders.append(folder / "en")
    name = f"qa{task}_*_{split}.txt"
    for place in folders:
        found = sorted(place.glob(name))
        if len(found) > 1:
            raise ValueError(
                f"expected one file {name} in {place}, found {len(found)}: {', '.join(path.name for path in found)}"
            )
        if found:
            return found[0]
    raise ValueError(
        f"expected task {task} of bAbI at {folders[0] / name}, found no such file. Put the folder tasks_1-20_v1-2 of bAbI into "
        f"{folder.parent}, or say where the folder that holds {FOLDER.parent} is: --data-dir FOLDER; "
        "or train on stories made up here: python scripts/train.py memn2n-stories"
    )
