"""Stories must be read as they are written, and what is wrong with them must be named."""

import os
from pathlib import Path

import pytest
import torch

from envs.babi import FOLDER, BabiConfig
from envs.stories import encode, longest, own, parse, read, spoken, vocabulary
from envs.tales import TALES, tale
from hardattn.contract import Answer, StorySpec, Trace

REAL = Path(os.environ.get("HARDATTN_DATA", "data"))
GENERATED = BabiConfig(tasks=(1, 2, 3, 6, 16), source="generated", generated=60)
TEXT = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Daniel went back to the hallway.
5 Where is Daniel?\thallway\t4
1 Lily is a swan.
2 What do they carry?\tmilk,football\t1
"""


def spec_of(stories, sentences=4):
    return StorySpec(vocabulary(stories), sentences, longest(stories))


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "qa1_test.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_stories_are_read_as_they_are_written(written):
    first, second = read(written(TEXT))
    assert first.sentences[0].words == ("mary", "moved", "to", "the", "bathroom")
    assert [(q.before, q.answer, q.supports, q.line) for q in first.asked] == [
        (2, "bathroom", (0,), 3),
        (3, "hallway", (2,), 5),
    ]
    assert second.asked[0].answer == "milk,football" and second.asked[0].line == 7
    assert read(written(TEXT.replace("\n", "\r\n"))) == [first, second] == read(written(b"\xef\xbb\xbf" + TEXT.encode()))


def test_the_most_recent_sentence_comes_first_and_facts_are_marked():
    stories = parse(TEXT.splitlines(), "text")
    spec = spec_of(stories)
    assert spec.vocabulary[0] == "" and list(spec.vocabulary) == sorted(spec.vocabulary) and "milk,football" in spec.vocabulary
    story, target, supports = encode(stories, spec).story(torch.arange(3), 4, torch.arange(3))
    told = [[spoken(s, spec) for s in sentences] for sentences in story.sentences]
    assert told[1] == ["daniel went back to the hallway", "john went to the hallway", "mary moved to the bathroom", ""]
    assert told[2] == ["lily is a swan", "", "", ""]
    assert [spoken(q, spec) for q in story.query] == ["where is mary", "where is daniel", "what do they carry"]
    assert [spec.vocabulary[i] for i in target] == ["bathroom", "hallway", "milk,football"]
    assert supports.tolist() == [[False, True, False, False], [True, False, False, False], [True, False, False, False]]


def test_what_does_not_fit_the_memory_is_forgotten():
    stories = parse(TEXT.splitlines(), "text")
    story, _, supports = encode(stories, spec_of(stories)).story(torch.tensor([0, 1]), 1, torch.arange(2))
    assert story.sentences.shape[1] == 1
    assert spoken(story.sentences[0, 0], spec_of(stories)) == "john went to the hallway"
    assert supports.tolist() == [[False], [True]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty: expected stories"),
        ("\n \n", "is empty: expected stories"),
        ("1 Mary moved.\n", "holds no question"),
        ("Mary moved.\n", "line 1: expected a line that begins with its number, found 'Mary'"),
        ("2 Mary moved.\n", "line 1: expected number 1, found 2"),
        ("1 Mary moved.\n3 John went.\n", "line 2: expected number 2, or 1 for a new story, found 3"),
        ("1 Mary moved.\n2 .\n", "line 2: expected a sentence or a question, found no word"),
        ("1 Mary moved.\n2 Where is Mary?\n", "line 2: expected a tab and an answer after the question, found none"),
        ("1 Mary moved.\n2 Where is Mary?\t \t1\n", "line 2: expected a tab and an answer"),
        ("1 Mary\tmoved to the bathroom.\n", "line 1: expected a question, which ends in a question mark, before the tab"),
        ("1\tMary moved.\n", "line 1: expected a space after the line's number, found '1"),
        ("1 Mary moved.\n2 Where? he said\tmilk\n", "line 2: expected a question, which ends in a question mark"),
        ("1. Mary moved.\n", "line 1: expected a space after the line's number, found '1.'"),
        (
            "1 Mary moved.\n2 Where is Mary?\tx\t1\ty\n",
            "line 2: expected question, answer and supporting facts between tabs, found 4",
        ),
        ("1 Mary moved.\n2 Where is Mary?\tx\t3\n", "line 2: supporting fact '3' is not the number of a sentence before"),
        ("1 Mary moved.\n2 Where is Mary?\tx\t2\n", "line 2: supporting fact '2' is not"),
        ("1 Mary moved.\n2 Where is Mary?\tx\tone\n", "line 2: supporting fact 'one' is not"),
        ("1 Mary moved.\n2 Who?\tx\t1\n3 Who?\tx\t2\n", "line 3: supporting fact '2' is not"),
        (b"1 Mary moved.\n2 Jos\xe9 went.\n", "line 2: byte 0xe9 is not UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(written, text, words):
    path = written(text)
    with pytest.raises(ValueError, match=words.replace("?", r"\?")) as found:
        read(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_an_answer_is_compared_without_its_full_stop_and_spaces(written):
    [story] = read(
        written("1 Mary took the milk.\n2 What has she?\t Milk , Football .\t1\n3 Where?\tthe  Hall!\t1\n4 How far?\t.5\n")
    )
    assert [asked.answer for asked in story.asked] == ["milk,football", "the hall", ".5"]


def some_stories(count):
    """Each with one question, whose answer is where Mary went last."""
    places = ("hallway", "garden", "kitchen")
    return "".join(f"1 Mary went to the {places[i % 3]}.\n2 Where is Mary?\t{places[i % 3]}\t1\n" for i in range(count))


def test_own_stories_to_train_on(tmp_path):
    for name, count in (("train", 30), ("test", 9)):
        (tmp_path / name).write_text(some_stories(count))
    config = BabiConfig(
        source="own", tasks=(1,), train_file=str(tmp_path / "train"), test_file=str(tmp_path / "test"), memory=4
    )
    task = config.build(tmp_path / "nowhere")
    assert [task.size(split) for split in ("train", "validation", "test")] == [27, 3, 9] and task.parts == ()
    batch = task.scenes("test", torch.arange(9))
    assert [task.spec.vocabulary[i] for i in batch.target] == ["hallway", "garden", "kitchen"] * 3


def test_own_stories_that_cannot_be_trained_on_are_refused(tmp_path):
    (tmp_path / "few").write_text(some_stories(9))
    (tmp_path / "many").write_text(some_stories(10))
    (tmp_path / "long").write_text("1 Mary sat.\n2 Mary sat.\n3 Who sat?\tmary\t2\n")
    few, many, long = (str(tmp_path / name) for name in ("few", "many", "long"))
    for given, words in (
        ((None, many), "expected your own stories to train on: --train-file FILE and --test-file FILE"),
        ((many, None), "expected your own stories to test on"),
        ((few, many), "few: expected at least 10 questions to train on, of which a tenth is held out; found 9"),
        ((many, long), "long, line 3: the memory holds 1 sentences, found 2"),
        ((many, str(tmp_path / "none")), "expected stories at .*none, found no such file"),
    ):
        with pytest.raises(ValueError, match=words):
            BabiConfig(source="own", train_file=given[0], test_file=given[1], memory=1).build(tmp_path)
    with pytest.raises(ValueError, match="expected different stories to train and to test on"):
        BabiConfig(source="own", train_file=many, test_file=many)
    with pytest.raises(ValueError, match='are for source "own"'):
        BabiConfig(train_file=many)


def test_two_files_of_one_task_are_refused(tmp_path):
    folder = tmp_path / FOLDER / "en"
    folder.mkdir(parents=True)
    for name in ("qa1_a_train.txt", "qa1_b_train.txt", "qa1_a_test.txt"):
        (folder / name).write_text(some_stories(10))
    with pytest.raises(
        ValueError, match=r"expected one file qa1_\*_train.txt in .*, found 2: qa1_a_train.txt, qa1_b_train.txt"
    ):
        BabiConfig(tasks=(1,)).build(tmp_path)


def test_of_slots_that_are_alike_each_counts_in_part(tmp_path):
    """A reader that looks everywhere alike lands on the one fact of two sentences in half of its hops."""
    (tmp_path / "train").write_text(some_stories(10))
    (tmp_path / "test").write_text("1 Mary went to the hallway.\n2 Mary went to the garden.\n3 Where is Mary?\tgarden\t2\n")
    config = BabiConfig(
        source="own", tasks=(1,), train_file=str(tmp_path / "train"), test_file=str(tmp_path / "test"), memory=2
    )
    task = config.build()
    batch = task.scenes("test", torch.arange(1))
    output = torch.zeros(1, len(task.spec.vocabulary))
    for weights, hits in (([0.5, 0.5], 50.0), ([0.6, 0.4], 100.0), ([0.4, 0.6], 0.0)):
        answer = Answer(output, Trace(weights=torch.tensor([[weights]])))
        assert task.score(answer, batch)["supporting-hits"].item() == hits


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected stories at .*nowhere.txt, found no such file"):
        read(tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match="cannot read"):
        read(tmp_path)


def test_own_stories_need_no_answers(written):
    spec = spec_of(parse(TEXT.splitlines(), "text"))
    stories, story = own(written("1 Mary went to the hallway.\n2 Where is Mary?\n3 Where is John?\toutside\n"), spec)
    assert [question.answer for question in stories[0].asked] == [None, "outside"]
    assert story.query.shape == (2, spec.words) and story.sentences.shape == (2, spec.sentences, spec.words)
    assert spoken(story.sentences[0, 0], spec) == "mary went to the hallway"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 Mary went.\n2 Where is Bob?\n", "line 2: unknown word 'bob': expected one of the 20 words"),
        ("1 Mary juggled.\n2 Where is Mary?\n", "line 1: unknown word 'juggled'"),
        ("1 Mary went to the the the hallway.\n2 Where is Mary?\n", "line 1: at most 6 words fit into a sentence, found 7"),
    ],
)
def test_what_an_agent_does_not_know_is_named_with_its_line(written, text, words):
    spec = spec_of(parse(TEXT.splitlines(), "text"))
    path = written(text)
    with pytest.raises(ValueError, match=words) as found:
        own(path, spec)
    assert str(path) in str(found.value)


# Generated stories


@pytest.mark.parametrize("task", TALES)
def test_a_tale_is_a_function_of_its_number(task):
    assert tale(task, 0, 7) == tale(task, 0, 7)
    assert len({tuple(tale(task, seed, index)) for seed in (0, 1) for index in range(20)}) > 30
    with pytest.raises(ValueError, match="tasks 1, 2, 3, 6, 16 can be generated; found 4"):
        tale(4, 0, 0)


def follow(facts, question):
    """A reader's answer from the annotated facts alone, told as lines of words: they must be enough."""
    if question[0] == "what":
        return facts[2][-1]
    if question[0] == "is":
        return "yes" if facts[-1][-1] == question[-1] else "no"
    places = [
        fact for fact in facts if fact[-3:-1] and fact[-2] == "the" and fact[1] in ("moved", "went", "journeyed", "travelled")
    ]
    if "before" in question:
        later, earlier = places
        assert later[-1] == question[-1] and later[0] == earlier[0] == facts[0][0]
        return earlier[-1]
    return places[-1][-1]


