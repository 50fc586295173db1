"""A memory network must be the published one, and hard hops must get the gradient they are owed."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from agents.memory_network import MemoryNetworkConfig, position_weights
from envs.babi import BabiConfig
from envs.stories import Story
from hardattn.contract import Batch, StorySpec
from hardattn.learner import Learner, LearnerConfig

D = torch.float64
SPEC = StorySpec(("", *"abcdefgh"), sentences=5, words=4)


def batch_of(seed=0, count=6, spec=SPEC, least=1):
    """Stories of `least` and more sentences of one and more words; the most recent sentence first."""
    g = torch.Generator().manual_seed(seed)
    v, n, j = len(spec.vocabulary), spec.sentences, spec.words

    def sentences(*shape):
        words = torch.randint(1, v, (*shape, j), generator=g)
        return words * (torch.arange(j) < torch.randint(1, j + 1, (*shape, 1), generator=g))

    filled = torch.randint(least, n + 1, (count, 1), generator=g)
    story = sentences(count, n) * (torch.arange(n) < filled)[..., None]
    target = torch.randint(1, v, (count,), generator=g)
    return Batch(Story(story, sentences(count), torch.arange(count) + 100 * seed), target)


def agent_of(seed=0, spec=SPEC, scale=4.0, **settings):
    torch.manual_seed(seed)
    agent = MemoryNetworkConfig(**{"width": 6, "random_noise": 0.0} | settings).build(spec).double()
    with torch.no_grad():
        for p in agent.parameters():
            p *= scale  # so that the weights are uneven
    return agent


def plain_weight(kind, j, length, k, d, spec=SPEC):
    """l_kj of word j of a sentence of so many words; j is None for the word of time."""
    if kind == "code":
        places = spec.words + 1
        j = places if j is None else j
        return 1 + 4 * (k - (d + 1) / 2) * (j - (places + 1) / 2) / (d * places)
    if kind == "none" or j is None:
        return 1.0
    return (1 - j / length) - (k / d) * (1 - 2 * j / length)


def plain_embedding(agent, table, sentence, time=None):
    """Word by word and unit by unit. `table` has a row for every word but the empty one."""
    d, kind, words = agent.config.width, agent.config.position, [i for i in sentence.tolist() if i]
    embedding = torch.zeros(d, dtype=D)
    for k in range(1, d + 1):
        for j, word in enumerate(words, 1):
            embedding[k - 1] += plain_weight(kind, j, len(words), k, d) * table[word - 1, k - 1]
        if time is not None:
            embedding[k - 1] += plain_weight(kind, None, len(words), k, d) * table[len(SPEC.vocabulary) - 1 + time, k - 1]
    return embedding


def plain_reads(agent, sentences, query, softmax=True):
    """The model as the paper has it, one story and one slot at a time: logits, and the weights of every hop."""
    adjacent, hops = agent.config.tying == "adjacent", agent.config.hops
    tables = list(agent.tables) if adjacent else [agent.tables[0], agent.tables[1]] * hops
    u = plain_embedding(agent, tables[0] if adjacent else agent.query, query)
    all_weights = []
    for hop in range(hops):
        keys, values = (tables[hop], tables[hop + 1]) if adjacent else tables[:2]
        zero = torch.zeros(agent.config.width, dtype=D)
        m = [plain_embedding(agent, keys, s, i) if s.any() else zero for i, s in enumerate(sentences)]
        c = [plain_embedding(agent, values, s, i) if s.any() else zero for i, s in enumerate(sentences)]
        scores = torch.stack([u @ slot for slot in m])
        weights = scores.exp() / scores.exp().sum() if softmax else scores
        o = sum(weight * slot for weight, slot in zip(weights, c))
        u = (u if adjacent else agent.between @ u) + o
        u = u.clamp(min=0) if agent.config.rectified else u
        all_weights.append(weights)
    words = tables[-1][: len(SPEC.vocabulary) - 1] if adjacent else agent.output
    return torch.cat([torch.zeros(1, dtype=D), words @ u]), torch.stack(all_weights)


@pytest.mark.parametrize("position", ["code", "paper", "none"])
@pytest.mark.parametrize("tying", ["adjacent", "layer-wise"])
@pytest.mark.parametrize("how", ["soft", "linear"])
@pytest.mark.parametrize("rectified", [False, True])
def test_it_is_the_model_of_the_paper(tying, position, how, rectified):
    agent, batch = agent_of(tying=tying, position=position, scale=2.0, rectified=rectified), batch_of()
    hops = agent.read(batch.question, how, key=batch.question.key)
    for i, (sentences, query) in enumerate(zip(*batch.question[:2])):
        expected = plain_reads(agent, sentences, query, softmax=how == "soft")
        torch.testing.assert_close((hops.logits[i, 0], hops.weights[:, i, 0]), expected)
    assert hops.weights.std(0).mean() > 1e-3  # the hops differ


def test_position_encoding_by_hand():
    """d = 2. In the paper's, a sentence of two words; in the program's, three places of which the last is the word of time's."""
    sentence = torch.tensor([[5, 6, 0]])
    a, b = position_weights("paper", sentence, 2)
    assert (a + b / 2).tolist() == [[0.5, 0.5, 1.0]]  # unit 1 of 2: l = (1 - j / 2) - (1 - j) / 2 = 1 / 2 for both words
    assert (a + b).tolist() == [[0.5, 1.0, 1.0]]  # unit 2 of 2: l = j / 2
    a, b = position_weights("code", sentence, 2)
    torch.testing.assert_close(a + b / 2, torch.tensor([[4 / 3, 1.0, 2 / 3]], dtype=D))  # l = 1 + 4 (-1 / 2) (j - 2) / 6
    torch.testing.assert_close(a + b, torch.tensor([[2 / 3, 1.0, 4 / 3]], dtype=D))
    a, b = position_weights("none", sentence, 2)
    assert a.tolist() == [[1, 1, 1]] and not b.any()


