"""Decoding files: order, resuming, faults, memory and disks, each against decoders that count what they do."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
import zlib
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tailrisk.datasets import decode
from tailrisk.datasets.contract import Files, data_hash
from tailrisk.datasets.decode import BLOCK_BYTES, WAITING, BlankError, Decoding, fault_table
from tailrisk.errors import UserError
from tailrisk.tables import read_json, write_blocks

SHAPE = (2, 2)


def number(path: Path) -> np.ndarray:
    """The number n in a file as [[n, n + 1], [n, n]]; some words stand for faults."""
    text = path.read_text()
    if text == "unreadable":
        raise UserError("not a number")
    if text == "blank":
        raise BlankError("nothing in it")
    if text == "killed":
        os._exit(1)
    if text == "odd":
        raise zlib.error("the row of Doe, Jane")
    if text == "wide":
        return np.zeros((2, 3), dtype=np.int32)
    n = int(text)
    return np.array([[n, n + 1 if text != "0" else 0], [n, n]], dtype=np.int32)


def counted(path: Path, log: Path, pause: float = 0.0) -> np.ndarray:
    """`number`, noted in `log` with the process that did it."""
    with log.open("a") as file:
        file.write(f"{path.name} {os.getpid()}\n")
    time.sleep(pause)
    return number(path)


def written(folder: Path, n: int, first: int = 1) -> list[Path]:
    """`n` files in `folder` that hold the numbers from `first` on; those that are there already are left alone."""
    folder.mkdir(exist_ok=True)
    for row in range(n):
        if not (folder / f"{row:04d}").exists():
            (folder / f"{row:04d}").write_text(str(first + row))
    return [folder / f"{row:04d}" for row in range(n)]


def expected(numbers) -> np.ndarray:
    return np.array([[[n, n + 1], [n, n]] for n in numbers], dtype=np.int32)


def numbers_of(decoding: Decoding, n: int) -> np.ndarray:
    return np.concatenate(list(decoding.rows(np.arange(n))))


class Count:
    """Files of numbers, and how many of them were decoded since the last question."""

    def __init__(self, folder: Path, n: int, workers: str = "threads") -> None:
        self.paths, self.log = written(folder / "files", n), folder / "log"
        self.files = Files(self.paths, partial(counted, log=self.log), SHAPE, np.int32, "files", workers)

    def since(self) -> list[int]:
        """Rows that were decoded since the last question, sorted."""
        rows = [int(line.split()[0]) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return sorted(rows)


@pytest.mark.parametrize(("kind", "workers"), [("threads", 1), ("threads", 4), ("processes", 2)])
def test_order_and_values_are_the_same_however_many_workers(tmp_path, kind, workers) -> None:
    paths = written(tmp_path / "files", 300)
    # The first files of a block take longest, so that later blocks are done before them.
    decoding = Decoding(Files(paths, number, SHAPE, np.int32, "files", kind), tmp_path / "work", "k")
    assert decoding.run(0.0, workers) == {}
    assert np.array_equal(numbers_of(decoding, 300), expected(range(1, 301)))
    assert (tmp_path / "work/inputs.raw").read_bytes() == expected(range(1, 301)).tobytes()
    decoding.clear()
    assert not (tmp_path / "work").exists()


def slow_first(path: Path) -> np.ndarray:
    """`number`, but slow for the first files."""
    array = number(path)
    time.sleep(0.3 if array[0, 0] == 1 else 0.0)
    return array


def test_blocks_that_overtake_others_are_written_in_order(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decode, "BLOCK", 8)
    paths = written(tmp_path / "files", 100)
    decoding = Decoding(Files(paths, slow_first, SHAPE, np.int32, "files"), tmp_path / "work", "k")
    decoding.run(0.0, 4)
    assert np.array_equal(numbers_of(decoding, 100), expected(range(1, 101)))


def job(folder: str, kind: str) -> None:
    """What the test below kills: 600 files, 5 ms each, with a note of what is done after every block."""
    decode.SAVED = 0.0
    count = Count(Path(folder), 600, kind)
    slow = Files(count.paths, partial(counted, log=count.log, pause=0.005), SHAPE, np.int32, "files", kind)
    Decoding(slow, Path(folder, "work"), "k").run(0.0, 2)


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked for has no command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_killed_job_is_taken_up_where_it_was(tmp_path, capfd, kind) -> None:
    code = f"import test_decode; test_decode.job({str(tmp_path)!r}, {kind!r})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    state, deadline = tmp_path / "work/state.json", time.monotonic() + 60
    while not (state.exists() and read_json(state)["done"] >= 128):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "inputs.npy").exists()
    done = read_json(state)["done"]
    assert 128 <= done < 600

    workers = {int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()}
    assert (process.pid in workers) == (kind == "threads")
    while any(alive(worker) for worker in workers):  # they end with the job that started them
        assert time.monotonic() < deadline
        time.sleep(0.05)

    (tmp_path / "log").unlink()
    capfd.readouterr()
    count = Count(tmp_path, 600)
    decoding = Decoding(count.files, tmp_path / "work", "k")
    assert decoding.run(0.0, 2) == {}
    assert count.since() == list(range(done, 600))  # nothing twice of what was noted
    assert f"{done} of 600 files already decoded" in capfd.readouterr().err
    assert np.array_equal(numbers_of(decoding, 600), expected(range(1, 601)))


def test_files_that_were_replaced_since_are_decoded_again(tmp_path, capfd) -> None:
    count = Count(tmp_path, 100)
    decoding = Decoding(count.files, tmp_path / "work", "k")
    decoding.run(0.0, 1)
    count.since()
    count.paths[7].write_text("1234")
    changed = count.paths[70].stat()
    os.utime(count.paths[70], ns=(changed.st_atime_ns, changed.st_mtime_ns + 1))
    decoding.run(0.0, 1)
    assert count.since() == [7, 70]
    assert "98 of 100 files already decoded; 2 that could not be used, or have changed" in capfd.readouterr().err
    assert np.array_equal(numbers_of(decoding, 100), expected([*range(1, 8), 1234, *range(9, 101)]))


@pytest.mark.parametrize("moment", range(1, 7))
def test_an_interruption_never_turns_a_fault_into_a_record(tmp_path, monkeypatch, moment: int) -> None:
    """Two faults are tried again, and the job is interrupted at some place of noting what became of them."""
    count, work = Count(tmp_path, 100), tmp_path / "work"
    for row in (3, 4):
        count.paths[row].unlink()
    Decoding(count.files, work, "k").run(0.1, 1)
    moments = iter(range(1, 1000))

    write = decode._write

    def interrupted(*what) -> None:
        if next(moments) == moment:
            raise KeyboardInterrupt
        write(*what)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "_write", interrupted)
        with suppress(KeyboardInterrupt):
            Decoding(count.files, work, "k").run(0.1, 1)
    assert set(read_json(work / "state.json")["faults"]) == {"3", "4"}
    assert Decoding(count.files, work, "k").run(0.1, 1) == {3: ("missing", ""), 4: ("missing", "")}


def test_whatever_a_library_raises_is_a_fault_of_the_file(tmp_path) -> None:
    count = Count(tmp_path, 100)
    count.paths[5].write_text("odd")
    faults = Decoding(count.files, tmp_path / "work", "k").run(0.01, 2)
    assert faults == {5: ("unreadable", "error")}  # its kind; what it says may be a patient's


def test_other_options_or_files_begin_anew(tmp_path, capfd) -> None:
    count = Count(tmp_path, 100)
    Decoding(count.files, tmp_path / "work", "k").run(0.0, 1)
    assert count.since() == list(range(100))
    Decoding(count.files, tmp_path / "work", "k").run(0.0, 1)
    assert count.since() == []
    assert capfd.readouterr().err == "100 of 100 files already decoded\n"
    Decoding(count.files, tmp_path / "work", "other options").run(0.0, 1)
    assert count.since() == list(range(100))
    assert capfd.readouterr().err == ""


def test_a_note_of_other_options_does_not_outlive_their_array(tmp_path, monkeypatch) -> None:
    """Options a, then b in a job that is killed before its first note, then a again."""
    count, work = Count(tmp_path, 100), tmp_path / "work"
    Decoding(count.files, work, "a").run(0.0, 1)
    other = Files(written(tmp_path / "others", 100, first=5000), number, SHAPE, np.int32, "files")
    with monkeypatch.context() as patch:
        patch.setattr(decode, "write_json", lambda path, value: (_ for _ in ()).throw(OSError("killed")))
        Decoding(other, work, "b").run(0.0, 1)
    count.since()
    again = Decoding(count.files, work, "a")
    again.run(0.0, 1)
    assert count.since() == list(range(100))
    assert np.array_equal(numbers_of(again, 100), expected(range(1, 101)))


def test_a_damaged_note_or_a_short_array_begin_anew(tmp_path) -> None:
    count, work = Count(tmp_path, 100), tmp_path / "work"
    for damage in (
        lambda: (work / "state.json").write_text('{"key": "k", "do'),
        lambda: (work / "state.json").write_text('["k"]'),
        lambda: (work / "inputs.raw").write_bytes(bytes(1599)),
    ):
        decoding = Decoding(count.files, work, "k")
        decoding.run(0.0, 1)
        damage()
        count.since()
        decoding.run(0.0, 1)
        assert count.since() == list(range(100))
        assert np.array_equal(numbers_of(decoding, 100), expected(range(1, 101)))


def test_faults_have_reasons_and_are_tried_again(tmp_path, capfd) -> None:
    count, work = Count(tmp_path, 200), tmp_path / "work"
    count.paths[3].unlink()
    count.paths[70].write_text("unreadable")
    count.paths[71].write_text("0")  # the same number everywhere
    count.paths[150].write_text("blank")
    count.paths[199].unlink()
    count.paths[199].mkdir()
    decoding = Decoding(count.files, work, "k")
    faults = decoding.run(0.025, 2)  # 5 of 200
    assert faults == {
        3: ("missing", ""),
        70: ("unreadable", "not a number"),
        71: ("constant", ""),
        150: ("constant", "nothing in it"),
        199: ("unreadable", os.strerror(errno.EISDIR)),
    }
    assert fault_table(faults, count.paths)["reason"] == [
        "missing", "unreadable", "constant", "constant", "unreadable"
    ]  # fmt: skip
    assert fault_table(faults, count.paths)["detail"][:2] == [
        str(count.paths[3]),
        f"{count.paths[70]}: not a number",
    ]
    whole = np.setdiff1d(np.arange(200), list(faults))
    assert np.array_equal(np.concatenate(list(decoding.rows(whole))), expected(whole + 1))
    count.since()
    capfd.readouterr()
    for row in (3, 70):
        count.paths[row].write_text(str(row + 1))
    assert sorted(decoding.run(0.025, 1)) == [71, 150, 199]
    assert count.since() == [3, 70, 71, 150, 199]
    assert capfd.readouterr().err == (
        "195 of 200 files already decoded; 5 that could not be used, or have changed, are decoded again\n"
    )
    assert np.array_equal(numbers_of(decoding, 200)[[2, 3, 4, 70]], expected([3, 4, 5, 71]))


def test_too_many_faults_stop_early_and_keep_what_is_decoded(tmp_path) -> None:
    count, work = Count(tmp_path, 400), tmp_path / "work"
    for row in range(70, 75):
        count.paths[row].unlink()
    with pytest.raises(UserError) as caught:
        Decoding(count.files, work, "k").run(0.01, 1)
    assert str(caught.value) == (
        f"5 of 400 files cannot be used so far, more than the share 0.01 that `max_quarantined` allows: "
        f"{count.paths[70]} (missing), {count.paths[71]} (missing), {count.paths[72]} (missing) and 2 more; fetch "
        "them again (what is decoded is kept), or raise the share"
    )
    assert count.since() == list(range(128))  # two blocks, not all files
    written(tmp_path / "files", 400)
    decoding = Decoding(count.files, work, "k")
    assert decoding.run(0.01, 1) == {}
    assert count.since() == [*range(70, 75), *range(128, 400)]
    assert np.array_equal(numbers_of(decoding, 400), expected(range(1, 401)))


@pytest.mark.parametrize(("share", "n", "wrong"), [(0.0, 10, 0), (0.29, 100, 29), (0.01, 250, 2)])
def test_the_share_is_allowed_and_no_more(tmp_path, share, n, wrong) -> None:
    count = Count(tmp_path, n)
    for path in count.paths[:wrong]:
        path.unlink()
    assert len(Decoding(count.files, tmp_path / "work", "k").run(share, 1)) == wrong
    count.paths[wrong].unlink()
    with pytest.raises(UserError, match=f"{wrong + 1} of {n} files"):
        Decoding(count.files, tmp_path / "other", "k").run(share, 1)


def test_a_worker_that_is_killed_is_told(tmp_path) -> None:
    paths = written(tmp_path / "files", 200)
    paths[150].write_text("killed")
    files = Files(paths, number, SHAPE, np.int32, "signals", "processes")
    with pytest.raises(UserError, match="a process that decodes signals was killed, perhaps for its memory"):
        Decoding(files, tmp_path / "work", "k").run(0.0, 2)
    paths[150].write_text("151")
    decoding = Decoding(files, tmp_path / "work", "k")
    assert decoding.run(0.0, 2) == {}
    assert np.array_equal(numbers_of(decoding, 200), expected(range(1, 201)))


def test_a_decoder_of_another_shape_is_no_fault_of_the_file(tmp_path) -> None:
    paths = written(tmp_path / "files", 2)
    paths[1].write_text("wide")
    with pytest.raises(ValueError, match=r"was decoded to \(2, 3\), not \(2, 2\)"):
        Decoding(Files(paths, number, SHAPE, np.int32, "files"), tmp_path / "work", "k").run(0.5, 1)


def test_progress(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(decode, "SHOWN", 0.0)
    count = Count(tmp_path, 200)
    count.paths[3].unlink()
    decoding = Decoding(count.files, tmp_path / "work", "k")
    decoding.run(0.01, 1)
    lines = capfd.readouterr().err.splitlines()
    pattern = r"(\d+) of 200 files, [\d,]+ a second, about 0 s left; 1 cannot be used"
    assert [re.fullmatch(pattern, line)[1] for line in lines] == ["64", "128", "192", "200"]
    decoding.run(0.01, 1)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "199 of 200 files already decoded; 1 that could not be used, or have changed, are decoded again"
    assert [re.fullmatch(pattern, line)[1] for line in lines[1:]] == ["200"]


def megabyte(path: Path) -> np.ndarray:
    """An image of 1 MB from the number in a file's name."""
    return np.arange(1 << 20, dtype=np.uint8).reshape(1, 1024, 1024) + np.uint8(int(path.name) % 256)