@pytest.mark.parametrize("task", TALES)
def test_supporting_facts_support_the_answer(task):
    count = {1: 1, 2: 2, 3: 3, 6: 1, 16: 3}[task]
    answers = set()
    for index in range(60):
        [story] = parse(tale(task, 0, index), "tale")
        for question in story.asked:
            facts = [story.sentences[i].words for i in question.supports]
            assert len(facts) == count and follow(facts, question.words) == question.answer
            answers.add(question.answer)
    assert len(answers) == {6: 2, 16: 4}.get(task, 6)


def test_nobody_is_asked_for_who_has_moved_since():
    """Task 1: the fact is the last word on the person. Task 2: nothing has been done with the thing since, nor has its bearer moved on."""
    for task in (1, 2):
        for index in range(60):
            [story] = parse(tale(task, 0, index), "tale")
            for question in story.asked:
                first = story.sentences[question.supports[0]].words
                later = [line.words for line in story.sentences[question.supports[0] + 1 : question.before]]
                assert not any(question.words[-1] in words for words in later)
                if task == 2 and not {"left", "dropped", "discarded", "put"} & set(first):
                    moves = [w[-1] for w in later if w[0] == first[0] and w[1] in ("moved", "went", "journeyed", "travelled")]
                    assert not moves or moves[-1] == question.answer


