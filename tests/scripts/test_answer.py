"""Stories and tapes of one's own."""

import json
from pathlib import Path

import pytest

from hardattn.runs import load_weights, save_weights
from tests.scripts.processes import refused, run

STORY = "1 John went to the kitchen.\n2 Mary moved to the garden.\n3 Where is John?\tkitchen\t1\n4 Where is Mary?\n"


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """A memory network that has read a little."""
    folder = tmp_path_factory.mktemp("reader")
    ended = run("train", "memn2n-stories", "--steps", 20, "--generated", 60, "--memory", 10, "--no-pictures", folder=folder)
    assert ended.code == 0, ended.text
    return folder / "runs" / "memn2n-stories-0"


def told(folder: Path, text: str | bytes) -> Path:
    path = folder / "story.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_question_is_answered_and_every_hop_shown(reader, tmp_path):
    ended = run("answer", reader, told(tmp_path, STORY), folder=tmp_path)
    assert ended.code == 0, ended.text
    for part in ("where is john?", "where is mary?", "hop 3", "mary moved to the garden"):
        assert part in ended.out
    assert "right)" in ended.out or "expected kitchen)" in ended.out
    ended = run("answer", reader / "best.safetensors", told(tmp_path, STORY), "--how", "argmax", "--json", "-", folder=tmp_path)
    rows = json.loads(ended.out)
    assert [row["question"] for row in rows] == ["where is john", "where is mary"] and len(rows[0]["hops"]) == 3
    assert [row["line"] for row in rows] == [3, 4] and all(0 < row["probability"] < 1 for row in rows)
    hops = [hop for row in rows for hop in row["hops"]]
    assert all({hop["weight"], hop["no-sentence"]} == {0.0, 1.0} for hop in hops)  # one slot each, with a sentence or without
    assert all(hop["sentence"] == STORY.splitlines()[hop["line"] - 1][2:-1].lower() for hop in hops)


def test_brackets_in_an_answer_are_words_and_not_markup(reader, tmp_path):
    ended = run("answer", reader, told(tmp_path, STORY.replace("\tkitchen", "\t[/b]")), folder=tmp_path)
    assert ended.code == 0 and "expected [/b])" in ended.out, ended.text


def test_what_memory_without_a_sentence_gets_is_shown(reader, tmp_path):
    """A hardly trained reader of 10 slots, nine of them empty, reads the empty ones."""
    ended = run("answer", reader, told(tmp_path, "1 John went to the kitchen.\n2 Where is John?\n"), folder=tmp_path)
    assert ended.code == 0 and "(memory without a sentence)" in ended.out, ended.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 John went to the moon.\n2 Where is John?\n", "line 1: unknown word 'moon'"),
        ("1 John went to the kitchen.\n3 Where is John?\n", "line 2: expected number 2"),
        ("1 John went to the kitchen.\n2 Where is John?\tkitchen\t7\n", "line 2: supporting fact '7'"),
        ("1 John went to the kitchen.\n2 Where is John? kitchen\n", "line 2: expected a tab between a question and its answer"),
        ("1 John went to the kitchen.\n2 Where is John?\t\t1\n", "line 2: expected a tab and an answer after the question"),
        ("1 John went to the kitchen.\n2 Where is John?\tkitchen\t" + "7" * 5000 + "\n", "line 2: supporting fact '7777"),
        ("1" * 5000 + " John went to the kitchen.\n", "line 1: expected a line that begins with its number"),
        ("1 John went to the kitchen.\n", "holds no question"),
        (b"1 John w\xffnt.\n", "line 1: byte 0xff is not UTF-8"),
        (
            "".join(f"{i} John went to the kitchen.\n" for i in range(1, 12)) + "12 Where is John?\n",
            "line 12: the memory holds 10 sentences, found 11",
        ),
    ],
)
def test_a_malformed_story_is_refused_in_one_line(reader, tmp_path, text, expected):
    ended = run("answer", reader, told(tmp_path, text), folder=tmp_path)
    refused(ended, expected)
    assert len(ended.err.splitlines()) == 1 and "story.txt" in ended.err


WEIGHTS = Path(__file__).parents[2] / "weights"


def test_a_player_of_tapes_is_given_some(tmp_path):
    ended = run("answer", WEIGHTS / "rlntm-copy.safetensors", told(tmp_path, "ABBA\n\nJ\n"), folder=tmp_path)
    assert ended.code == 0, ended.text
    assert "ABBA -> ABBA. (right)" in ended.out and "head on the input  >>>>>" in ended.out
    added = told(tmp_path, "021+11\n2222+2222\n")
    ended = run("answer", WEIGHTS / "player-ReversedAddition.safetensors", added, "--json", "-", folder=tmp_path)
    rows = json.loads(ended.out)
    assert [(row["line"], row["input"], row["output"], row["right"]) for row in rows] == [
        (1, "021+11", "102", True),
        (2, "2222+2222", "12221", True),
    ]
    assert rows[0]["heads"]["input"].startswith("v>")


def test_an_output_that_is_wrong_is_told_so(tmp_path):
    """By one whose weights are all zero."""
    weights, config = load_weights(WEIGHTS / "rlntm-forwardreverse.safetensors")
    save_weights(tmp_path / "blank.safetensors", {name: 0 * value for name, value in weights.items()}, config)
    for model, right in ((WEIGHTS / "rlntm-forwardreverse.safetensors", True), ("blank.safetensors", False)):
        ended = run("answer", model, told(tmp_path, "ABCDEFGHIJ" * 4), "--json", "-", folder=tmp_path)
        [row] = json.loads(ended.out)
        assert row["right"] == right == (row["output"] == row["expected"])
        assert row["expected"] == "JIHGFEDCBA" * 4 + "." and len(row["output"]) == 41


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AB\nA?\n", "story.txt, line 2: unknown symbol '\\?': expected A to J"),
        ("", "story.txt is empty"),
        (b"A\xff\n", "line 1: byte 0xff is not UTF-8"),
    ],
)
def test_a_malformed_tape_is_refused_in_one_line(tmp_path, text, expected):
    refused(run("answer", WEIGHTS / "rlntm-copy.safetensors", told(tmp_path, text), folder=tmp_path), expected)


def test_only_readers_and_players_of_tapes_can_be_asked(tmp_path):
    weights = WEIGHTS / "ram-digits.safetensors"
    refused(run("answer", weights, told(tmp_path, STORY), folder=tmp_path), "expected a reader of stories")
