"""The journal of a job, whatever a crash leaves of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_noise2score import UserError
from napari_noise2score.denoising._journal import Journal, check_same, read_journal

sizes = st.lists(st.integers(1, 10**6), min_size=2, max_size=3).map(tuple)
facts = st.dictionaries(
    st.sampled_from(["model", "noise", "what", "files", "dtype"]),
    st.none() | st.text() | st.integers() | st.lists(st.integers(), max_size=3),
)


def written(folder, facts, tile, block, done):
    """Write the journal of a job and return it."""
    path = folder / "journal"
    path.unlink(missing_ok=True)
    journal = Journal(path, facts, tile, block)
    journal.begin()
    for number, used in done:
        journal.finish(number, used)
    return journal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("journal")


@given(facts, sizes, sizes, st.lists(st.tuples(st.integers(0, 10**9), sizes), max_size=8))
def test_it_reads_back_as_it_was_written(folder, facts, tile, block, done):
    journal = written(folder, facts, tile, block, done)
    again = read_journal(journal.path)
    assert again == Journal(journal.path, facts, journal.tile, block, journal.done)
    check_same(again, facts)


@given(facts, sizes, st.lists(st.integers(0, 99), min_size=1, max_size=8), st.data())
def test_cut_off_anywhere_it_holds_nothing_that_is_not_done(folder, facts, tile, done, data):
    journal = written(folder, facts, tile, tile, [(number, tile) for number in done])
    whole = journal.path.read_bytes()
    first = whole.index(b"\n") + 1
    end = data.draw(st.integers(first, len(whole)))
    journal.path.write_bytes(whole[:end])
    again = read_journal(journal.path)
    assert again.done == {json.loads(line)["done"] for line in whole[first:end].split(b"\n")[:-1]}
    # and what is appended then is whole
    again.finish(1000, tile)
    assert read_journal(journal.path).done == again.done


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_other_content_is_refused(folder, content):
    path = folder / "journal"
    path.write_bytes(content + b"\n")
    with pytest.raises(UserError, match="damaged"):
        read_journal(path)


@given(facts, facts)
def test_another_job_is_told_from_it(folder, first, second):
    journal = Journal(folder / "journal", json.loads(json.dumps(first)), (8, 8), (8, 8))
    if all(journal.facts.get(key) == json.loads(json.dumps(second[key])) for key in second):
        check_same(journal, second)
    else:
        with pytest.raises(UserError, match="begun with another"):
            check_same(journal, second)
