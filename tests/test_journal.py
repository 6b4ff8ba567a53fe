"""The journal of a job is read back, even after a crash, or refused."""

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


def write_journal(folder, facts, tile, block, done):
    """Write the journal of a job, and return it."""
    path = folder / "journal"
    path.unlink(missing_ok=True)
    journal = Journal(path, facts, tile, block)
    journal.begin()
    for number, tile_used in done:
        journal.finish(number, tile_used)
    return journal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("journal")


@given(facts, sizes, sizes, st.lists(st.tuples(st.integers(0, 10**9), sizes), max_size=8))
def test_it_reads_back_as_it_was_written(folder, facts, tile, block, done):
    journal = write_journal(folder, facts, tile, block, done)
    again = read_journal(journal.path)
    assert again == Journal(journal.path, facts, journal.tile, block, journal.done)
    check_same(again, facts)


@given(facts, sizes, st.lists(st.integers(0, 99), min_size=1, max_size=8), st.data())
def test_a_truncated_journal_lists_finished_blocks_only(folder, facts, tile, done, data):
    journal = write_journal(folder, facts, tile, tile, [(number, tile) for number in done])
    complete = journal.path.read_bytes()
    first = complete.index(b"\n") + 1
    end = data.draw(st.integers(first, len(complete)))
    journal.path.write_bytes(complete[:end])
    again = read_journal(journal.path)
    assert again.done == {
        json.loads(line)["done"] for line in complete[first:end].split(b"\n")[:-1]
    }
    # blocks can be appended to it
    again.finish(1000, tile)
    assert read_journal(journal.path).done == again.done


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_other_content_is_refused(folder, content):
    path = folder / "journal"
    path.write_bytes(content + b"\n")
    with pytest.raises(UserError, match="damaged"):
        read_journal(path)


@given(facts, facts)
def test_the_journal_of_another_job_is_refused(folder, first, second):
    journal = Journal(folder / "journal", json.loads(json.dumps(first)), (8, 8), (8, 8))
    if all(journal.facts.get(key) == json.loads(json.dumps(second[key])) for key in second):
        check_same(journal, second)
    else:
        with pytest.raises(UserError, match="begun with another"):
            check_same(journal, second)
