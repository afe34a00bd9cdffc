"""The store: nothing that was kept is lost, nothing half-written is seen, nobody is let out of it."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import every_view

from workbench.result import Named, Result
from workbench.store import Store

HERE = Path(__file__).parent
READER = """
import os, sys
import safetensors.numpy
from workbench.store import Store
if os.geteuid() == 0: os.setuid(65534)  # root may write anywhere
store = Store(sys.argv[1])
print(store.read_only, store.find("key"), store.get(sys.argv[2]).scalars["number"])
"""


def result_number(number: int, size: int = 4) -> Result:
    values = np.full(size, number, dtype=np.float32)
    arrays = {"score": Named(values, ("pos",))}
    return Result(analysis="counting", finding=f"number {number}", scalars={"number": number}, arrays=arrays)


def start_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def unfinished(store: Store) -> list[Path]:
    return list((store.root / "runs").glob(".tmp-*"))


def make_old(folder: Path) -> None:
    hours_ago = time.time() - 7200
    os.utime(folder, (hours_ago, hours_ago))


def test_a_run_is_found_by_its_key_and_read_back_equal(tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = every_view()
    run = store.put(result, "key")
    assert store.find("key") == run
    assert store.find("other key") is None
    assert store.get(run) == store.get(run[:5]) == result
    assert Store(tmp_path).get(run) == result


def test_the_list_tells_what_the_results_say_newest_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = store.put(result_number(1), "a"), store.put(every_view(), "b")
    assert [run.id for run in store.runs()] == [new, old]
    newest, oldest = store.runs()
    assert (newest.analysis, newest.title, newest.model_name) == (
        "retrieval_heads",
        "Retrieval heads",
        "planted:copy",
    )
    assert (newest.finding, newest.passed, newest.seconds) == (every_view().finding, True, 1.5)
    assert newest.bytes == sum(file.stat().st_size for file in (tmp_path / "runs" / new).iterdir())
    assert oldest.seconds is None


def test_the_newest_run_of_a_key_wins_and_the_older_one_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = store.put(result_number(1), "key"), store.put(result_number(2), "key")
    assert store.find("key") == second
    assert store.get(first).scalars["number"] == 1


def test_the_same_result_is_kept_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.put(result_number(1), "a") == store.put(result_number(1), "b")
    assert len(store.runs()) == 1
    assert store.find("b") is not None


def test_a_deleted_run_is_gone_from_list_and_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = store.put(result_number(1), "key")
    store.delete(run[:6])
    assert store.runs() == [] and store.find("key") is None
    assert list((tmp_path / "runs").iterdir()) == []
    with pytest.raises(KeyError, match="there is no run"):
        store.delete(run)


def test_a_prefix_must_fit_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    ids = iter(("abc1", "abc2"))
    from workbench import store as module

    original = module._run_of
    monkeypatch.setattr(module, "_run_of", lambda *given: replace(original(*given), id=next(ids)))
    store.put(result_number(1), "a")
    store.put(result_number(2), "b")
    with pytest.raises(ValueError, match="'abc' fits 2 runs: abc1, abc2"):
        store.get("abc")
    assert store.get("abc2").scalars["number"] == 2


@pytest.mark.parametrize("name", ["../index", "/etc/passwd", "..", "", "CON", "a" * 300, "ab\x00", "AB", "*", "%"])
def test_names_that_are_no_ids_never_reach_the_disk(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    store.put(result_number(1), "key")
    for action in (store.get, store.delete):
        with pytest.raises(ValueError, match="is no run id"):
            action(name)
    assert len(store.runs()) == 1


@given(st.text())
def test_any_text_is_refused_or_unknown(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.getbasetemp() / "shared-store"
    with pytest.raises((ValueError, KeyError), match="is no run id|there is no run"):
        Store(root).get(text)


def test_titles_with_paths_in_them_are_only_texts(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put(every_view(title="../../escape"), "../../key")
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    assert store.find("../../key") is not None


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, lost = store.put(result_number(1), "a"), store.put(result_number(2), "b")
    shutil.rmtree(tmp_path / "runs" / lost)
    (tmp_path / "runs" / "0123456789abcdef").mkdir()
    for name in (".tmp-1-old", ".tmp-1-young"):
        (tmp_path / "runs" / name).mkdir()
    make_old(tmp_path / "runs" / ".tmp-1-old")
    assert [run.id for run in Store(tmp_path).runs()] == [kept]
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {kept, ".tmp-1-young"}


def test_a_run_that_was_cut_short_is_not_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = store.put(result_number(1), "key")
    arrays = tmp_path / "runs" / run / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    assert store.find("key") is None
    with pytest.raises(ValueError, match="arrays.safetensors cannot be read"):
        store.get(run)
    store.put(result_number(1), "key")
    assert store.get(run) == result_number(1)


@pytest.mark.parametrize("failing", ["_write_files", "move_folder"])
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    from workbench import folders
    from workbench import store as module

    store = Store(tmp_path)
    kept = store.put(result_number(1), "a")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "_write_files":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(module, failing, fail)
        with pytest.raises(OSError, match="No space left on device"):
            store.put(result_number(2), "b")
    assert folders.TEMPORARY == ".tmp-" and unfinished(store) == []
    assert [run.id for run in store.runs()] == [kept]
    assert store.find("b") is None
    assert store.put(result_number(2), "b") == store.find("b")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_truly_full_disk_says_so_and_the_store_works_again_afterwards(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        store = Store(disk)
        kept = store.put(result_number(1), "small")
        with pytest.raises(OSError, match="No space left on device: .* bytes could not be written"):
            store.put(result_number(2, size=1_000_000), "large")
        assert unfinished(store) == [] and [run.id for run in store.runs()] == [kept]
        assert store.get(store.put(result_number(3), "next")).scalars["number"] == 3
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_newer_or_damaged_index_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).put(result_number(1), "key")
    with sqlite3.connect(tmp_path / "index.sqlite") as index:
        index.execute("PRAGMA user_version = 99")
    index.close()
    with pytest.raises(ValueError, match="index.sqlite has schema 99: this workbench reads up to 1"):
        Store(tmp_path)
    (tmp_path / "index.sqlite").write_bytes(b"not a database, " * 100)
    with pytest.raises(ValueError, match="index.sqlite cannot be read"):
        Store(tmp_path)


def test_a_read_only_store_can_be_read_and_refuses_to_change(tmp_path: Path) -> None:
    run = Store(tmp_path).put(result_number(1), "key")
    store = Store(tmp_path, read_only=True)
    assert store.find("key") == run and store.get(run) == result_number(1)
    for action in (lambda: store.put(result_number(2), "b"), lambda: store.delete(run)):
        with pytest.raises(PermissionError, match="is read-only: choose another"):
            action()
    with pytest.raises(FileNotFoundError, match="there is no store"):
        Store(tmp_path / "nowhere", read_only=True)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such permissions")
def test_a_store_without_write_permission_opens_by_itself() -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        run = Store(root).put(result_number(1), "key")
        for path in (root / "runs", root):
            path.chmod(0o555)
        reader = start_python(READER, root, run)
        output = reader.communicate(timeout=60)[0]
        root.chmod(0o755)
        (root / "runs").chmod(0o755)
    assert output.split() == ["True", run, "1"]


WRITER = """
import sys
from test_store import result_number
from workbench.store import Store
store = Store(sys.argv[1])
first, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    run = store.put(result_number(number), f"key {number}")
    print(number, run, flush=True)
