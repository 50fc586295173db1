"""OpenAI Gym's algorithmic environments, with and without their faults, and the curriculum. RL-NTM's tasks: test_three_tapes.py."""

import re
import warnings
from dataclasses import replace
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.tapes import EXERCISES, Curriculum, Promotion, Tape, TapeConfig, TapeEnv, TapeVectorEnv, Widening
from envs.tapes.algorithmic import LONGEST
from hardattn.noise import integers, keys
from tests.envs.side_by_side import equals_singles, goes_on_from_pickles

IDS = [f"hardattn/{name}{view}-v0" for name in EXERCISES for view in ("", "MultiDiscrete", "Discrete")]
EASY = Promotion(window=3)
LEFT, RIGHT, UP, DOWN = range(4)


def specified(config: TapeConfig, tape: list, copies: int = 3) -> list[int]:
    """What is to be written for an input (columns of one symbol, or of several digits), in plain Python."""
    x = [column[0] for column in tape]
    if config.task == "reversed-addition":
        carry, output = 0, []
        for column in tape:
            carry, digit = divmod(sum(column) + carry, config.base)
            output.append(digit)
        output += [carry] if carry else []
    elif config.task == "copy":
        output = x
    elif config.task == "reverse":
        output = x[::-1]
    elif config.task == "duplicated-input":
        output = x[:: 3 if config.fixed else 2]
    else:
        output = x[1:] * (x[0] - config.base + 1) if config.fixed else x + x[::-1] + x
    return output + [config.base] * config.fixed


def test_outputs_worked_by_hand():
    def column(symbols):
        return [[s] for s in symbols]

    assert specified(TapeConfig("repeat-copy"), column([0, 1, 2])) == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    assert specified(TapeConfig("repeat-copy", fixed=True), column([6, 0, 1, 2])) == [0, 1, 2, 0, 1, 2, 5]
    assert specified(TapeConfig("duplicated-input"), column([3, 3, 1, 1])) == [3, 1]
    assert specified(TapeConfig("reverse", base=2, fixed=True), column([0, 1, 1])) == [1, 1, 0, 2]
    added = TapeConfig("reversed-addition", base=3, rows=2)
    assert specified(added, [[2, 1], [1, 1], [1, 1], [1, 0]]) == [0, 0, 0, 2]
    assert specified(added, [[2, 2], [2, 2]]) == [1, 2, 1]


@pytest.mark.parametrize("name", EXERCISES)
@given(st.integers(0, 2**40))
@settings(deadline=None, max_examples=5)
def test_every_tape_is_as_specified(name, seed):
    config = EXERCISES[name].config
    least = torch.arange(1, LONGEST + 1).repeat_interleave(2)
    state = Tape(config).reset(keys(seed, "test", torch.arange(len(least))), least)
    for i, length in enumerate(least.tolist()):
        columns, letters = int(state.columns[i]), int(state.letters[i])
        tape = state.tape[i, :columns].tolist()
        assert state.target[i, :letters].tolist() == specified(config, tape)
        assert (state.tape[i, columns:] == config.blank).all() and (state.target[i, letters:] == -1).all()
        assert all(0 <= symbol < config.readable and symbol != config.blank for column in tape for symbol in column)
        if name == "DuplicatedInput":
            assert tape[::2] == tape[1::2] and columns // 2 in {max(n, 2) // 2 for n in range(length, length + 3)}
        elif name == "DuplicatedInputFixed":
            assert tape[::3] == tape[1::3] == tape[2::3] and columns // 3 in range(length, length + 3)
        else:
            assert columns - (name == "RepeatCopyFixed") in range(length, length + 3)


class Slate:
    """One episode by OpenAI Gym's rules, read off their description and written without a batch."""

    def __init__(self, tape: list, target: list, base: int, addition: bool) -> None:
        self.tape, self.target, self.base = tape, target, base
        self.limit = 2 * len(tape) + 4 if addition else len(tape) + len(target) + 4
        self.x = self.y = self.time = self.written = 0

    def see(self) -> int:
        if self.x < 0 or self.y < 0 or self.x >= len(self.tape) or self.y >= len(self.tape[0]):
            return self.base
        return self.tape[self.x][self.y]

    def step(self, move: int, write: int, symbol: int) -> tuple[int, float, bool]:
        self.time += 1
        reward, done = 0.0, False
        if write:
            if symbol == self.target[self.written]:
                reward = 1.0
            else:
                reward, done = -0.5, True
            self.written += 1
            done = done or self.written >= len(self.target)
        self.x += {LEFT: -1, RIGHT: 1}.get(move, 0)
        self.y += {UP: -1, DOWN: 1}.get(move, 0)
        if self.time > self.limit:
            reward, done = -1.0, True
        return self.see(), reward, done