def test_order_counts_only_if_it_is_encoded():
    story, query = torch.tensor([[[1, 2, 3, 0]]]), torch.tensor([[4, 0, 0, 0]])
    spec = SPEC
    for position, same in (("code", False), ("paper", False), ("none", True)):
        agent = agent_of(position=position, spec=spec)
        one, other = (agent.embed(Story(x, query, torch.zeros(1)))[1] for x in (story, story[..., [2, 1, 0, 3]]))
        assert torch.allclose(one, other) == same


def test_the_empty_word_and_empty_slots_are_zero():
    agent, batch = agent_of(), batch_of()
    empty = ~batch.question.sentences.any(-1)
    assert empty.any()
    memory = agent.embed(batch.question)[1]
    assert not memory[empty].any() and memory[~empty].any(-1).all()
    longer = StorySpec(SPEC.vocabulary, SPEC.sentences, SPEC.words)
    for kind in ("paper", "none"):  # in the program's encoding the time word's place says how long sentences may be
        agent = agent_of(position=kind, spec=longer)
        padded = Story(F.pad(batch.question.sentences, (0, 3)), F.pad(batch.question.query, (0, 3)), batch.question.key)
        torch.testing.assert_close(agent.answer(padded).output, agent.answer(batch.question).output)
    assert not agent.read(batch.question, "soft", key=batch.question.key).logits[..., 0].any()


def test_the_same_sentence_differs_by_when_it_was_told():
    agent = agent_of()
    question = Story(torch.tensor([[[1, 2, 0, 0]] * 3 + [[0, 0, 0, 0]] * 2]), torch.tensor([[1, 0, 0, 0]]), torch.tensor([0]))
    memory = agent.embed(question)[1][0, :, 0]
    a, b = position_weights("code", torch.tensor([[1, 2, 0, 0, 9]]), 6)
    k = torch.arange(1, 7, dtype=D) / 6
    weight = a[0, -1] + k * b[0, -1]
    times = agent.tables[0, len(SPEC.vocabulary) - 1 :]
    torch.testing.assert_close(memory[0] - memory[2], weight * (times[0] - times[2]))


