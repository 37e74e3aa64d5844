from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from filters.core import answers
from filters.core.answers import Answers, answers_json, answers_of, read_answers
from filters.core.uids import format_uids

ONE, TWO, THREE = ("0" * 31 + digit for digit in "123")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.csv"


def read(file: Path, text: str) -> Answers:
    file.write_text(text, encoding="utf-8")
    return read_answers(str(file))


def test_answers_are_read_by_the_names_of_their_columns_in_the_order_of_uids(file: Path) -> None:
    found = read(file, f"key,ok,uid\na,TRUE,{TWO}\nb,0,{ONE.upper()}\n\nc, 1 ,{THREE}\n")
    assert format_uids(found.uids) == [ONE, TWO, THREE]
    assert found.ok.tolist() == [False, True, True]
    assert found.probability.tolist() == [1, 1, 1]


def test_what_a_spreadsheet_writes_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfuid,ok\r\n" + f'"{ONE}",false\r\n'.encode())
    assert read_answers(str(file)).ok.tolist() == [False]


def test_an_answer_that_repeats_counts_once(file: Path) -> None:
    assert read(file, f"uid,ok\n{ONE},1\n{ONE},true\n").ok.tolist() == [True]


def test_no_answers_are_no_error(file: Path) -> None:
    assert read(file, "uid,ok\n").ok.tolist() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: answers have the columns uid and ok, not none"),
        ("uid;ok\n", "line 1: answers have the columns uid and ok, not uid;ok"),
        ("uid,okay\n", "not uid, okay"),
        (f"uid,ok\n{ONE},1\n{TWO},maybe\n", "line 3: ok is 1 or true for a good pair, .* not 'maybe'"),
        (f"uid,ok\n{ONE}\n", "line 2: ok is 1 or true .* not ''"),
        ("uid,ok\n12,1\n", "line 2: a uid is 32 hex digits, not '12'"),
        (f"uid,ok\n{ONE},1\n{TWO},1\n{ONE},0\n", f"lines 2 and 4: uid {ONE} is both ok and not ok: keep one"),
        (f'uid,ok\n{ONE},"1\n', "is no CSV file in UTF-8"),
        (f"uid,ok,probability\n{ONE},1,0\n", "line 2: a probability is above 0 and at most 1, not '0'"),
        (f"uid,ok,probability\n{ONE},1\n", "line 2: a probability is above 0 and at most 1, not None"),
        (f"uid,ok,probability\n{ONE},1,nan\n", "line 2: a probability is above 0 and at most 1, not 'nan'"),
    ],
)
def test_what_is_no_answer_is_refused_by_its_line(file: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"answers.csv.*{message}"):
        read(file, text)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can't read the answers .*absent.csv: No such file"):
        read_answers(str(tmp_path / "absent.csv"))
    with pytest.raises(ValueError, match="can't read the answers"):
        read_answers(str(tmp_path))
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"picture.jpg is no CSV file in UTF-8"):
        read_answers(str(tmp_path / "picture.jpg"))


def test_more_answers_than_an_audit_has_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_ANSWERS", 2)
    assert len(read(file, f"uid,ok\n{ONE},1\n{TWO},1\n").ok) == 2
    with pytest.raises(ValueError, match="more than 2 answers"):
        read(file, f"uid,ok\n{ONE},1\n{TWO},1\n{THREE},1\n")


def test_the_fingerprint_is_of_what_was_said(file: Path) -> None:
    before = read(file, f"uid,ok\n{ONE},1\n{TWO},0\n").fingerprint
    assert read(file, f"ok,uid,note\nfalse,{TWO},x\ntrue,{ONE},y\n").fingerprint == before
    others = (f"uid,ok\n{ONE},1\n{TWO},1\n", f"uid,ok,probability\n{ONE},1,1\n{TWO},0,.5\n")
    assert before not in [read(file, other).fingerprint for other in others]


def test_answers_survive_json(file: Path) -> None:
    found = read(file, f"uid,ok,probability\n{ONE},1,.25\n{TWO},0,1\n")
    copy = answers_of(json.loads(json.dumps(answers_json(found))))
    assert copy.fingerprint == found.fingerprint


def test_each_answered_sample_is_counted_among_many() -> None:
    generator = np.random.default_rng(0)
    pool = generator.integers(0, 2**64, (500, 2), dtype=np.uint64)
    pool[::50] = [[7, at << 8] for at in range(10)]  # equal upper halves, zero bytes at the end
    asked = np.unique(np.concatenate([pool[::25], [[7, 5]]]).astype(np.uint64), axis=0)
    told = Answers(asked, np.ones(len(asked), bool), np.ones(len(asked)))
    twice = np.concatenate([pool, pool[:30]])
    values = np.arange(len(twice))
    found = told.count(twice, values)
    for place, uid in enumerate(asked):
        here = (twice == uid).all(axis=1)
        assert found[:, place].tolist() == [here.sum(), values[here].sum()]
    assert found[0].min() == 0
    assert np.array_equal(
        told.count(twice[:200], values[:200]) + told.count(twice[200:], values[200:]), found
    )
    nobody = Answers(asked[:0], np.zeros(0, bool), np.zeros(0))
    assert nobody.count(twice, values).shape == (2, 0)


def test_answers_with_unequal_chances_are_thinned_to_equal_ones() -> None:
    generator = np.random.default_rng(1)
    uids = generator.integers(0, 2**64, (4000, 2), dtype=np.uint64)
    probability = np.repeat([0.1, 0.4], [2000, 2000])
    told = Answers(uids, generator.random(4000) < 0.5, probability)
    even = told.evened()
    assert np.array_equal(even.uids[:2000], uids[:2000])
    assert len(even.ok) - 2000 == pytest.approx(500, abs=60)
    assert (even.probability[2000:] == 0.4).all()
    alike = Answers(uids, told.ok, np.full(4000, 0.3))
    assert len(alike.evened().ok) == 4000
    assert len(Answers(uids[:0], told.ok[:0], probability[:0]).evened().ok) == 0