@pytest.mark.parametrize("name", [name for name in EXERCISES if "Fixed" not in name])
@pytest.mark.parametrize("care", [0.0, 0.5, 1.0])
def test_it_plays_by_openai_gyms_rules(name, care):
    """Random moves; of the symbols written, some part is right."""
    config = EXERCISES[name].config
    core, count = Tape(config), 24
    key = keys(5, "test", torch.arange(count))
    state = core.reset(key)
    slates = [
        Slate(state.tape[i, :n].tolist(), state.target[i, :m].tolist(), config.base, config.rows > 1)
        for i, (n, m) in enumerate(zip(state.columns.tolist(), state.letters.tolist()))
    ]
    assert core.observe(state).tolist() == [slate.see() for slate in slates]
    over, late = [False] * count, 0
    for t in range(30):
        chance = integers(key + t, 4, 1000)
        wanted = state.target.gather(1, state.written.clamp(max=state.target.shape[1] - 1)[:, None])[:, 0].clamp(min=0)
        symbol = torch.where(chance[:, 0] < 1000 * care, wanted, chance[:, 1] % config.base)
        action = torch.stack([chance[:, 2] % config.moves, (chance[:, 3] < 150).long(), symbol], 1)
        state, reward, terminated, truncated = core.step(state, action)
        assert not truncated.any()
        for i, slate in enumerate(slates):
            if over[i]:
                assert reward[i] == 0 and terminated[i]
                continue
            seen, paid, over[i] = slate.step(*action[i].tolist())
            assert (int(core.observe(state)[i]), float(reward[i]), bool(terminated[i])) == (seen, paid, over[i])
            late += paid == -1.0
    assert all(over) and (late > 0 or care == 0.0)


def player(config: TapeConfig):
    """Solves a task from what it sees: a generator of actions that is sent symbols."""
    blank, fixed = config.blank, int(config.fixed)
    seen = yield
    if config.task == "copy":
        while True:
            seen = yield RIGHT, 1, seen
    elif config.task == "duplicated-input":
        while True:
            seen = yield RIGHT, 1, seen
            for _ in range(config.copies - 1):
                seen = yield RIGHT, 0, 0
    elif config.task == "reverse":
        while seen != blank:
            seen = yield RIGHT, 0, 0
        seen = yield LEFT, 0, 0
        while True:
            seen = yield LEFT, 1, seen
    elif config.task == "repeat-copy" and not fixed:
        for move in (RIGHT, LEFT, RIGHT):
            while seen != blank:
                seen = yield move, 1, seen
            seen = yield 1 - move, 0, 0
    elif config.task == "repeat-copy":
        times = seen - blank + 1
        for copy in range(times):
            seen = yield RIGHT, 0, 0
            while seen != blank:
                seen = yield RIGHT, 1, seen
            while copy < times - 1 and seen <= blank:
                seen = yield LEFT, 0, 0
        yield RIGHT, 1, blank
    else:
        carry, move = 0, DOWN
        while seen != blank:
            total = carry
            for _ in range(config.rows - 1):
                total += seen
                seen = yield move, 0, 0
            carry, digit = divmod(total + seen, config.base)
            seen = yield RIGHT, 1, digit
            move = DOWN + UP - move
        if carry or not fixed:
            seen = yield RIGHT, 1, carry
        yield RIGHT, 1, blank