"""


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    writers = [start_python(WRITER, tmp_path, first, 60) for first in (0, 1000)]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    store = Store(tmp_path)
    assert sorted(store.get(run.id).scalars["number"] for run in store.runs()) == [
        *range(60),
        *range(1000, 1060),
    ]
    assert unfinished(store) == []


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    threads = [
        threading.Thread(target=lambda first=first: [store.put(result_number(first + n), "k") for n in range(15)])
        for first in (0, 100, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.runs()) == 45


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_loses_no_run_that_it_reported(tmp_path: Path, seed: int) -> None:
    writer = start_python(WRITER, tmp_path, 0, 100_000)
    assert writer.stdout is not None
    reported = [writer.stdout.readline()]
    time.sleep(random.Random(seed).uniform(0.02, 0.3))
    writer.send_signal(signal.SIGKILL)
    reported += [line for line in writer.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
    for folder in (tmp_path / "runs").glob(".tmp-*"):
        make_old(folder)
    store = Store(tmp_path)
    numbers = {store.get(run.id).scalars["number"] for run in store.runs()}
    assert {int(line.split()[0]) for line in reported} <= numbers
    assert len(numbers) <= len(reported) + 1
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {run.id for run in store.runs()}


def test_the_root_is_the_argument_then_the_environment_then_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_data_dir", lambda name, appauthor: str(tmp_path / "user" / name))
    monkeypatch.delenv("WORKBENCH_HOME", raising=False)
    assert Store().root == tmp_path / "user" / "mechinterp-workbench"
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    assert Store().root == tmp_path / "home"
    assert Store(tmp_path / "given").root == tmp_path / "given"


def test_many_that_open_a_new_store_at_once_wait_for_each_other(tmp_path: Path) -> None:
    refused = []

    def begin(root: Path, start: threading.Barrier, number: int) -> None:
        start.wait()
        try:
            Store(root).put(result_number(number), "key")
        except OSError as error:
            refused.append(error)

    for number in range(20):
        start = threading.Barrier(6)
        threads = [threading.Thread(target=begin, args=(tmp_path / str(number), start, one)) for one in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == []
        assert len(Store(tmp_path / str(number)).runs()) == 6
