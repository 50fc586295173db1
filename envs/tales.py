"""Stories that write themselves: people who move, carry things and have colours, told and annotated as bAbI tasks 1, 2, 3, 6 and 16 are.

The worlds, the words and the questions are those of Weston et al. (2015, Section 3); the text is not that of the published files, so numbers are
not comparable. Everything is a function of (seed, index) and needs no download.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from hardattn.noise import fork, keys, uniform

PEOPLE = ("Daniel", "John", "Mary", "Sandra")
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
THINGS = ("apple", "football", "milk")
GO = ("moved to", "went to", "went back to", "journeyed to", "travelled to")
TAKE = ("got", "took", "grabbed", "picked up")
LEAVE = ("left", "dropped", "discarded", "put down")
NAMES = ("Bernhard", "Brian", "Greg", "Julius", "Lily")
ANIMALS = ("frog", "lion", "rhino", "swan")
COLOURS = ("gray", "green", "white", "yellow")

T = TypeVar("T")


class Chance:
    """Draws from the stream of one story."""

    def __init__(self, seed: int, stream: str, index: int) -> None:
        self._numbers = self._stream(keys(seed, stream, torch.tensor([index])))

    @staticmethod
    def _stream(key: torch.Tensor) -> Iterator[float]:
        block = 0
        while True:  # some stories need more than others
            yield from uniform(fork(key, f"block {block}"), 64)[0].tolist()
            block += 1

    def below(self, count: int) -> int:
        return int(next(self._numbers) * count)

    def of(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        rest = list(options)
        return [rest.pop(self.below(len(rest))) for _ in options]


class World:
    """Who and what is where, what was told of it, and in which line."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.lines: list[str] = []
        self.moved: dict[str, tuple[str, int]] = {}
        """Of every person who has moved: where to, and the line that says so."""
        self.held: dict[str, tuple[str, int]] = {}
        """Of every thing: who took it last or has it, and the line that says so."""
        self.carried: dict[str, list[tuple[str, int]]] = {thing: [] for thing in THINGS}
        """Where every thing has been, as far as was told, with the lines of the moves that brought it there."""
        self.lying: dict[str, tuple[str, int, int]] = {}
        """Of every thing that was left: where, and the lines that say that it was left and that its bearer had come there."""

    def tell(self, text: str) -> int:
        self.lines.append(f"{len(self.lines) + 1} {text}.")
        return len(self.lines)

    def ask(self, question: str, answer: str, *facts: int) -> None:
        self.lines.append(f"{len(self.lines) + 1} {question}? \t{answer}\t{' '.join(map(str, facts))}")

    def move(self) -> None:
        """Somebody goes elsewhere, and so does what they carry."""
        person = self.chance.of(PEOPLE)
        here = self.moved.get(person, ("", 0))[0]
        place = self.chance.of([place for place in PLACES if place != here])
        line = self.tell(f"{person} {self.chance.of(GO)} the {place}")
        self.moved[person] = place, line
        for thing in self._with(person):
            self.carried[thing].append((place, line))

    def handle(self) -> None:
        """Somebody leaves or takes a thing, if they can: it must lie where they are, or nobody has touched it yet."""
        person = self.chance.of([person for person in PEOPLE if person in self.moved] or [""])
        if not person:
            return self.move()
        place, came = self.moved[person]
        near = [thing for thing in THINGS if thing not in self.held and self.lying.get(thing, (place,))[0] == place]
        possible = [(thing, False) for thing in near] + [(thing, True) for thing in self._with(person)]
        if not possible:
            return self.move()
        thing, leave = self.chance.of(possible)
        there = self.chance.of(("", " there"))
        line = self.tell(f"{person} {self.chance.of(LEAVE if leave else TAKE)} the {thing}{there}")
        if leave:
            del self.held[thing]
            self.lying[thing] = place, line, came
        else:
            self.lying.pop(thing, None)
            self.held[thing] = person, line
            self.carried[thing] = [(place, came)]

    def _with(self, person: str) -> list[str]:
        return [thing for thing, (bearer, _) in self.held.items() if bearer == person]

    def happen(self, events: int) -> None:
        for _ in range(events):
            (self.handle if self.chance.below(5) < 2 else self.move)()


def whereabouts(world: World, chance: Chance) -> None:
    """Task 1, one supporting fact: where is a person?"""
    for _ in range(5):
        world.move()
        world.move()
        person = chance.of(sorted(world.moved))
        place, line = world.moved[person]
        world.ask(f"Where is {person}", place, line)


def carried_things(world: World, chance: Chance) -> None:
    """Task 2, two supporting facts: where is a thing? What was done with it last, and where its bearer had gone."""
    for _ in range(5):
        world.happen(2)
        while not (world.held or world.lying):
            world.happen(1)
        thing = chance.of(sorted({*world.held, *world.lying}))
        if thing in world.held:
            bearer, taken = world.held[thing]
            place, came = world.moved[bearer]
            world.ask(f"Where is the {thing}", place, taken, came)
        else:
            place, left, came = world.lying[thing]
            world.ask(f"Where is the {thing}", place, left, came)


def earlier_places(world: World, chance: Chance) -> None:
    """Task 3, three supporting facts: where was a thing before its last place? Who carried it, and the last two places they went."""
    for _ in range(3):
        world.happen(4)
        while not (known := [thing for thing in world.held if len(world.carried[thing]) > 1]):
            world.happen(1)
        thing = chance.of(sorted(known))
        (before, came), (last, went) = world.carried[thing][-2:]
        world.ask(f"Where was the {thing} before the {last}", before, world.held[thing][1], went, came)


def yes_or_no(world: World, chance: Chance) -> None:
    """Task 6: is a person there? Yes every other time."""
    for _ in range(5):
        world.move()
        world.move()
        person = chance.of(sorted(world.moved))
        place, line = world.moved[person]
        yes = chance.below(2) == 1
        asked = place if yes else chance.of([other for other in PLACES if other != place])
        world.ask(f"Is {person} in the {asked}", "yes" if yes else "no", line)


def induction(world: World, chance: Chance) -> None:
    """Task 16: what colour has the one whose colour was not told? That of another of the same kind."""
    asked, like, *others = chance.shuffled(NAMES)
    kinds, colours = chance.shuffled(ANIMALS), chance.shuffled(COLOURS)
    kind = {asked: 0, like: 0} | {name: chance.below(len(ANIMALS)) for name in others}
    facts = [(name, f"a {kinds[kind[name]]}") for name in kind]
    facts += [(name, colours[kind[name]]) for name in kind if name != asked]
    line = {fact: world.tell(f"{fact[0]} is {fact[1]}") for fact in chance.shuffled(facts)}
    colour = colours[kind[asked]]
    witness = max((name for name in kind if name != asked and kind[name] == kind[asked]), key=lambda name: line[name, colour])
    animal = f"a {kinds[kind[asked]]}"
    world.ask(f"What color is {asked}", colour, line[asked, animal], line[witness, animal], line[witness, colour])


TALES: dict[int, Callable[[World, Chance], None]] = {
    1: whereabouts,
    2: carried_things,
    3: earlier_places,
    6: yes_or_no,
    16: induction,
}
"""By the number of the bAbI task."""


def tale(task: int, seed: int, index: int) -> list[str]:
    """The lines of one story in bAbI's format, a function of the seed and the index.

    Raises:
        ValueError: if there is no such story.
    """
    if task not in TALES:
        raise ValueError(f"tasks {', '.join(map(str, TALES))} can be generated; found {task}")
    chance = Chance(seed, f"tale {task}", index)
    world = World(chance)
    TALES[task](world, chance)
    return world.lines
