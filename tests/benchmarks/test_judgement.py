"""What the benchmarks make of their figures."""

from dataclasses import replace

import pytest

from benchmarks import latency
from benchmarks.budget import LEGS, judge
from benchmarks.capacity.command import memory_kib_per_call
from benchmarks.capacity.command import summarise as summarise_capacity
from benchmarks.capacity.search import Search, broken_reasons, generator_reasons
from benchmarks.pacer.calls import Pacing, hear
from benchmarks.pacing.command import summarise as summarise_pacing
from benchmarks.pacing.recommendation import recommend
from benchmarks.pacing.trial import Condition, Setting, Trial, read_trial
from benchmarks.peer import Load, load_warnings

SAMPLES = {"count": 100, "p50": 0.05, "p99": 0.5, "p99.9": 0.6, "min": 0.0, "max": 0.7}
RUN = {
    "calls": 100,
    "calls_standing": 100,
    "seconds": 6.0,
    "up_ms": SAMPLES,
    "down_first_audio_ms": SAMPLES,
    "clear_ms": SAMPLES,
    "frame_late_ms": SAMPLES,
    "heard_error_ms": {**SAMPLES, "abs_p50": 1.0, "abs_p99": 2.0},
    "gap_ms": {**SAMPLES, "count": 0, "max": 0.0},
    "gap_total_ms": 0.0,
    "left_over_ms": SAMPLES,
    "talk_over_ms": SAMPLES,
    "carrier_bytes_per_call_second": 15_000.0,
    "engine_cpu_ms_per_call_second": 1.5,
    "engine_cpu_share": 0.15,
    "engine_rss_mib": 70.0,
    "load_cpu_share": 0.2,
    "load_late_ms": SAMPLES,
    "others_cpu_share": 0.0,
    "counts": {},
    "violations": {},
}


def run(**changed: object) -> dict[str, object]:
    return {**RUN, **changed}


# ------------------------------------------------------------------------------------------------------------ budget


def test_every_leg_is_met_within_the_budget() -> None:
    assert [leg.verdict for leg in judge(RUN)] == ["met"] * len(LEGS)


def test_a_leg_is_missed_by_either_percentile() -> None:
    slow = {**SAMPLES, "p50": 0.8}
    assert judge(run(up_ms=slow))[0].verdict == "missed"
    assert judge(run(up_ms={**SAMPLES, "p99": 2.1}))[0].verdict == "missed"


def test_a_leg_that_nothing_went_is_not_judged() -> None:
    assert judge(run(clear_ms={**SAMPLES, "count": 0}))[2].verdict == "-"


def test_the_latency_report_names_what_was_missed() -> None:
    plan = [Load(calls=100, seconds=5), Load(calls=100, seconds=5, tls=True)]
    outcome = latency.summarise(plan, [RUN, run(clear_ms={**SAMPLES, "p99": 9.0})])
    assert "within its budget" in outcome.conclusions[0]
    assert "speech_started" in outcome.conclusions[1]
    assert "TLS" in outcome.conclusions[1]


def test_a_busy_machine_and_a_late_generator_are_warned_of() -> None:
    assert load_warnings([RUN]) == ()
    warned = load_warnings([run(others_cpu_share=0.5, load_late_ms={**SAMPLES, "p99": 4.0}, violations={"kind": 1})])
    assert len(warned) == 3


# ---------------------------------------------------------------------------------------------------------- capacity


def search_for(capacity: int, *, start: int = 50, limit: int = 2000) -> Search:
    search = Search(start, limit)
    for _ in range(40):
        calls = search.next_calls()
        if calls is None:
            return search
        search.note(calls, held=calls <= capacity)
    raise AssertionError("the search does not end")


@pytest.mark.parametrize("capacity", [3, 17, 49, 50, 51, 137, 400, 777, 1999])
def test_the_search_ends_near_the_capacity(capacity: int) -> None:
    search = search_for(capacity)
    assert search.held <= capacity
    assert capacity - search.held <= max(5, 0.06 * capacity) + 1
    assert search.max_calls <= max(1, 0.8 * capacity)


def test_the_search_stops_at_its_limit() -> None:
    search = search_for(10_000, limit=300)
    assert search.held == 300
    assert search.broken_from is None


def test_nothing_held_recommends_nothing() -> None:
    search = search_for(0)
    assert (search.held, search.max_calls) == (0, 0)


def test_luck_above_a_failure_does_not_count() -> None:
    search = Search(50, 1000)
    for calls, held in ((100, True), (150, False), (175, True)):
        search.note(calls, held=held)
    assert search.held == 100


def test_calls_are_broken_by_lateness_underruns_and_falling() -> None:
    assert broken_reasons(RUN) == []
    assert len(broken_reasons(run(up_ms={**SAMPLES, "p99": 20.0}, counts={"underruns": 2}, calls_standing=99))) == 3
    assert broken_reasons(run(up_ms={**SAMPLES, "count": 0, "p99": 0.0}))


def test_the_generator_is_named_when_it_was_the_limit() -> None:
    busy = run(calls=200, load_cpu_share=0.97, up_ms={**SAMPLES, "p99": 50.0})
    assert generator_reasons(busy)
    search = Search(100, 1000)
    search.note(100, held=True)
    search.note(200, held=False)
    outcome = summarise_capacity(search, [RUN, busy], {}, Load(calls=100, seconds=5, engine_core=0))
    assert "at least 100 calls" in outcome.conclusions[0]
    assert "MAX_CALLS=80" in outcome.conclusions[1]


