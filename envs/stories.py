"""Stories and questions about them in the format of the bAbI tasks (Weston et al. 2015, "Towards AI-Complete Question Answering").

A file is numbered lines; the number 1 begins a new story. A line is a sentence, or a question, which ends in a question mark, followed by a tab, its
answer and, if they are known, a tab and the numbers of the sentences that support the answer:

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary? 	bathroom	1

Words are compared in lower case and without punctuation. An answer is one entry of the vocabulary, whatever it looks like ("milk,football"); spaces
around its commas and a full stop, exclamation or question mark at its end do not count.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from envs.text import lines_of, refuse
from hardattn.contract import StorySpec
from hardattn.noise import keys

Words = tuple[str, ...]


class Story(NamedTuple):
    """What an agent is asked. Words are ids; 0 fills short sentences."""

    sentences: Int[Tensor, "b n j"]
    """The most recent sentence is in slot 0, the one before it in slot 1. Slots that no sentence fills come last and hold zeros."""
    query: Int[Tensor, "b j"]
    key: Int[Tensor, " b"]
    """Names each example's private stream of noise (see `hardattn.noise`)."""


class Sentence(NamedTuple):
    """A line that tells something."""

    words: Words
    line: int


class Asked(NamedTuple):
    """A line that asks something."""

    words: Words
    line: int
    before: int
    """So many of the story's sentences came before the question: those that it is about."""
    answer: str | None
    supports: tuple[int, ...]
    """The sentences that support the answer, counted from 0."""


class Told(NamedTuple):
    """One story: what is told and what is asked, each in order."""

    source: str
    sentences: list[Sentence]
    asked: list[Asked]

    @property
    def lines(self) -> list[Words]:
        """The words of everything that is told or asked."""
        return [line.words for line in self.sentences] + [line.words for line in self.asked]


@lru_cache(maxsize=100_000)
def words_of(text: str) -> Words:
    """The words of a sentence, in lower case and without punctuation."""
    return tuple(re.findall(r"[^\s.,;:!?\"()]+", text.lower()))


def read(path: Path, *, answers: bool = True) -> list[Told]:
    """The stories of a file.

    Args:
        path: of a text file in the format above, UTF-8.
        answers: whether every question must have one. Without, a line that ends in a question mark is a question too.

    Raises:
        ValueError: if the file cannot be read, is not UTF-8 or is not in the format; it names the file and the line.
    """
    return parse(lines_of(path, "stories"), str(path), answers=answers)


def parse(lines: Iterable[str], source: str, *, answers: bool = True) -> list[Told]:
    """The stories in `lines`, which come from `source`. Empty lines are skipped. Otherwise as `read`."""
    stories: list[Told] = []
    numbers: dict[int, int] = {}  # of a story's lines: which sentence it is
    last, end = 0, 1
    for at, line in enumerate(lines, 1):
        if not line.strip():
            continue
        end = at
        number, text = _numbered(line.rstrip("\r\n"), last, source, at)
        if number == 1:
            stories.append(Told(source, [], []))
            numbers = {}
        last, story = number, stories[-1]
        question, *rest = text.split("\t")
        if not words_of(question):
            refuse(source, at, "expected a sentence or a question, found no word")
        if not rest and words_of(question.partition("?")[2]):
            refuse(
                source,
                at,
                "expected a tab between a question and its answer, or no answer; found words after the question mark",
            )
        if rest and not question.rstrip().endswith("?"):
            refuse(source, at, "expected a question, which ends in a question mark, before the tab; found a sentence")
        if rest or question.rstrip().endswith("?"):
            story.asked.append(_asked(question, rest, numbers, len(story.sentences), source, at, answers))
        else:
            numbers[number] = len(story.sentences)
            story.sentences.append(Sentence(words_of(question), at))
    if not any(story.asked for story in stories):
        refuse(source, end, "the file ends here and holds no question" if stories else "the file is empty: expected stories")
    return stories


def _numbered(line: str, last: int, source: str, at: int) -> tuple[int, str]:
    found, _, text = line.lstrip().partition(" ")
    number = _natural(found)
    if number is None:
        what = "a space after the line's number" if re.match(r"\d{1,9}\D", found) else "a line that begins with its number"
        refuse(source, at, f"expected {what}, found {found[:20]!r}")
    if number not in (1, last + 1):
        expected = f"{last + 1}, or 1 for a new story" if last else "1"
        refuse(source, at, f"expected number {expected}, found {number}")
    return number, text


