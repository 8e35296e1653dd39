"""What is counted of answers reads for Prometheus as its own types would have told it."""

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from cortex.gateway.answers import DURATION_BUCKETS, FIRST_TOKEN_BUCKETS, SPEED_BUCKETS, AnswerSeries
from cortex.gateway.proxy.observe import Totals

LABELS = ("model", "node")
SECONDS = st.sampled_from(DURATION_BUCKETS) | st.floats(0, 5000)
TOTALS = st.builds(
    Totals,
    seconds=SECONDS,
    first_token_s=st.none() | st.sampled_from(FIRST_TOKEN_BUCKETS) | st.floats(0, 500),
    prompt_tokens=st.integers(0, 10**6),
    completion_tokens=st.integers(0, 10**6),
    cached_tokens=st.integers(0, 10**6),
    tokens_per_second=st.none() | st.sampled_from(SPEED_BUCKETS) | st.floats(0.1, 1000),
    finish_reason=st.none(),
    delivered=st.booleans(),
)


def _told(registry: CollectorRegistry) -> set[str]:
    """The samples; when a series was created is told by Prometheus's types alone."""
    lines = generate_latest(registry).decode().splitlines()
    return {line for line in lines if "_created" not in line and not line.startswith("# HELP")}


def _by_prometheus(answers: list[tuple[str, Totals]]) -> set[str]:
    registry = CollectorRegistry()

    def counter(name: str) -> Counter:
        return Counter(name, "", LABELS, registry=registry)

    def histogram(name: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, "", LABELS, buckets=buckets, registry=registry)

    requests = counter("cortex_requests")
    prompt, completion = counter("cortex_prompt_tokens"), counter("cortex_completion_tokens")
    cached = counter("cortex_cached_prompt_tokens")
    duration = histogram("cortex_request_duration_seconds", DURATION_BUCKETS)
    first = histogram("cortex_time_to_first_token_seconds", FIRST_TOKEN_BUCKETS)
    speed = histogram("cortex_tokens_per_second", SPEED_BUCKETS)
    for node, totals in answers:
        requests.labels("m", node).inc()
        prompt.labels("m", node).inc(totals.prompt_tokens)
        completion.labels("m", node).inc(totals.completion_tokens)
        cached.labels("m", node).inc(totals.cached_tokens)
        duration.labels("m", node).observe(totals.seconds)
        speed.labels("m", node)
        if totals.first_token_s is not None:
            first.labels("m", node).observe(totals.first_token_s)
        if totals.tokens_per_second is not None:
            speed.labels("m", node).observe(totals.tokens_per_second)
    return _told(registry)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["beast", 'a"\\b']), TOTALS), max_size=6))
def test_the_exposition_is_that_of_prometheus_own_types(answers: list[tuple[str, Totals]]):
    """Buckets, sums, counts, labels and types, whatever was counted."""
    ours = AnswerSeries()
    registry = CollectorRegistry()
    registry.register(ours)
    for node, totals in answers:
        ours.of("m", node).requests += 1
        ours.of("m", node).ended(totals)
    assert _told(registry) == _by_prometheus(answers)