def played(config: TapeConfig, least: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns, the greatest possible ones, and the columns, of players at these levels."""
    core = Tape(config)
    state = core.reset(keys(seed, "test", torch.arange(len(least))), least)
    players = [player(config) for _ in least]
    for one in players:
        next(one)
    for _ in range(int(state.limit.max()) + 1):
        seen = core.observe(state).tolist()
        actions = [(RIGHT, 0, 0) if over else one.send(s) for one, s, over in zip(players, seen, state.over.tolist())]
        state, *_ = core.step(state, torch.tensor(actions))
    assert state.over.all()
    return state.total, state.letters.float(), state.columns


@pytest.mark.parametrize("name", EXERCISES)
def test_a_player_that_sees_one_symbol_at_a_time_gets_the_full_return(name):
    least = torch.arange(1, LONGEST + 1).repeat(2)
    total, possible, _ = played(EXERCISES[name].config, least)
    # There is no time to see the digits of 5 columns, nor to write a carry after 4.
    solvable = possible <= 4 if name == "ReversedAddition3" else possible > 0
    assert torch.equal(total[solvable], possible[solvable]) and (total[~solvable] < possible[~solvable]).all()
    if solvable.all():
        total, *_ = played(EXERCISES[name].config, torch.full((40,), LONGEST), seed=1)
        assert total.mean() > EXERCISES[name].threshold


@pytest.mark.parametrize("name", EXERCISES)
def test_the_threshold_is_out_of_reach_of_chance_and_within_that_of_the_answer_key(name):
    exercise = EXERCISES[name]
    assert gym.make(f"envs:hardattn/{name}-v0").spec.reward_threshold == exercise.threshold
    config, core, key = exercise.config, Tape(exercise.config), keys(0, "test", torch.arange(40))
    totals = []
    for knows in (True, False):
        state = core.reset(key, torch.full_like(key, LONGEST))
        for t in range(int(state.letters.max())):
            wanted = state.target.gather(1, state.written.clamp(max=state.target.shape[1] - 1)[:, None]).clamp(min=0)
            chance = integers(key + t, 3, 2**20)
            random = torch.stack([chance[:, i] % n for i, n in enumerate((config.moves, 2, config.writable))], 1)
            right = torch.cat([torch.ones_like(wanted), torch.ones_like(wanted), wanted], 1)
            state, *_ = core.step(state, right if knows else random)
        totals.append(state.total.mean())
    assert totals[0] > exercise.threshold and totals[1] < 2


def test_the_fixed_tasks_mend_what_is_known_to_be_wrong():
    # The player must say that it is done, and may not say so too early.
    core = Tape(TapeConfig("copy", fixed=True))
    state = core.reset(keys(0, "test", torch.arange(1)))
    assert core.step(state, torch.tensor([[RIGHT, 1, core.config.blank]]))[1:3] == (torch.tensor([-0.5]), torch.tensor([True]))
    # Being too late does not take back what was written, and completing the output is never too late.
    for last, reward in ((state.letters - 1, 1.0), (state.letters - 2, 0.0)):
        wanted = int(state.target[0, int(last)])
        tired = state._replace(time=state.limit, written=last)
        assert core.step(tired, torch.tensor([[RIGHT, 1, wanted]]))[1:3] == (torch.tensor([reward]), torch.tensor([True]))
    # The tape says how often to copy, and both happen.
    state = Tape(TapeConfig("repeat-copy", fixed=True)).reset(keys(0, "test", torch.arange(50)))
    assert state.tape[:, 0, 0].unique().tolist() == [6, 7]


def test_levels_rise_after_exactly_one_window_of_successes():
    core = Curriculum(Tape(TapeConfig("copy")), EASY)

    def episode(course, mistakes):
        """With one symbol too few for the last row, if it makes mistakes."""
        while not course.episode.over.all():
            e = course.episode
            wanted = e.target.gather(1, e.written.clamp(max=e.target.shape[1] - 1)[:, None])[:, 0].clamp(min=0)
            wrong = torch.tensor([False, mistakes]) & (e.written == 0)
            symbol = torch.where(wrong, (wanted + 1) % 5, wanted)
            course, *_ = core.step(course, torch.stack([torch.ones_like(symbol), torch.ones_like(symbol), symbol], 1))
        return course

    course = core.reset(keys(0, "test", torch.arange(2)))
    levels = []
    for number in range(9):
        levels.append(course.min_length.tolist())
        course = core.reset(keys(0, "test", torch.tensor([2 * number, 2 * number + 1])), episode(course, mistakes=number == 3))
    assert levels == [[2, 2]] * 3 + [[3, 3]] * 3 + [[4, 3]] * 1 + [[4, 4]] * 2
    # An episode that is given up counts, and a seed begins anew.
    abandoned = core.reset(keys(0, "test", torch.arange(2)), course)
    assert (abandoned.shortfalls[:, -1] <= -2).all()
    assert core.reset(keys(0, "test", torch.arange(2))).min_length.tolist() == [2, 2]
    # Nobody goes beyond the top.
    for level, after in ((29, 30), (30, 30)):
        best = course._replace(min_length=torch.full((2,), level), shortfalls=torch.zeros(2, 3))
        best = best._replace(episode=best.episode._replace(total=best.episode.letters.float()))
        assert core.reset(keys(0, "test", torch.arange(2)), best).min_length.tolist() == [after] * 2


def test_a_smaller_shortfall_is_allowed_where_gym_allowed_it():
    assert {name: tuple(e.promotion.__dict__.values()) for name, e in EXERCISES.items() if "Fixed" not in name} == {
        "Copy": (10, -1.0, 30),
        "DuplicatedInput": (10, -1.0, 30),
        "RepeatCopy": (50, -0.1, 30),
        "Reverse": (50, -0.1, 30),
        "ReversedAddition": (10, -1.0, 30),
        "ReversedAddition3": (10, -1.0, 30),
    }
    assert [EXERCISES[n].config.base for n in ("Copy", "Reverse", "ReversedAddition3")] == [5, 2, 3]
    assert [e.config.min_length for e in EXERCISES.values()].count(1) == 1


def test_rl_ntms_curriculum():
    widening = Widening(top=20)
    progress = widening.begin()._replace(level=8)
    drawn, counts = widening.draw(keys(0, "test", torch.arange(20000)), progress)
    assert drawn.min() == 1 and drawn.max() == 20 and counts.float().mean() == pytest.approx(0.65, abs=0.01)
    share = drawn[counts].bincount(minlength=21) / counts.sum()
    assert share[9:12].tolist() == pytest.approx([0.5, 0.25, 0.125], abs=0.015) and not share[:9].any()
    # Everything at once in 10 %, and in 25 % anything up to a little above the level.
    easy = (drawn <= 8).float().mean()
    assert easy == pytest.approx(0.1 * 8 / 20 + 0.25 * sum(0.5**e * 8 / (8 + e) for e in range(1, 13)), abs=0.01)
    right, one = torch.zeros(4), torch.ones(4, dtype=torch.bool)
    for _ in range(99):
        progress = widening.advance(progress, right, one)
    assert progress.level == 8 and progress.error < 1e-6
    progress = widening.advance(progress, right, one)
    assert progress.level == 9 and progress.updates == 0
    assert widening.advance(progress, right + 1, ~one).error == progress.error
    assert widening.advance(progress, right + 1, one).error == pytest.approx(0.2)
    for wrong in ({"top": 0}, {"top": 1, "start": 2}, {"top": 2, "anything": 0.8}, {"top": 2, "decay": 1.0}):
        with pytest.raises(ValueError):
            Widening(**wrong)


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_finds_no_fault(name):
    check_env(gym.make(f"envs:{name}").unwrapped)


def test_spaces():
    spaces = gym.spaces
    env = gym.make("hardattn/Copy-v0")
    assert env.observation_space == spaces.Discrete(6)
    assert env.action_space == spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2), spaces.Discrete(5)])
    assert gym.make("hardattn/Copy-v0", base=3).observation_space == spaces.Discrete(4)
    assert gym.make("hardattn/CopyFixedMultiDiscrete-v0").action_space == spaces.MultiDiscrete([2, 2, 6])
    assert gym.make("hardattn/RepeatCopyFixed-v0").observation_space == spaces.Discrete(8)
    assert gym.make("hardattn/ReversedAddition3Discrete-v0").action_space == spaces.Discrete(16)
    assert gym.make("hardattn/ReversedAddition3-v0").observation_space == spaces.Discrete(4)


def test_every_view_means_the_same():
    reference = TapeEnv("ReversedAddition")
    for action in ((DOWN, 1, 2), (LEFT, 0, 0)):
        reference.reset(seed=0)
        expected = reference.step(action)
        move, write, symbol = action
        for view, same in (("multidiscrete", np.array(action)), ("discrete", 4 * move + (symbol if write else 3))):
            env = TapeEnv("ReversedAddition", view=view)
            env.reset(seed=0)
            assert data_equivalence(env.step(same), expected, exact=True)


# Every exercise, and every view and autoreset mode in several of them.
CASES = [(name, IDS[3 * i + i % 3], list(AutoresetMode)[(i // 3) % 3]) for i, name in enumerate(EXERCISES)]


@pytest.mark.parametrize(("name", "id", "mode"), CASES)
def test_it_equals_single_environments_bit_for_bit(name, id, mode):
    equals_singles(id, mode, TapeVectorEnv, rounds=25, again=12)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_levels_rise_as_they_do_in_single_environments(mode):
    """Two that know the answers, and one that is wrong. A seed takes a level back."""
    native = gym.make_vec("envs:hardattn/CopyMultiDiscrete-v0", 3, autoreset_mode=mode)
    singles = SyncVectorEnv([lambda: gym.make("hardattn/CopyMultiDiscrete-v0")] * 3, autoreset_mode=mode)
    observation, infos = native.reset(seed=0)
    assert data_equivalence((observation, infos), singles.reset(seed=0), exact=True)
    for _ in range(75):
        at = np.minimum(infos["written"], infos["target"].shape[1] - 1)
        actions = np.stack([np.ones(3), np.ones(3), np.maximum(infos["target"][np.arange(3), at], 0)], 1).astype(np.int64)
        actions[2, 2] = (actions[2, 2] + 1) % 5
        ours = native.step(actions)
        assert data_equivalence(ours, singles.step(actions), exact=True)
        done, infos = ours[2], ours[4]
        if mode is AutoresetMode.DISABLED and done.any():
            _, fresh = native.reset(options={"reset_mask": done})
            assert data_equivalence(fresh, singles.reset(options={"reset_mask": done.copy()})[1], exact=True)
            infos = {key: np.where(done.reshape(-1, *[1] * (fresh[key].ndim - 1)), fresh[key], infos[key]) for key in fresh}
    assert infos["level"][:2].min() >= 3 and infos["level"][2] == 2
    _, infos = native.reset(seed=[1, None, None])
    assert infos["level"][0] == 2 and infos["level"][1] >= 3
    assert data_equivalence(infos, singles.reset(seed=[1, None, None])[1], exact=True)


def test_without_a_curriculum_the_level_stays():
    env = TapeEnv("Copy", view="multidiscrete", curriculum=False, min_length=4)
    _, info = env.reset(seed=0)
    for _ in range(12):
        terminated = False
        while not terminated:
            _, _, terminated, _, info = env.step(np.array([RIGHT, 1, info["target"][info["written"]]]))
        _, info = env.reset()
        assert info["level"] == 4 and 4 <= info["length"] <= 6


def test_the_same_seed_gives_the_same_rollout_and_pickles_go_on_with_it():
    goes_on_from_pickles("hardattn/ReversedAddition-v0")


def test_its_specification_survives_json():
    env = gym.make("hardattn/CopyMultiDiscrete-v0", base=7, curriculum=False)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.game.config == replace(EXERCISES["Copy"].config, base=7)


def test_what_was_returned_can_be_changed_without_consequences():
    for make in (TapeEnv, TapeVectorEnv):
        one, two = make(view="discrete"), make(view="discrete")
        _, info = one.reset(seed=0)
        two.reset(seed=0)
        info["input"][...] = 0
        info["target"][...] = 0
        actions = 0 if make is TapeEnv else np.array([0])
        assert data_equivalence(one.step(actions), two.step(actions), exact=True)


def test_text():
    env = gym.make("hardattn/ReverseMultiDiscrete-v0", render_mode="ansi", min_length=3, base=5)
    _, info = env.reset(seed=0)
    word = "".join("ABCDE"[s] for s in info["input"][: info["length"], 0])
    plain = re.compile(r"\x1b\[[0-9;]*m")
    first = plain.sub("", env.render()).splitlines()
    assert first[0] == f"Total length of input instance: {len(word)}, step: 0"
    assert first[2] == f"Observation Tape    :   {word}  " and first[4] == f"Targets             :   {word[::-1]}"
    env.step(np.array([RIGHT, 1, info["target"][0]]))
    assert f"Output Tape         :   \x1b[42m{word[-1]}\x1b[0m" in env.render().replace("\x1b[1;42m", "\x1b[42m")
    env.step(np.array([LEFT, 1, (info["target"][1] + 1) % 5]))
    text = plain.sub("", env.render())
    assert (
        "Current reward      :   -0.500" in text and "Cumulative reward   :   0.500" in text and "move over input: left" in text
    )
    grid = gym.make("hardattn/ReversedAddition3-v0", render_mode="ansi")
    grid.reset(seed=0)
    assert len(grid.render().splitlines()) == 8


@pytest.mark.parametrize("name", ["Copy", "RepeatCopyFixed", "ReversedAddition3"])
def test_pictures_have_one_size_wherever_the_head_goes(name):
    env = TapeVectorEnv(2, name, view="multidiscrete", render_mode="rgb_array")
    env.reset(seed=0)
    pictures = [env.render()[0]]
    for i in range(8):
        env.step(np.array([[i % 2 if i < 4 else env.game.config.moves - 1, i == 2, 0]] * 2))
        pictures.append(env.render()[0])
    assert {p.shape for p in pictures} == {pictures[0].shape} and pictures[0].dtype == np.uint8
    assert pictures[0].shape[0] % 2 == 0 and pictures[0].shape[1] % 2 == 0
    assert all(not np.array_equal(p, q) for p, q in pairwise(pictures))


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"exercise": "Sort"}, "exercise must be one of Copy, .*, found 'Sort'"),
        ({"view": "box"}, "view must be one of tuple, multidiscrete, discrete, found 'box'"),
        ({"min_length": 0}, "min_length must be at least 1"),
        ({"min_length": 31}, "min_length must be at most 30"),
        ({"base": 1}, "base must be at least 2"),
        ({"exercise": "ReversedAddition3", "base": 2}, "the carry must be one digit"),
        ({"render_mode": "human"}, 'render_mode must be None or one of "ansi", "rgb_array"'),
    ],
)
def test_a_wrong_argument_is_named(kwargs, found):
    with pytest.raises(ValueError, match=found):
        TapeEnv(**kwargs)


def test_other_wrong_configurations_are_named():
    for wrong in ({"task": "copy", "rows": 2}, {"task": "reversed-addition"}):
        with pytest.raises(ValueError, match="at least 2 rows"):
            TapeConfig(**wrong)
    with pytest.raises(ValueError, match="top must be at most 30"):
        Promotion(top=31)


@pytest.mark.parametrize(
    ("view", "action", "found"),
    [
        ("tuple", (0, 1), "a tuple that does not hold a move"),
        ("tuple", 3, "a int"),
        ("tuple", (0, 2, 0), "write outside 0 to 1: 2"),
        ("tuple", (0, 1, 5), "symbol outside 0 to 4: 5"),
        ("multidiscrete", np.array([2, 0, 0]), r"action outside 0 to 1: 2 at \[0\]"),
        ("multidiscrete", np.zeros(3), "dtype float64"),
        ("discrete", 12, "action outside 0 to 11: 12"),
    ],
)
def test_a_wrong_action_is_named_beside_its_space(view, action, found):
    env = TapeEnv(view=view)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected an action in .*, found (action of )?" + found):
        env.step(action)


@pytest.mark.parametrize("name", ["CopyMultiDiscrete", "CopyDiscrete", "ReversedAdditionFixedMultiDiscrete"])
def test_stable_baselines3_trains(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports may use deprecated names
        sb3 = pytest.importorskip("stable_baselines3")
        from stable_baselines3.common.env_checker import check_env as check
        from stable_baselines3.common.env_util import make_vec_env
    check(gym.make(f"envs:hardattn/{name}-v0").unwrapped)
    env = make_vec_env(f"envs:hardattn/{name}-v0", n_envs=2, seed=0)
    agent = sb3.PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(64)
    assert len(agent.ep_info_buffer) > 3
    if name == "CopyDiscrete":
        sb3.DQN("MlpPolicy", env, learning_starts=10, batch_size=8, seed=0, device="cpu").learn(40)