def _natural(text: str) -> int | None:
    """The number that is written; None if it is none, or longer than any story."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _asked(
    question: str, rest: Sequence[str], numbers: dict[int, int], before: int, source: str, at: int, answers: bool
) -> Asked:
    if len(rest) > 2:
        refuse(source, at, f"expected question, answer and supporting facts between tabs, found {len(rest) + 1} parts")
    answer = re.sub(r" ?, ?", ",", " ".join(rest[0].lower().split())).rstrip(" .!?") if rest else ""
    if (answers or rest) and not answer:
        refuse(source, at, "expected a tab and an answer after the question, found none")
    facts = rest[1].split() if len(rest) == 2 else []
    for fact in facts:
        # `numbers` holds the sentences read so far: not the questions, and nothing that is yet to come.
        if _natural(fact) not in numbers:
            refuse(source, at, f"supporting fact {fact[:20]!r} is not the number of a sentence before the question")
    return Asked(words_of(question), at, before, answer or None, tuple(numbers[int(fact)] for fact in facts))


def must_fit(stories: Iterable[Told], memory: int) -> None:
    """Raises ValueError, naming the file and the line, if a question has more sentences before it than `memory` holds."""
    for story in stories:
        for question in story.asked:
            if question.before > memory:
                what = f"the memory holds {memory} sentences, found {question.before} before this question"
                refuse(story.source, question.line, what)


def vocabulary(stories: Iterable[Told]) -> tuple[str, ...]:
    """Every word and every answer, sorted, after the empty word."""
    found: set[str] = set()
    for story in stories:
        found.update(*story.lines)
        found.update(asked.answer for asked in story.asked if asked.answer)
    return "", *sorted(found)


def longest(stories: Iterable[Told]) -> int:
    """Words of the longest sentence or question."""
    return max(len(words) for story in stories for words in story.lines)


class Questions(NamedTuple):
    """Many questions as numbers. A sentence that is told often is kept once."""

    distinct: Int[Tensor, "sentences j"]
    """Row 0 is the empty sentence."""
    told: Int[Tensor, " lines"]
    """All stories one after another: which of the distinct sentences every line is."""
    first: Int[Tensor, " q"]
    """The line that begins the question's story."""
    end: Int[Tensor, " q"]
    """The line after the last that came before the question."""
    query: Int[Tensor, "q j"]
    answer: Int[Tensor, " q"]
    """0 where none is known."""
    supports: Int[Tensor, "q s"]
    """Lines; filled up with -1."""

    def pick(self, index: Int[Tensor, " q"]) -> "Questions":
        """Some of the questions."""
        return self._replace(**{name: getattr(self, name)[index] for name in ("first", "end", "query", "answer", "supports")})

    def story(
        self, index: Int[Tensor, " b"], memory: int, key: Int[Tensor, " b"]
    ) -> tuple[Story, Int[Tensor, " b"], Bool[Tensor, "b n"]]:
        """Questions by number: what is asked, the answers, and which slots support them.

        Args:
            index: of the questions.
            memory: slots. Of a longer story the last sentences are kept, and facts that came before them are forgotten.
            key: of the noise.
        """
        line = self.end[index][:, None] - 1 - torch.arange(memory)
        there = line >= self.first[index][:, None]
        sentences = self.distinct[torch.where(there, self.told[line.clamp(min=0)], 0)]
        supports = (line[:, :, None] == self.supports[index][:, None]).any(-1) & there
        return Story(sentences, self.query[index], key), self.answer[index], supports


def encode(stories: Iterable[Told], spec: StorySpec) -> Questions:
    """Every question of the stories, in order.

    Raises:
        ValueError: if a word is not in the vocabulary or a sentence is too long; it names the file and the line.
    """
    ids = {word: i for i, word in enumerate(spec.vocabulary)}
    rows: dict[Words, int] = {(): 0}

    def padded(words: Words, source: str, line: int) -> list[int]:
        if len(words) > spec.words:
            refuse(source, line, f"at most {spec.words} words fit into a sentence, found {len(words)}")
        unknown = next((word for word in words if word not in ids), None)
        if unknown is not None:
            refuse(source, line, f"unknown word {unknown!r}: expected one of the {len(ids) - 1} words of the vocabulary")
        return [ids[word] for word in words] + [0] * (spec.words - len(words))

    distinct, told, queries = [[0] * spec.words], [0], []
    first, end, answers, supports = [], [], [], []
    for source, sentences, asked in stories:
        start = len(told)
        for words, line in sentences:
            if words not in rows:
                rows[words] = len(distinct)
                distinct.append(padded(words, source, line))
            told.append(rows[words])
        for words, line, before, answer, facts in asked:
            queries.append(padded(words, source, line))
            answers.append(padded((answer,), source, line)[0] if answer else 0)
            supports.append([start + fact for fact in facts])
            first.append(start)
            end.append(start + before)
    widest = max(map(len, supports), default=0)
    supports = [facts + [-1] * (widest - len(facts)) for facts in supports]
    numbers: list[Any] = [distinct, told, first, end, queries, answers, supports]
    return Questions(*(torch.tensor(x, dtype=torch.int64) for x in numbers))


def own(path: Path, spec: StorySpec) -> tuple[list[Told], Story]:
    """A user's own stories, for answering: `batch` i is question i of the file. Answers may be missing.

    Args:
        path: of a file in the format above.
        spec: of the agent that is to answer: its words, and how many sentences it remembers.

    Raises:
        ValueError: if the file is not in the format, has a word that the agent does not know, or a story that is longer than its memory; it names
            the file and the line.
    """
    stories = read(path, answers=False)
    must_fit(stories, spec.sentences)
    # An answer is not needed to ask, and may be a word that the agent does not know.
    asked = [story._replace(asked=[question._replace(answer=None) for question in story.asked]) for story in stories]
    questions = encode(asked, spec)
    index = torch.arange(len(questions.query))
    return stories, questions.story(index, spec.sentences, keys(0, "own stories", index))[0]


def spoken(sentence: Int[Tensor, " j"], spec: StorySpec) -> str:
    """The words of one encoded sentence."""
    return " ".join(spec.vocabulary[i] for i in sentence.tolist() if i)
