import os
import resource
from pathlib import Path
from threading import Thread

import pytest

from modelyard.domain.records import Label, PredictionRecord
from modelyard.errors import InvalidInput, RecordNotKept
from modelyard.records import segments
from modelyard.records.log import LabelLog, PredictionLog, RecordFiles, read, read_labels
from modelyard.records.segments import Damage
from unit.records.samples import label, record


def ids(directory: Path) -> list[str]:
    return [one.prediction_id for one in read(directory)]


def files(directory: Path, what: str = "predictions") -> list[Path]:
    return segments.segments(directory / what)


def test_every_field_comes_back(tmp_path: Path) -> None:
    body = {"request": b"\x00\xff raw", "response": b"", "content_type": "text/plain", "form": "oip"}
    fate = {"outcome": "refused", "status": 422, "error": "no"}
    full = record("a1", rows=2, row_ids=("x", "y"), **body, **fate)
    log = PredictionLog(tmp_path)
    log.append(full)
    assert list(read(tmp_path)) == [full]


def test_an_appended_record_is_read_before_the_log_is_closed(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append(record("a1"))
    assert ids(tmp_path) == ["a1"]
    log.append(record("a2"))
    assert ids(tmp_path) == ["a1", "a2"]


def test_nothing_is_there_before_the_first_append(tmp_path: Path) -> None:
    assert ids(tmp_path / "nowhere") == []
    PredictionLog(tmp_path).close()
    assert ids(tmp_path) == []
    assert files(tmp_path) == []


def test_two_writers_have_a_segment_each(tmp_path: Path) -> None:
    one, two = PredictionLog(tmp_path), PredictionLog(tmp_path)
    for number in range(3):
        one.append(record(f"one-{number}"))
        two.append(record(f"two-{number}"))
    assert len(files(tmp_path)) == 2
    assert sorted(ids(tmp_path)) == [f"{name}-{number}" for name in ("one", "two") for number in range(3)]


def test_threads_share_a_log(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=4096)

    def write(name: str) -> None:
        for number in range(100):
            log.append(record(f"{name}-{number}"))

    threads = [Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ids(tmp_path)
    assert sorted(found) == sorted(f"{name}-{number}" for name in "abcd" for number in range(100))
    for name in "abcd":
        assert [one for one in found if one[0] == name] == [f"{name}-{number}" for number in range(100)]


def test_a_full_segment_is_followed_by_another(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=1000)
    for number in range(10):
        log.append(record(str(number)))
    assert len(files(tmp_path)) > 2
    assert ids(tmp_path) == [str(number) for number in range(10)]


def test_a_forked_child_does_not_write_into_its_parents_segment(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append(record("parent-1"))
    child = os.fork()
    if child == 0:
        try:
            log.append(record("child"))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    log.append(record("parent-2"))
    assert sorted(ids(tmp_path)) == ["child", "parent-1", "parent-2"]
    assert len(files(tmp_path)) == 2


def test_fsync_writes_the_same(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, fsync="always")
    log.append(record("a1"))
    assert ids(tmp_path) == ["a1"]


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append(record("a1"))
    log.close()
    log.close()
    with pytest.raises(RecordNotKept, match="closed"):
        log.append(record("a2"))
    assert ids(tmp_path) == ["a1"]


@pytest.mark.parametrize("keep", [0, 1, 11, 12, 40])
def test_a_torn_end_is_passed_over(tmp_path: Path, keep: int) -> None:
    log = PredictionLog(tmp_path)
    log.append(record("a1"))
    whole = files(tmp_path)[0].stat().st_size
    log.append(record("a2"))
    log.close()
    with files(tmp_path)[0].open("r+b") as file:
        file.truncate(whole + keep)
    damage: list[Damage] = []
    found = [one.prediction_id for one in RecordFiles(tmp_path, damage.append).predictions()]
    assert found == ["a1"]
    assert damage == []


def test_damage_in_the_middle_is_skipped_and_reported(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    offsets = []
    for name in ("a1", "a2", "a3"):
        offsets.append(files(tmp_path)[0].stat().st_size if files(tmp_path) else 0)
        log.append(record(name))
    log.close()
    path = files(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[offsets[1] + 100] ^= 0xFF
    path.write_bytes(data)
    damage: list[Damage] = []
    found = [one.prediction_id for one in RecordFiles(tmp_path, damage.append).predictions()]
    assert found == ["a1", "a3"]
    assert damage == [Damage(path, offsets[1], offsets[2] - offsets[1])]
    assert f"offset {offsets[1]} are damaged" in str(damage[0])


def test_files_that_are_no_segments_are_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    (folder / "0-empty.log").write_bytes(b"")
    (folder / "1-other.log").write_bytes(b"x" * 100)
    (folder / "readme.txt").write_bytes(b"hello")
    assert ids(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordNotKept, match=r"could not write to the log .*file"):
        PredictionLog(tmp_path / "file")


def test_a_file_size_limit_is_reported_and_the_log_goes_on_when_it_is_lifted(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append(record("a1"))
    size = files(tmp_path)[0].stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        with pytest.raises(RecordNotKept, match="too large"):
            log.append(record("a2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path)[0].stat().st_size == size
    log.append(record("a3"))
    assert ids(tmp_path) == ["a1", "a3"]


def test_text_that_utf8_cannot_hold_does_not_stop_a_record(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append(record("a1", error="unknown column '\ud800'", row_ids=("\udfff",)))
    (found,) = read(tmp_path)
    assert found.error == r"unknown column '\ud800'"
    assert found.row_ids == (r"\udfff",)


def test_a_record_from_a_later_release_with_more_fields_is_read(tmp_path: Path) -> None:
    import msgspec

    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(record("a1")))
    log = PredictionLog(tmp_path)
    log._segments.append(msgspec.msgpack.encode({**raw, "region": "west"}))
    assert list(read(tmp_path)) == [record("a1")]
    assert isinstance(next(read(tmp_path)), PredictionRecord)


@pytest.mark.parametrize("value", ["late", 1, 0.1, True, None, -(2**63), 2**64 - 1])
def test_labels_keep_their_type(tmp_path: Path, value: object) -> None:
    LabelLog(tmp_path).append(label("a1", value))
    (found,) = read_labels(tmp_path)
    assert found == label("a1", value)
    assert type(found.value) is type(value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800"])
def test_a_label_that_cannot_be_kept_is_refused(tmp_path: Path, value: object) -> None:
    log = LabelLog(tmp_path)
    with pytest.raises(InvalidInput, match="the label for 'a1' cannot be kept"):
        log.append(label("a1", value))
    assert list(read_labels(tmp_path)) == []


def test_many_labels_are_added_at_once(tmp_path: Path) -> None:
    many = [Label(f"p{number}", number, number) for number in range(10_000)]
    assert LabelLog(tmp_path).append_many(iter(many)) == len(many)
    assert list(read_labels(tmp_path)) == many
    assert LabelLog(tmp_path).append_many([]) == 0


def test_short_lived_label_writers_share_a_segment(tmp_path: Path) -> None:
    for number in range(5):
        log = LabelLog(tmp_path)
        log.append(label(f"p{number}"))
        log.close()
    assert len(files(tmp_path, "labels")) == 1
    assert [one.prediction_id for one in read_labels(tmp_path)] == [f"p{number}" for number in range(5)]


def test_a_label_writer_leaves_a_living_writers_segment_alone(tmp_path: Path) -> None:
    one, two = LabelLog(tmp_path), LabelLog(tmp_path)
    one.append(label("p1"))
    two.append(label("p2"))
    one.append(label("p3"))
    assert len(files(tmp_path, "labels")) == 2
    assert sorted(one.prediction_id for one in read_labels(tmp_path)) == ["p1", "p2", "p3"]


def test_a_label_writer_goes_on_after_a_torn_end(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    log.append(label("p1"))
    log.append(label("p2"))
    log.close()
    (path,) = files(tmp_path, "labels")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3)
    log = LabelLog(tmp_path)
    log.append(label("p3"))
    assert [one.prediction_id for one in read_labels(tmp_path)] == ["p1", "p3"]


def test_a_full_label_segment_is_left(tmp_path: Path) -> None:
    for number in range(3):
        log = LabelLog(tmp_path, segment_bytes=50)
        log.append(label(f"p{number}"))
        log.close()
    assert len(files(tmp_path, "labels")) == 3