def decoded_in_all(folder: str, n: int) -> None:
    """Decode `n` MB on two threads, write them as an array and hash it; prints by how much memory grew, in bytes."""
    files = Files([Path(f"{row:04d}") for row in range(n)], megabyte, (1, 1024, 1024), np.uint8, "images")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoding = Decoding(files, Path(folder, "work"), "k")
    decoding.run(0.0, 2)
    path = Path(folder, "inputs.npy")
    write_blocks(path, (n, *files.shape), files.dtype, decoding.rows(np.arange(n)))
    decoding.clear()
    import pandas as pd

    data_hash(pd.DataFrame({"record": ["x"]}), np.load(path, mmap_mode="r"), np.zeros(1))
    unit = 1 if sys.platform == "darwin" else 1024
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)


def test_memory_is_bounded_by_the_workers(tmp_path) -> None:
    """400 MB are decoded at the memory of the blocks of two workers; the same for more files."""
    code = f"import pandas, test_decode; test_decode.decoded_in_all({str(tmp_path)!r}, 400)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    grown = int(done.stdout)
    blocks = 2 * WAITING + 1 + 2  # that wait, that is written, and one a worker that is on its way
    assert blocks * BLOCK_BYTES < 130e6
    assert grown < blocks * BLOCK_BYTES + 32e6 < 160e6
    array = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    assert array.shape == (400, 1, 1024, 1024)
    assert all(np.array_equal(array[row], megabyte(Path(str(row)))) for row in (0, 15, 16, 399))