# The task


@pytest.fixture(scope="module")
def task():
    return GENERATED.build()


def test_a_tenth_is_held_out_and_nothing_is_lost(task):
    assert [task.size(split) for split in ("train", "validation", "test")] == [270, 30, 300]
    every = torch.cat([task._splits[split] for split in ("train", "validation", "test")])
    assert sorted(every.tolist()) == list(range(600))


def test_the_same_questions_are_held_out_whatever_is_trained_together(task):
    alone = BabiConfig(tasks=(2,), source="generated", generated=60).build()
    together, single = (next(t.batches("validation", batch_size=100)).question for t in (task, alone))
    told = [[spoken(s, t.spec) for s in q.query] for t, q in ((task, together), (alone, single))]
    assert told[0][6:12] == told[1]


def test_parts_are_the_tasks_of_the_test_set(task):
    assert task.parts == ("task-1", "task-2", "task-3", "task-6", "task-16", "mean")
    together = torch.cat([b.target for b in task.batches("test", batch_size=64)])
    apart = torch.cat([b.target for part in task.parts[:-1] for b in task.batches(part, batch_size=7)])
    assert torch.equal(together, apart)
    assert BabiConfig(tasks=(2,), source="generated", generated=60).build().parts == ()
    yes_or_no = {task.spec.vocabulary[i] for i in next(task.batches("task-6", batch_size=60)).target}
    assert yes_or_no == {"yes", "no"}


