"""When running jobs are looked at, in simulated runs: soon after their ends, and with few looks."""

import heapq
import random

import pytest

from bedrock_marengo.jobs.poll_times import LONGEST_SEC, SHORTEST_SEC, PollTimes

SLOTS = 20


def run(lengths):
    """Simulate a run of jobs of these lengths: how late their ends were seen on average, and the looks for each job."""
    rng, times = random.Random(0), PollTimes()
    queue, running, late, looks = list(lengths), [], [], 0
    last = 0.0
    free_at = [0.1 * slot for slot in range(SLOTS)]
    while queue or running:
        for _ in range(min(len(free_at), len(queue))):
            start = heapq.heappop(free_at) + rng.uniform(0.02, 0.08)
            running.append((start, start + queue.pop()))
        previous, last = last, times.due(last, [start for start, _ in running])
        assert SHORTEST_SEC <= last - previous <= LONGEST_SEC
        looks += 1
        ended = [job for job in running if job[1] <= last]
        times.looked(last, previous, len(running), [start for start, _ in ended])
        for job in ended:
            running.remove(job)
            late.append(last - job[1])
            heapq.heappush(free_at, last)
    return sum(late) / len(late), looks / len(lengths)


@pytest.mark.parametrize("job_sec", [0.6, 3.0, 30.0])
def test_ends_of_equal_jobs_are_seen_soon(job_sec):
    late_sec, looks = run([job_sec] * 400)
    assert late_sec <= 0.1 * job_sec
    assert looks <= 0.35


def test_ends_of_different_jobs_are_seen_soon():
    rng = random.Random(1)
    late_sec, looks = run([rng.uniform(2.0, 6.0) for _ in range(400)])
    assert late_sec <= 0.15 * 4.0
    assert looks <= 0.4


def test_a_job_of_another_process_may_end_at_any_time():
    times = PollTimes()
    times.looked(10.0, 9.0, 1, [0.0])
    alone = times.due(10.0, [9.0])
    assert alone > 15.0
    assert times.due(10.0, [9.0, None]) < 13.0


def test_jobs_longer_than_all_before_are_looked_at_still():
    times = PollTimes()
    times.looked(2.0, 1.0, 1, [0.0])
    assert times.due(100.0, [0.0]) < 101.0


def test_the_last_jobs_of_a_run_are_looked_at_sooner():
    def due(before):
        times = PollTimes()
        times.looked(3.0, 2.9, before, [0.0, 0.0])
        return times.due(4.0, [2.0, 2.1])

    assert due(before=2) > due(before=20) > 4.9
