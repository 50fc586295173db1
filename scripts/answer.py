"""Ask a trained reader about stories of your own: `python scripts/answer.py WEIGHTS STORY.txt [options]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from envs.stories import Story, Told, own, spoken
from hardattn.checks import way
from hardattn.contract import Answer, StorySpec
from scripts.cli import main, write_rows
from scripts.studies import load_reader

NOTICED = 0.1
"""A hop's weight that is worth a number; less is left out."""


@dataclass(frozen=True)
class Options:
    """Read a story, answer its questions, and show what every hop looked at.

    A story is numbered lines, and a question is a line that ends in a question mark, wherever it stands; it is about the lines before it:

        1 Mary moved to the bathroom.
        2 John went to the hallway.
        3 Where is Mary?

    The number 1 begins another story. An answer and the numbers of the lines that support it may follow a question, each after a tab; then it is
    said whether the answer was right. Only words that the reader has met in training can be used.
    """

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or a .safetensors file, of a memory network."""
    story: Annotated[Path, tyro.conf.Positional]
    """A text file."""
    how: str | None = None
    """The way of reading: soft, argmax or sampled. Default: the reader's usual one."""
    seed: int = 0
    """Of the noise in sampled."""
    json: str | None = None
    """Write the answers as JSON to this file; "-" for standard output."""


def run_command() -> int:
    options = tyro.cli(Options, prog="python scripts/answer.py")
    agent, spec = load_reader(options.model)
    how = way(options.how, agent.hows)
    stories, question = own(options.story, spec)
    answer = agent.answer(question, how, options.seed)
    if options.json is not None:
        write_rows(_rows(answer, question, spec), options.json)
    if options.json != "-":
        _show(Console(), stories, question, answer, spec)
    return 0


def _rows(answer: Answer, question: Story, spec: StorySpec) -> list[dict[str, object]]:
    """One for every question: the answer, its probability, and for every hop the likeliest sentence with its weight."""
    assert answer.trace.weights is not None
    rows = []
    for i, probabilities in enumerate(answer.output.exp()):
        best = int(probabilities.argmax())
        hops = []
        for weights in answer.trace.weights[i]:
            slot = int(weights.argmax())
            hops.append({"sentence": spoken(question.sentences[i, slot], spec), "weight": float(weights[slot])})
        rows.append(
            {
                "question": spoken(question.query[i], spec),
                "answer": spec.vocabulary[best],
                "probability": float(probabilities[best]),
                "hops": hops,
            }
        )
    return rows


def _show(console: Console, stories: list[Told], question: Story, answer: Answer, spec: StorySpec) -> None:
    """Under every question the sentences that came before it, with the weight of every hop beside them."""
    assert answer.trace.weights is not None
    i = 0
    for story in stories:
        for asked in story.asked:
            weights, probabilities = answer.trace.weights[i], answer.output[i].exp()
            best = int(probabilities.argmax())
            shown = Table("line", "sentence", *(f"hop {hop + 1}" for hop in range(len(weights))), title_justify="left")
            for slot in range(asked.before - 1, -1, -1):
                line = story.sentences[asked.before - 1 - slot]
                cells = [Text(f"{w:.2f}" if w >= NOTICED else "", style="bold" if w >= 0.5 else "") for w in weights[:, slot]]
                shown.add_row(str(line.line), " ".join(line.words), *cells)
            right = (
                ""
                if asked.answer is None
                else ", right"
                if spec.vocabulary[best] == asked.answer
                else f", expected {asked.answer}"
            )
            console.print(
                f"{' '.join(asked.words)}? [bold]{spec.vocabulary[best]}[/] ({100 * probabilities[best]:.0f} %{right})"
            )
            console.print(shown)
            i += 1


if __name__ == "__main__":
    main(run_command)