def test_training_draws_all_questions_alike(task):
    batch = task.scenes("train", torch.arange(20_000), seed=3)
    seen = batch.question.query.unique(dim=0)
    trained = task.questions.query[task._splits["train"]].unique(dim=0)
    assert torch.equal(seen, trained)
    assert len(batch.question.key.unique()) == 20_000


def test_hits_count_the_hops_that_read_a_fact(task):
    batch = next(task.batches("task-16", batch_size=2))
    facts, others = (mask[0].nonzero()[:, 0] for mask in (batch.notes, ~batch.notes))
    assert len(facts) == 3
    weights = torch.zeros(2, 4, task.spec.sentences)
    for hop, slot in enumerate([facts[0], others[0], facts[2], facts[0]]):
        weights[0, hop, slot] = 0.6
    weights[1, :, -1] = 1.0
    score = task.score(Answer(torch.zeros(2, len(task.spec.vocabulary)), Trace(weights=weights)), batch)
    assert score["supporting-hits"].tolist() == [75.0, 0.0]
    assert "supporting-hits" not in task.score(Answer(torch.zeros(2, 9), Trace()), batch)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected task 1 of bAbI at .*en.qa1_\*_train.txt, found no such file.*--data-dir FOLDER"
    ):
        BabiConfig().build(tmp_path)


def test_the_training_file_that_is_missing_from_the_larger_set_has_a_stand_in(tmp_path):
    for folder, names in {"en": ("train", "test"), "en-10k": ("test",)}.items():
        (tmp_path / FOLDER / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / FOLDER / folder / f"qa3_x_{name}.txt").write_text(TEXT)
    assert BabiConfig(tasks=(3,), size="10k").build(tmp_path).size("test") == 3
    (tmp_path / FOLDER / "en" / "qa3_x_train.txt").rename(tmp_path / FOLDER / "en" / "qa4_x_train.txt")
    with pytest.raises(ValueError, match=r"expected task 3 of bAbI at .*en-10k"):
        BabiConfig(tasks=(3,), size="10k").build(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tasks": ()}, "tasks must be different numbers"),
        ({"tasks": (1, 1)}, "tasks must be different numbers"),
        ({"tasks": (0,)}, "tasks must be different numbers"),
        ({"tasks": (4,), "source": "generated"}, "out of 1, 2, 3, 6, 16; found"),
        ({"memory": 0}, "memory must be at least 1"),
        ({"generated": 9}, "generated must be at least 10"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        BabiConfig(**settings)


@pytest.mark.skipif(not (REAL / FOLDER).is_dir(), reason="no bAbI: HARDATTN_DATA names the folder that holds babi")
def test_the_published_files():
    """Counts of the published files, and facts that are all remembered."""
    task = BabiConfig(tasks=(1, 3, 16, 19)).build(REAL)
    assert [task.size(split) for split in ("train", "validation", "test")] == [3600, 400, 4000]
    assert task.spec.words == 10 and "w,n" in task.spec.vocabulary
    for part, count in (("task-1", 1), ("task-3", 3), ("task-16", 3), ("task-19", 2)):
        batch = next(task.batches(part, batch_size=1000))
        assert (batch.notes.sum(1) == count).all() and (batch.target > 0).all()
    first = next(task.batches("task-1", batch_size=1))
    assert spoken(first.question.sentences[0, 0], task.spec) == "mary journeyed to the bathroom"
    assert spoken(first.question.query[0], task.spec) == "where is john" and task.spec.vocabulary[first.target] == "hallway"