def test_memory_per_call_is_the_growth() -> None:
    assert memory_kib_per_call([RUN]) is None
    assert memory_kib_per_call([RUN, run(calls=200, engine_rss_mib=80.0)]) == pytest.approx(102.4)


# ------------------------------------------------------------------------------------------------------------ pacing

TRIAL = Trial(
    setting=Setting(frame_ms=20, lead_ms=200),
    condition=Condition(calls=20, stall_ms=0, delay_ms=20),
    gaps=0,
    gap_ms=0,
    gap_max_ms=0,
    left_over_p50_ms=200,
    left_over_p99_ms=220,
    talk_over_p99_ms=25,
    heard_error_p99_ms=2,
    cpu_ms_per_call_second=2.0,
    bytes_per_call_second=15_000,
    up_p99_ms=1,
)


def trial(frame_ms: int, lead_ms: int, **changed: object) -> Trial:
    return replace(TRIAL, setting=Setting(frame_ms=frame_ms, lead_ms=lead_ms), **changed)


def test_silence_counts_before_all_else() -> None:
    short = trial(20, 60, gap_ms=500, left_over_p99_ms=80, cpu_ms_per_call_second=0.1)
    assert recommend([short, TRIAL]).best.setting == TRIAL.setting


def test_the_worst_condition_counts() -> None:
    calm = trial(20, 60, left_over_p99_ms=80)
    stalled = replace(calm, gap_ms=900, condition=Condition(calls=20, stall_ms=150, delay_ms=20))
    assert recommend([calm, stalled, TRIAL]).best.setting == TRIAL.setting
    assert recommend([calm, TRIAL]).best.setting == calm.setting


def test_of_silent_settings_the_one_that_leaves_least_is_taken() -> None:
    assert recommend([TRIAL, trial(20, 400, left_over_p99_ms=420)]).best.setting == TRIAL.setting


def test_of_equals_the_cheapest_is_taken() -> None:
    cheaper = trial(40, 200, left_over_p99_ms=235, cpu_ms_per_call_second=1.6)
    found = recommend([TRIAL, cheaper])
    assert found.best.setting == cheaper.setting
    assert any("CPU" in reason for reason in found.reasons)


def test_a_better_account_of_what_was_heard_beats_cost() -> None:
    vague = trial(100, 200, heard_error_p99_ms=60, cpu_ms_per_call_second=1.0)
    assert recommend([TRIAL, vague]).best.setting == TRIAL.setting


def test_when_all_have_gaps_it_says_so() -> None:
    outcome = summarise_pacing(
        [trial(20, 60, gap_ms=800, gap_max_ms=90), trial(20, 120, gap_ms=300, gap_max_ms=40)], ()
    )
    assert "FRAME_MS=20 LEAD_MS=120" in outcome.conclusions[0]
    assert "gaps up to 40 ms" in outcome.conclusions[1]


def test_the_recommendation_does_not_depend_on_the_order() -> None:
    trials = [trial(frame, lead) for frame in (20, 40) for lead in (100, 200)]
    assert recommend(trials) == recommend(trials[::-1])
    with pytest.raises(ValueError, match="nothing"):
        recommend([])


def test_a_trial_is_per_call_and_minute() -> None:
    gaps = {**SAMPLES, "count": 20, "max": 50.0}
    found = read_trial(TRIAL.setting, TRIAL.condition, run(gap_ms=gaps, gap_total_ms=500.0))
    assert (found.gaps, found.gap_ms, found.gap_max_ms) == (2.0, 50.0, 50.0)


# ------------------------------------------------------------------------------------------------------------- pacer

PACING = Pacing(calls=1, seconds=1, frame_ms=20, lead_ms=200)


def schedule(frames: int, *, late: dict[int, float] | None = None) -> list[tuple[float, int]]:
    """A lead of ten frames at once, then one every 20 ms; some of them late, in seconds."""
    even = [(max(0.0, (number - 9) * 0.02), 1) for number in range(frames)]
    return [(at + (late or {}).get(number, 0.0), count) for number, (at, count) in enumerate(even)]


def test_an_even_schedule_is_never_late() -> None:
    heard = hear(schedule(100), PACING, measured_from=0.5)
    assert max(heard.late_ms) == pytest.approx(0, abs=1e-6)
    assert heard.gap_ms == []


def test_a_late_frame_is_late_by_itself() -> None:
    heard = hear(schedule(100, late={60: 0.007}), PACING, measured_from=0.5)
    assert sorted(heard.late_ms)[-2:] == pytest.approx([0, 7], abs=1e-6)


def test_a_stall_beyond_the_lead_is_a_gap() -> None:
    even = schedule(60)
    stalled = [*even, *((even[-1][0] + 0.35, 1) for _ in range(12))]
    heard = hear(stalled, PACING, measured_from=0.5, stalls_ended_at=[even[-1][0] + 0.349])
    assert heard.gap_ms == pytest.approx([150], abs=21)
    assert heard.rebuilt_ms == pytest.approx([1], abs=0.1)


def test_a_lead_that_never_comes_back_is_counted() -> None:
    even = schedule(60)
    rebased = [*even, *((even[-1][0] + 0.1 + number * 0.02, 1) for number in range(50))]
    assert hear(rebased, PACING, measured_from=0.5, stalls_ended_at=[even[-1][0] + 0.1]).never_rebuilt == 1
