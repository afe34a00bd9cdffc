"""Background jobs: progress, cancellation, failures, order, and snapshots that do not change."""

import threading
from dataclasses import FrozenInstanceError

import pytest

from workbench.jobs import Jobs
from workbench.progress import track
from workbench.result import Result

SOON = 10.0


def test_a_job_gives_its_result():
    jobs = Jobs()
    job = jobs.wait(jobs.submit(lambda: Result(title="lens"), "lens").id, SOON)
    assert job.state == "done"
    assert job.result.title == "lens"
    assert job.finished


def test_progress_and_time_left_are_seen_while_it_runs():
    jobs, reached, go_on = Jobs(), threading.Event(), threading.Event()

    def work():
        for step in track(range(4), "layers"):
            if step == 2:
                reached.set()
                go_on.wait(SOON)
        return Result()

    identifier = jobs.submit(work, "lens").id
    assert reached.wait(SOON)
    job = jobs.get(identifier)
    go_on.set()
    assert (job.state, job.done, job.total, job.label) == ("running", 2, 4, "layers")
    assert job.seconds_left >= 0
    finished = jobs.wait(identifier, SOON)
    assert (finished.done, finished.total, finished.seconds_left) == (4, 4, None)
    assert job.done == 2, "a snapshot must not change"


def test_the_time_left_follows_from_the_speed_of_the_loop(monkeypatch):
    clock, left = iter([100.0, 102.0, 104.0, 200.0, 201.0]), []
    monkeypatch.setattr("workbench.jobs.time.monotonic", lambda: next(clock))
    jobs = Jobs()

    def work():
        me = jobs.all()[0].id
        for _ in track(range(2), "slow"):
            left.append(jobs.get(me).seconds_left)
        left.append(jobs.get(me).seconds_left)
        for _ in track(range(1), "fast"):
            left.append(jobs.get(me).seconds_left)
        return Result()

    jobs.wait(jobs.submit(work, "lens").id, SOON)
    assert left == [None, 2.0, 0.0, None]


def test_a_running_job_stops_before_its_next_item():
    jobs, reached, go_on, seen = Jobs(), threading.Event(), threading.Event(), []

    def work():
        for step in track(range(100), "rows"):
            seen.append(step)
            reached.set()
            go_on.wait(SOON)
        return Result()

    identifier = jobs.submit(work, "sweep").id
    assert reached.wait(SOON)
    jobs.cancel(identifier)
    go_on.set()
    job = jobs.wait(identifier, SOON)
    assert job.state == "cancelled"
    assert seen == [0]
    assert job.result is None


def test_a_queued_job_is_cancelled_at_once_and_never_runs():
    jobs, go_on, ran = Jobs(), threading.Event(), []
    first = jobs.submit(lambda: go_on.wait(SOON) and Result(), "first")
    second = jobs.submit(lambda: ran.append("second") or Result(), "second")
    assert jobs.cancel(second.id).state == "cancelled"
    go_on.set()
    assert jobs.wait(first.id, SOON).state == "done"
    third = jobs.submit(Result, "third")
    assert jobs.wait(third.id, SOON).state == "done"
    assert ran == []


def test_jobs_run_in_the_order_they_came():
    jobs, order = Jobs(), []
    submitted = [
        jobs.submit(lambda number=number: order.append(number) or Result(), str(number)) for number in range(20)
    ]
    for job in submitted:
        jobs.wait(job.id, SOON)
    assert order == list(range(20))
    assert [job.title for job in jobs.all()] == [str(number) for number in range(20)]


def test_two_jobs_run_at_once_when_two_may():
    jobs, both = Jobs(max_parallel=2), threading.Barrier(2, timeout=SOON)
    pair = [jobs.submit(lambda: both.wait() >= 0 and Result(), "half") for _ in range(2)]
    assert [jobs.wait(job.id, SOON).state for job in pair] == ["done", "done"]


def test_the_progress_of_two_jobs_is_kept_apart():
    jobs, both = Jobs(max_parallel=2), threading.Barrier(2, timeout=SOON)

    def work(total):
        for _ in track(range(total), f"{total} rows"):
            both.wait()
        return Result()

    pair = [jobs.submit(lambda: work(3), "one"), jobs.submit(lambda: work(3), "two")]
    assert [jobs.wait(job.id, SOON).done for job in pair] == [3, 3]
    uneven = [jobs.submit(lambda n=n: list(track(range(n), f"{n} rows")) and Result(), str(n)) for n in (2, 5)]
    assert [(job.total, job.label) for job in (jobs.wait(job.id, SOON) for job in uneven)] == [
        (2, "2 rows"),
        (5, "5 rows"),
    ]


@pytest.mark.parametrize(
    ("error", "told", "has_traceback"),
    [
        (ValueError("site L20.z: the model has\n18 layers"), "site L20.z: the model has 18 layers", False),
        (KeyError("there is no array 'scor'"), "there is no array 'scor'", False),
        (TypeError("a prompt is a text"), "a prompt is a text", False),
        (RuntimeError("shapes differ"), "RuntimeError: shapes differ", True),
        (SystemExit(3), "SystemExit: 3", True),
    ],
)
def test_a_failure_is_told_and_the_queue_goes_on(error, told, has_traceback):
    def fail():
        raise error

    jobs = Jobs()
    job = jobs.wait(jobs.submit(fail, "doomed").id, SOON)
    assert (job.state, job.error) == ("failed", told)
    assert ("in fail" in job.traceback) is has_traceback
    assert jobs.wait(jobs.submit(Result, "next").id, SOON).state == "done"


def test_waiting_too_long_says_so():
    jobs, go_on = Jobs(), threading.Event()
    job = jobs.submit(lambda: go_on.wait(SOON) and Result(), "slow")
    with pytest.raises(TimeoutError, match=f"{job.id} is still"):
        jobs.wait(job.id, 0.05)
    go_on.set()
    jobs.wait(job.id, SOON)


def test_unknown_jobs_and_empty_queues_are_refused():
    with pytest.raises(KeyError, match="job 'job-9' is unknown"):
        Jobs().get("job-9")
    with pytest.raises(ValueError, match="max_parallel is 0"):
        Jobs(max_parallel=0)


def test_only_the_last_finished_jobs_are_remembered():
    jobs = Jobs()
    for number in range(60):
        jobs.wait(jobs.submit(Result, str(number)).id, SOON)
    assert [job.title for job in jobs.all()] == [str(number) for number in range(9, 60)]


def test_a_snapshot_is_frozen():
    jobs = Jobs()
    job = jobs.submit(Result, "lens")
    with pytest.raises(FrozenInstanceError):
        job.state = "done"
    jobs.wait(job.id, SOON)
