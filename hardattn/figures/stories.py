"""What a reader of stories read: the sentences as words, and beside each how much every hop took of it."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from matplotlib.patches import Rectangle
from torch import Tensor

from hardattn.figures import style
from hardattn.figures.sheets import GAP, HEADER, MARGIN
from hardattn.figures.style import Page, Picture

LINE, CELL, LETTER = 0.21, 0.46, 0.071
"""Inches: height of a line, width of a hop's column, width of a letter at most."""
LEAST = 0.05
"""Weights below this get no number, and no line if they are of no sentence."""


def story_hops(
    sentences: Sequence[Sequence[str]],
    questions: Sequence[str],
    weights: Float[Tensor, "b t n"],
    *,
    given: Sequence[str] | None = None,
    right: Sequence[str] | None = None,
    supports: Bool[Tensor, "b n"] | None = None,
    lines: int = 12,
    title: str = "",
    dpi: int = 130,
) -> Picture:
    """A block for every story: its sentences in the order they were told, a column of weights for every hop, the question and the answer.

    Args:
        sentences: of a handful of stories, in the order of the slots: the most recent first.
        questions: asked after the last sentence.
        weights: of the slots, from 0 to 1. Slots beyond a story's sentences are empty; what is read there is shown as "no sentence".
        given: the answers. Without them nothing is said of the answer.
        right: the true answers.
        supports: which slots are annotated as supporting the answer; they are marked with a dot.
        lines: of longer stories at most so many sentences are shown, those that were read or support the answer; a line stands for the others
            between two of them.
        title: of the page.
        dpi: pixels per inch.

    Raises:
        ValueError: if the parts do not fit one another.
    """
    b, hops = _check(sentences, questions, weights, given, right, supports, lines)
    weights = weights.detach().cpu().float()
    marked = [None] * b if supports is None else list(supports.cpu())
    blocks = [_lines(told, weights[i], marked[i], lines) for i, told in enumerate(sentences)]

    texts = [text for block in blocks for text, *_ in block] + list(questions)
    left = MARGIN + 0.2
    columns = left + max(3.0, LETTER * max(map(len, texts))) + 0.15
    beside = [len(word) + (len(f" right: {other}") if right else 0) for word, other in zip(given or (), right or given or ())]
    width = columns + max(2.5, hops * CELL, LETTER * 1.25 * max(beside, default=0)) + MARGIN
    head = HEADER + (0.45 if title else 0.0)
    heights = [LINE * (len(block) + 1) + 0.06 for block in blocks]
    page = Page(width, head + sum(heights) + (b - 1) * GAP + MARGIN, dpi, title)

    line = head - 0.36
    page.write(left, line, "The story", size=style.HEAD)
    if supports is not None:
        page.write(left + 1.0, line, "●", size=style.SMALL, color=style.RIGHT, ha="center")
        page.write(left + 1.1, line, "supports the answer", size=style.SMALL, color=style.MUTED)
    page.write(columns, line, "Weight of every hop, %", size=style.HEAD)
    for hop in range(hops):
        page.write(columns + (hop + 0.5) * CELL, head - 0.1, str(hop + 1), size=style.SMALL, color=style.MUTED, ha="center")
    top = head
    for i, (block, height) in enumerate(zip(blocks, heights)):
        if i:
            page.rule(top - GAP / 2 - 0.01, MARGIN)
        axes = page.axes(columns, top, hops * CELL, LINE * len(block))
        axes.set_xlim(0, hops)
        axes.set_ylim(len(block), 0)
        for row, (text, told, supporting, read) in enumerate(block):
            middle = top + (row + 0.5) * LINE
            page.write(left, middle, text, color=style.INK if told else style.MUTED, style="normal" if told else "italic")
            if supporting:
                page.write(left - 0.12, middle, "●", size=style.SMALL, color=style.RIGHT, ha="center")
            for hop, weight in enumerate(read):
                colour = style.BELIEF(min(weight, 1.0))
                axes.add_artist(Rectangle((hop + 0.04, row + 0.06), 0.92, 0.88, facecolor=colour, linewidth=0))
                if weight >= LEAST:
                    number, ink = f"{100 * weight:.0f}", style.ink_on(colour)
                    axes.text(hop + 0.5, row + 0.5, number, size=style.SMALL - 1, color=ink, ha="center", va="center_baseline")
        asked = top + (len(block) + 0.5) * LINE + 0.06
        page.write(left, asked, questions[i], weight="bold")
        if given is not None:
            known = right is None or given[i] == right[i]
            tint = style.INK if right is None else style.RIGHT if known else style.WRONG
            page.write(columns + 0.02, asked, given[i] or "nothing", weight="bold", color=tint)
            if right is not None and not known:
                after = columns + 0.1 + LETTER * 1.25 * len(given[i] or "nothing")
                page.write(after, asked, f"right: {right[i]}", color=style.MUTED)
        top += height + GAP
    return page.pixels()


def _lines(
    told: Sequence[str], weights: Float[Tensor, "t n"], supports: Bool[Tensor, " n"] | None, most: int
) -> list[tuple[str, bool, bool, list[float]]]:
    """Text, whether it was told, whether it supports the answer, and the weights of every hop; the oldest first."""
    count = len(told)
    supporting = [False] * count if supports is None else supports[:count].tolist()
    share = [weights[:, slot].max().item() + supporting[slot] for slot in range(count)]
    worth = [slot for slot in range(count) if share[slot] >= LEAST] if count > most else range(count)
    shown = set(sorted(worth, key=lambda slot: (-share[slot], slot))[:most])
    # A line that says that one sentence is left out takes as much room as the sentence.
    shown |= {slot for slot in range(count) if {slot - 1, slot + 1} & set(range(count)) <= shown}
    found: list[tuple[str, bool, bool, list[float]]] = []
    slot = count - 1
    while slot >= 0:
        if slot in shown:
            found.append((told[slot], True, supporting[slot], weights[:, slot].tolist()))
            slot -= 1
            continue
        last = slot
        while slot >= 0 and slot not in shown:
            slot -= 1
        skipped = last - slot
        found.append((f"… {skipped} sentences", False, False, weights[:, slot + 1 : last + 1].sum(1).tolist()))
    nothing = weights[:, count:].sum(1).tolist()
    if not count or max(nothing) >= LEAST:
        found.append(("no sentence", False, False, nothing))
    return found


def _check(
    sentences: Sequence[Sequence[str]],
    questions: Sequence[str],
    weights: Tensor,
    given: Sequence[str] | None,
    right: Sequence[str] | None,
    supports: Tensor | None,
    lines: int,
) -> tuple[int, int]:
    b, hops, n = weights.shape
    if not b or not hops or not n:
        raise ValueError(f"there must be something to draw: found weights {tuple(weights.shape)}")
    if lines < 1:
        raise ValueError(f"lines must be at least 1, found {lines}")
    for name, part in {"sentences": sentences, "questions": questions, "given": given, "right": right}.items():
        if part is not None and len(part) != b:
            raise ValueError(f"weights of {b} stories need as many {name}, found {len(part)}")
    if supports is not None and tuple(supports.shape) != (b, n):
        raise ValueError(f"weights of {b} stories and {n} slots need supports {(b, n)}, found {tuple(supports.shape)}")
    longest = max(map(len, sentences))
    if longest > n:
        raise ValueError(f"weights of {n} slots cannot be those of a story of {longest} sentences")
    return b, hops