@pytest.mark.parametrize("hops", [1, 3])
def test_tables_are_shared_as_the_tying_says(hops):
    rows, words, d = len(SPEC.vocabulary) - 1 + SPEC.sentences, len(SPEC.vocabulary) - 1, 6
    count = {t: sum(p.numel() for p in agent_of(tying=t, hops=hops).parameters()) for t in ("adjacent", "layer-wise")}
    assert count["adjacent"] == (hops + 1) * rows * d
    assert count["layer-wise"] == 2 * rows * d + 2 * words * d + d * d


def test_empty_memories_only_make_sentences_older():
    """Times stay in order, stay within the memory, and skip at most a tenth of the sentences, rounded up."""
    spec = StorySpec(SPEC.vocabulary, sentences=20, words=4)
    agent, question = agent_of(spec=spec, random_noise=0.1), batch_of(count=300, spec=spec).question
    ages, filled = agent._ages(question.sentences, question.key), question.sentences.any(-1).sum(-1)
    skipped = []
    for row, n in zip(ages.tolist(), filled.tolist()):
        row = row[:n]
        assert all(later > earlier or later == 19 for earlier, later in itertools.pairwise(row))
        assert 0 <= row[0] <= row[-1] <= 19
        assert row[-1] <= n - 1 + math.ceil(n / 10)
        skipped.append(row[-1] - (n - 1))
    short = [s for s, n in zip(skipped, filled.tolist()) if 10 < n <= 18]
    assert set(short) == {0, 1, 2}
    assert agent_of(spec=spec)._ages(question.sentences, question.key) is None


def test_training_meets_empty_memories_and_answers_do_not():
    agent, batch = agent_of(random_noise=1.0), batch_of()
    plain = agent_of(random_noise=0.0)
    assert agent.loss(batch).total != plain.loss(batch).total
    assert torch.equal(agent.answer(batch.question).output, plain.answer(batch.question).output)


def test_training_starts_linear_and_answers_never_are():
    agent, batch = agent_of(linear_start=0.3, soft_start=0.2, access="sampled"), batch_of()
    before = agent.answer(batch.question).output
    phases = {}
    for progress in (0.0, 0.29, 0.31, 0.49, 0.5, 0.99):
        agent.at(progress)
        phases[progress] = agent._phase()
        assert torch.equal(agent.answer(batch.question).output, before)
    assert list(phases.values()) == ["linear", "linear", "soft", "soft", "sampled", "sampled"]
    agent.at(0.0)
    logits = torch.stack([plain_reads(agent, *q, softmax=False)[0] for q in zip(*batch.question[:2])])
    assert agent.loss(batch).terms["nll"].item() == pytest.approx(F.cross_entropy(logits, batch.target).item())


def test_the_loss_of_soft_hops_is_cross_entropy():
    agent, batch = agent_of(), batch_of()
    loss, answer = agent.loss(batch), agent.answer(batch.question)
    torch.testing.assert_close(loss.total, F.nll_loss(answer.output, batch.target))
    wrong = (answer.output.argmax(-1) != batch.target).double().mean()
    assert loss.terms["error"].item() == pytest.approx(100 * wrong.item())


