"""Ask a trained reader about stories of your own: `python scripts/answer.py WEIGHTS STORY.txt [options]`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import Tensor

from envs.stories import Asked, Told, own
from hardattn.checks import way
from hardattn.contract import Answer, StorySpec
from scripts.cli import main, read_arguments, write_rows
from scripts.studies import load_reader

NOTICED = 0.05
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
    options = read_arguments(Options, "python scripts/answer.py")
    agent, spec = load_reader(options.model)
    how = way(options.how, agent.hows)
    stories, question = own(options.story, spec)
    answer = agent.answer(question, how, options.seed)
    if options.json is not None:
        write_rows(_rows(stories, answer, spec), options.json)
    if options.json != "-":
        _show(Console(), stories, answer, spec)
    return 0


def _read(stories: list[Told], answer: Answer) -> Iterator[tuple[Told, Asked, Tensor, Tensor]]:
    """Every question in its story, the weights [hops, lines] of the sentences before it in their order, and those [hops] of memory that holds none."""
    assert answer.trace.weights is not None
    every = ((story, asked) for story in stories for asked in story.asked)
    for (story, asked), weights in zip(every, answer.trace.weights):
        yield story, asked, weights[:, : asked.before].flip(1), weights[:, asked.before :].sum(1)


def _rows(stories: list[Told], answer: Answer, spec: StorySpec) -> list[dict[str, object]]:
    """One for every question: the answer, its probability, and for every hop the likeliest sentence, its line and its weight, and the weight of
    memory without a sentence."""
    rows = []
    for (story, asked, of_lines, of_nothing), probabilities in zip(_read(stories, answer), answer.output.exp()):
        best, hops = int(probabilities.argmax()), []
        for weights, nothing in zip(of_lines, of_nothing.tolist()):
            hop: dict[str, object] = {"no-sentence": nothing}
            if len(weights):
                line = story.sentences[int(weights.argmax())]
                hop = {"line": line.line, "sentence": " ".join(line.words), "weight": float(weights.max()), **hop}
            hops.append(hop)
        rows.append(
            {
                "line": asked.line,
                "question": " ".join(asked.words),
                "answer": spec.vocabulary[best],
                "probability": float(probabilities[best]),
                "hops": hops,
            }
        )
    return rows


def _show(console: Console, stories: list[Told], answer: Answer, spec: StorySpec) -> None:
    """Under every question the sentences that came before it, with the weight of every hop beside them."""
    for (story, asked, of_lines, of_nothing), probabilities in zip(_read(stories, answer), answer.output.exp()):
        best = int(probabilities.argmax())
        shown = Table("line", "sentence", *(f"hop {hop + 1}" for hop in range(len(of_lines))), title_justify="left")
        for line, weights in zip(story.sentences, of_lines.T):
            shown.add_row(str(line.line), " ".join(line.words), *map(_cell, weights.tolist()))
        if (of_nothing >= NOTICED).any():
            shown.add_row("", Text("(memory without a sentence)", style="dim"), *map(_cell, of_nothing.tolist()))
        said, right = spec.vocabulary[best], ""
        if asked.answer is not None:
            right = ", right" if said == asked.answer else f", expected {asked.answer}"
        told = f"({100 * probabilities[best]:.0f} %{right})"
        console.print(f"{escape(' '.join(asked.words))}? [bold]{escape(said)}[/] {escape(told)}")
        console.print(shown)


def _cell(weight: float) -> Text:
    return Text(f"{weight:.2f}" if weight >= NOTICED else "", style="bold" if weight >= 0.5 else "")


if __name__ == "__main__":
    main(run_command)
