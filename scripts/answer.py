"""Ask a trained model about stories or tapes of your own: `python scripts/answer.py WEIGHTS FILE.txt [options]`."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import Tensor

from envs.stories import Asked, Told, own
from envs.tapes.own import Given, own_exercises, own_tapes
from envs.tapes.pictures import letter, names
from envs.tapes.play import PlayTape
from hardattn.checks import way
from hardattn.contract import Answer, Batch, StorySpec
from scripts.cli import main, read_arguments, write_rows
from scripts.studies import load_answering

NOTICED = 0.05
"""A hop's weight that is worth a number; less is left out."""


@dataclass(frozen=True)
class Options:
    """Ask a model about a file of your own, and show what it looked at.

    A memory network reads stories. A story is numbered lines, and a question is a line that ends in a question mark, wherever it stands; it is about
    the lines before it:

        1 Mary moved to the bathroom.
        2 John went to the hallway.
        3 Where is Mary?

    The number 1 begins another story. An answer and the numbers of the lines that support it may follow a question, each after a tab; then it is
    said whether the answer was right. Only words that the reader has met in training can be used.

    A player of tapes (RL-NTM, and the players of OpenAI Gym's tapes) gets an input on every line, in the letters of its pictures and without its end:

        ABCAD            to copy, reverse or repeat
        AABBCC           duplicated input; RL-NTM's: AAABBBCCC
        x3 ABC           to repeat three times, where the tape says how often
        021+11           to add, the least significant digit first

    Shown are its output, whether that is right, and the moves of its heads: < back, . stay, > forward, ^ up, v down.
    """

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or a .safetensors file."""
    file: Annotated[Path, tyro.conf.Positional]
    """A text file of stories or of tapes."""
    how: str | None = None
    """The way of answering: of readers soft, argmax or sampled; of RL-NTM argmax or sampled; of other players mean or sampled. Default: the
    model's usual one."""
    seed: int = 0
    """Of the noise in sampled."""
    json: str | None = None
    """Write the answers as JSON to this file; "-" for standard output."""


def run_command() -> int:
    options = read_arguments(Options, "python scripts/answer.py")
    agent, knows = load_answering(options.model)
    how = way(options.how, agent.hows)
    # A table takes the room that it needs, and a file or a pipe has as much as it likes.
    console = Console(width=None if sys.stdout.isatty() else 400)
    if isinstance(knows, StorySpec):
        stories, asked = own(options.file, knows)
        answer = agent.answer(asked, how, options.seed)
        rows = _rows(stories, answer, knows)
        if options.json != "-":
            _show(console, stories, answer, knows)
    else:
        rows = _played(agent, knows, options.file, how, options.seed)
        if options.json != "-":
            _show_played(console, rows)
    if options.json is not None:
        write_rows(rows, options.json)
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


def _played(agent: Any, task: Any, file: Path, how: str, seed: int) -> list[dict[str, Any]]:
    """One for every input: the output, what it should be, and the moves of the heads up to the last symbol of the output."""
    games: list[Any]
    if isinstance(task, PlayTape):
        games = [own_tapes(file, task.tape.config, task.config.last)]
    else:
        games = own_exercises(file, task.config.tapes)
    rows = [row for given, game in games for row in _of_game(task, given, game, agent.answer(game, how, seed))]
    return sorted(rows, key=lambda row: row["line"])


def _of_game(task: Any, given: list[Given], question: Any, answer: Answer) -> list[dict[str, Any]]:
    assert answer.trace.moves is not None
    moves, own_state = answer.trace.moves.long(), question.own
    if isinstance(task, PlayTape):
        assert answer.trace.sensed is not None
        config = task.tape.config
        # Who has ended senses nothing more.
        playing = torch.arange(moves.shape[1]) < (answer.trace.sensed / task.spec.seen)[:, None]
        writes, said = (moves[..., 1] == 1) & playing, moves[..., 2]
        called = [letter(config, i).replace(" ", ".") for i in range(config.readable)]
        heads = {"input": "<>^v"}
    else:
        assert answer.trace.belief is not None
        writes, said = moves[..., 2] == 1, answer.trace.belief.argmax(-1)
        playing, called = writes, names(question.core.config)
        heads = {"input": "<.>", "memory": "<.>"}
    rows, between = [], " " if max(map(len, called)) > 1 else ""
    right = task.score(answer, Batch(question, torch.zeros(len(given))))["error"] == 0
    for i, one in enumerate(given):
        output = between.join(called[symbol] for symbol in said[i][writes[i]].tolist())
        expected = between.join(called[symbol] for symbol in own_state.target[i, : int(own_state.letters[i])].tolist())
        steps = int((writes if writes[i].any() else playing)[i].nonzero().max()) + 1
        paths = {name: "".join(signs[m] for m in moves[i, :steps, j].tolist()) for j, (name, signs) in enumerate(heads.items())}
        row = {"line": one.line, "input": one.text, "output": output, "expected": expected, "right": bool(right[i])}
        rows.append({**row, "heads": paths})
    return rows


def _show_played(console: Console, rows: list[dict[str, Any]]) -> None:
    """The output under every input, and what the heads did."""
    for row in rows:
        told = "right" if row["right"] else f"expected {row['expected']}"
        if row["output"] == row["expected"] and not row["right"]:
            told = "too late"
        console.print(f"{escape(row['input'])} -> [bold]{escape(row['output'])}[/] ({escape(told)})", soft_wrap=True)
        for name, path in row["heads"].items():
            console.print(Text(f"  head on the {name:7}{path}", style="dim"), soft_wrap=True)


def _cell(weight: float) -> Text:
    return Text(f"{weight:.2f}" if weight >= NOTICED else "", style="bold" if weight >= 0.5 else "")


if __name__ == "__main__":
    main(run_command)