def enumerated(agent, batch, reward):
    """The exact gradient of hard hops: every path through one story, its probability and what it earns."""
    question = batch.question
    u, memory = agent.embed(question)
    slots, hops = memory[0].unbind(1), agent.config.hops
    value = 0.0
    for path in itertools.product(range(SPEC.sentences), repeat=hops):
        if any(slot >= question.sentences.any(-1).sum() for slot in path):
            continue
        state, log_prob = u[0], 0.0
        for hop, slot in enumerate(path):
            scores = (slots[hop] @ state)[: question.sentences.any(-1).sum()]
            log_prob = log_prob + scores.log_softmax(-1)[slot]
            state = state + slots[hop + 1][slot]
        logits = torch.cat([torch.zeros(1, dtype=D), agent.tables[-1, : len(SPEC.vocabulary) - 1] @ state])
        log_likelihood = logits.log_softmax(-1)[batch.target[0]]
        earned = log_likelihood if reward == "log-likelihood" else (logits.argmax() == batch.target[0]).double()
        # The answers of the paths that are taken, and which paths are taken.
        value = value - log_prob.exp().detach() * log_likelihood - log_prob.exp() * earned.detach()
    return torch.autograd.grad(value, agent.tables)[0]


@pytest.mark.parametrize("reward", ["correct", "log-likelihood"])
@pytest.mark.parametrize("baseline", ["none", "leave-one-out", "learned", "batch-mean", "self-critical", "constant"])
def test_the_gradient_of_drawn_hops_is_the_enumerated_one(reward, baseline):
    """Three sentences and two hops: nine paths, and 20,000 rollouts of them."""
    agent = agent_of(hops=2, access="sampled", rollouts=20_000, baseline=baseline, reward=reward, scale=3.0)
    batch = next(b for b in (batch_of(seed, count=1) for seed in range(99)) if b.question.sentences.any(-1).sum() == 3)
    exact = enumerated(agent, batch, reward)
    (found,) = torch.autograd.grad(agent.loss(batch).total, agent.tables)
    assert exact.norm() > 0.05
    assert (found - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("access", ["sampled", "straight-through", "gumbel"])
def test_hard_hops_read_one_sentence_that_exists(access):
    agent, batch = agent_of(access=access, rollouts=4), batch_of(count=40)
    assert agent.hows == ("argmax", "sampled", "soft", "uniform")
    there = batch.question.sentences.any(-1)
    weights = agent.read(batch.question, access, rollouts=4, key=batch.question.key).weights.detach()
    torch.testing.assert_close(weights.max(-1).values, torch.ones(3, 40, 4, dtype=D))
    assert there.gather(1, weights.argmax(-1).permute(1, 0, 2).flatten(1)).all()
    for how in ("argmax", "sampled"):
        trace = agent.answer(batch.question, how).trace
        assert trace.weights.shape == (40, 3, 5) and torch.allclose(trace.weights.sum(-1), torch.ones(40, 3, dtype=D))
        assert there.gather(1, trace.weights.argmax(-1)).all()
        assert torch.equal(trace.reads, torch.full((40,), 3 * 6, dtype=D))
        assert torch.equal(trace.scores, 3 * there.sum(-1).double())
    loss = agent.loss(batch)
    loss.total.backward()
    assert agent.tables.grad.isfinite().all() and ("reinforce" in loss.terms) == (access == "sampled")


def test_undecided_hops_are_rewarded_and_empty_slots_are_no_option():
    settings = {"access": "sampled", "rollouts": 2, "baseline": "none", "scale": 2.0}
    plain, rewarded, batch = agent_of(**settings), agent_of(**settings, entropy_bonus=0.3), batch_of()
    one, other = plain.loss(batch), rewarded.loss(batch)
    torch.testing.assert_close(one.total - 0.3 * one.terms["entropy"], other.total)
    there = batch.question.sentences.any(-1)
    scores = plain.read(batch.question, "sampled", rollouts=2, key=batch.question.key).scores
    by_hand = [scores[:, i, :, : there[i].sum()].softmax(-1) for i in range(len(there))]
    expected = torch.stack([-(p * p.log()).sum(-1).mean() for p in by_hand]).mean()
    torch.testing.assert_close(one.terms["entropy"], expected.detach())
    (gradient,) = torch.autograd.grad(other.total, rewarded.tables)
    assert gradient.isfinite().all() and not torch.equal(gradient, torch.autograd.grad(one.total, plain.tables)[0])


def test_draws_depend_on_the_seed_and_on_nothing_else():
    agent, batch = agent_of(access="sampled", scale=1.0), batch_of(count=40)
    one, again, other = (agent.answer(batch.question, "sampled", seed).trace.weights for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_story_without_sentences_can_be_asked_about():
    question = Story(torch.zeros(2, 5, 4, dtype=torch.int64), torch.tensor([[1, 2, 0, 0]] * 2), torch.arange(2))
    for how in ("argmax", "sampled", "soft", "uniform"):
        agent = agent_of(access="sampled", random_noise=0.1)
        assert agent.answer(question, how).output.isfinite().all()
    assert agent.loss(Batch(question, torch.tensor([1, 2]))).total.isfinite()


def test_equal_weights_are_a_control():
    batch = batch_of()
    weights = agent_of().answer(batch.question, "uniform").trace.weights
    there = batch.question.sentences.any(-1)
    torch.testing.assert_close(weights, (there / there.sum(-1, keepdim=True)).double()[:, None].expand(-1, 3, -1))


def test_reordered_questions_get_reordered_answers():
    agent, batch, order = agent_of(access="sampled"), batch_of(count=7), torch.tensor([3, 1, 6, 0, 5, 2, 4])
    for how in agent.hows:
        one = agent.answer(batch.question, how)
        other = agent.answer(Story(*(x[order] for x in batch.question)), how)
        torch.testing.assert_close(other.output, one.output[order])
        torch.testing.assert_close(other.trace.weights, one.trace.weights[order])


def test_answers_are_blind_to_targets_and_to_supporting_facts():
    agent, batch = agent_of(), batch_of()
    before = agent.answer(batch.question)
    agent.loss(batch._replace(target=batch.target.roll(1), notes=torch.ones(6, 5, dtype=torch.bool)))
    assert torch.equal(agent.answer(batch.question).output, before.output)


def test_a_baseline_learns_from_soft_hops_too():
    """So it is ready when they become hard; and in no phase does a parameter go without a gradient."""
    agent, batch = agent_of(access="sampled", soft_start=0.5), batch_of()
    for progress in (0.0, 0.7):
        agent.at(progress)
        agent.zero_grad()
        agent.loss(batch).total.backward()
        assert all(p.grad is not None and p.grad.any() for p in agent.parameters())


def test_it_learns_where_people_are_by_reading_the_right_sentence():
    task = BabiConfig(tasks=(1,), source="generated", generated=500).build()
    torch.manual_seed(0)
    agent = MemoryNetworkConfig(width=20).build(task.spec)
    learner = Learner(agent, LearnerConfig(learning_rate=1e-2), 200)
    for step, batch in zip(range(200), task.batches("train", batch_size=32)):
        learner.update(batch, step)
    test = next(task.batches("test", batch_size=500))
    scores = {how: task.score(agent.answer(test.question, how), test) for how in agent.hows}
    assert scores["soft"]["error"].mean() < 15 and scores["soft"]["supporting-hits"].mean() > 80
    assert scores["uniform"]["error"].mean() > 50


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hops": 0}, "hops must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"linear_start": 0.7, "soft_start": 0.5}, "expected a sum of at most 1"),
        ({"random_noise": -0.1}, "random_noise must be at least 0"),
        ({"access": "sampled", "baseline": "leave-one-out"}, "needs rollouts >= 2"),
        ({"rollouts": 2}, "soft hops draw nothing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        MemoryNetworkConfig(**settings)


def test_an_unknown_way_of_answering_is_refused():
    with pytest.raises(ValueError, match="how must be one of soft, argmax, uniform; found 'random'"):
        agent_of().answer(batch_of().question, "random")