def test_workers_wait_for_a_slow_disk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decode, "BLOCK", 8)
    count = Count(tmp_path, 400)
    blocks = Decoding(count.files, tmp_path / "work", "k")._decoded(list(range(400)), 2)
    next(blocks)
    time.sleep(0.5)
    assert count.since() == list(range(8 * WAITING * 2))
    blocks.close()
    time.sleep(0.2)
    assert count.since() == []


@pytest.mark.parametrize("mapped", [False, True])
def test_hash_in_parts_is_that_of_the_whole(tmp_path, mapped) -> None:
    import hashlib

    import pandas as pd

    array = np.random.default_rng(0).integers(0, 255, (40, 1 << 20), dtype=np.uint8)
    labels, records = np.arange(40), pd.DataFrame({"record": [str(n) for n in range(40)]})
    digest = hashlib.sha256()
    for part in (array, labels):
        digest.update(f"{part.dtype.str}{part.shape}".encode() + part.tobytes())
    digest.update("\0".join(["record", *records["record"]]).encode() + b"features")
    if mapped:
        np.save(tmp_path / "a.npy", array)
        array = np.load(tmp_path / "a.npy", mmap_mode="r")
        assert data_hash(records[7:], array[7:], labels[7:]) == data_hash(records[7:], np.array(array[7:]), labels[7:])
    assert data_hash(records, array, labels) == digest.hexdigest()


@contextmanager
def mounted(folder: Path, size: str):
    """A small file system of its own at `folder`; skips where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no mount")
    if done.returncode != 0:
        pytest.skip(f"this user cannot mount a file system here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_was_noted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decode, "SAVED", 0.0)
    count = Count(tmp_path, 4096)  # of 16 bytes each
    with mounted(tmp_path / "disk", "48k") as disk:
        decoding = Decoding(count.files, disk / "work", "k")
        with pytest.raises(OSError, match="No space left") as caught:
            decoding.run(0.0, 1)
        assert caught.value.errno == errno.ENOSPC
        done = read_json(disk / "work/state.json")["done"]
        assert 0 < done < 3000
        assert not list((disk / "work").glob(".*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        count.since()
        assert decoding.run(0.0, 1) == {}
        assert count.since() == list(range(done, 4096))
        assert np.array_equal(numbers_of(decoding, 4096), expected(range(1, 4097)))
