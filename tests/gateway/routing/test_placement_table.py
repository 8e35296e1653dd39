"""DESIGN section 6 as a table: every sentence of it has its rows. What is done while nobody asks is in test_upkeep."""

import pytest
from helpers.fleets import decide, gpus, host, loaded, on_disk, told

M, BIG = "org/m", 10**6
NEEDS_500 = {"vram_mb": 500}
LOW, HIGH = {"id": "low", "residency_priority": 10}, {"id": "high", "residency_priority": 500}


def full(name="a", free=100, *, ready=True, draining=False, **models):
    """A host whose memory is taken by `models`, with org/m on its disk."""
    return host(name, free, ready=ready, draining=draining, models=models | {M: on_disk()})


def two(free, **models):
    return gpus("a", *((mb, 1000) for mb in free), models={M: on_disk()} | models)


def serving(name, others=0, **more):
    """A host where org/m is loaded, with so many requests of other gateways."""
    return host(name, 100, models={M: loaded(400, 1)}, others={M: others}, **more)


# fmt: off
ROWS = {
    # ---- 1. an alias is resolved, and nothing else
    "an alias means its target": ([serving("a")], None, {"alias": "small"}, "serve a"),
    "an alias of a model that is loaded nowhere": ([host("a", 900)], NEEDS_500, {"alias": "small"}, "a"),
    # ---- 2. loaded and servable somewhere
    "the least busy": ([serving("a", 2), serving("b", 1)], None, {}, "serve b"),
    "the least busy, ours counted": ([serving("a"), serving("b", 1)], None, {"in_flight": {("a", M): 2}}, "serve b"),
    "ties by prefix affinity": ([serving("a"), serving("b")], None, {"prefix": b"two"}, "serve b"),
    "ties by prefix affinity, another prefix": ([serving("a"), serving("b")], None, {"prefix": b"one"}, "serve a"),
    "the less busy before the one with the prefix": ([serving("a"), serving("b", 1)], None, {"prefix": b"two"}, "serve a"),
    "ties by name": ([serving("b"), serving("a")], None, {}, "serve a"),
    "loaded before loading": ([host("a", 9, models={M: {"status": "loading"}}), serving("b", 9)], None, {}, "serve b"),
    "a node that is down serves nobody": ([serving("a", ready=False), serving("b", 9)], None, {}, "serve b"),
    "one whose neuron has just failed a request comes last": ([serving("a", suspect=True), serving("b", 9)], None, {}, "serve b"),
    "and serves where nobody else does": ([serving("a", suspect=True)], None, {}, "serve a"),
    "another replica before the first byte": ([serving("a"), serving("b", 9)], None, {"avoid": ["a"]}, "serve b"),
    "what gives way takes nothing new": ([serving("a")], None, {"closed": [("a", M)]}, "queue a: "),
    # ---- 3. loading or recovering somewhere
    "loading: wait there": ([host("a", BIG, models={M: on_disk()}), host("b", 9, models={M: {"status": "loading"}})], NEEDS_500, {}, "wait b"),
    "fetching: wait there": ([host("a", BIG, models={M: on_disk()}), host("b", 9, models={M: {"status": "fetching"}})], NEEDS_500, {}, "wait b"),
    "recovering: wait there": ([host("a", BIG, models={M: on_disk()}), host("b", 9, models={M: {"status": "recovering"}})], NEEDS_500, {}, "wait b"),
    "what leaves is not waited for": ([full("a", 900), host("b", 9, models={M: {"status": "draining"}})], NEEDS_500, {}, "a"),
    # ---- 4. otherwise it is placed: on a feasible neuron only
    "pinned_on": ([host("a", 900), host("b", 900)], {"pinned_on": ["b"]}, {}, "b"),
    "pinned_on, that node is unknown": ([host("a", 900)], {"pinned_on": ["z"]}, {}, "404 model_not_found"),
    "pinned_on, that node is down": ([host("a", 9), host("b", 9, ready=False)], {"pinned_on": ["b"]}, {}, "503 service_unavailable"),
    "pinned_on, and full elsewhere is no matter": ([full("a", x=loaded(900)), host("b", 900)], {"pinned_on": ["b"]} | NEEDS_500, {}, "b"),
    "min_devices": ([host("a", BIG), gpus("b", (900, 1000))], {"min_devices": 1}, {}, "b on 0"),
    "min_devices, more than there are": ([gpus("a", (900, 1000))], {"min_devices": 2}, {}, "404 model_not_found"),
    "min_device_vram_mb": ([gpus("a", (900, 1000)), gpus("b", (100, 2000))], {"min_device_vram_mb": 1500}, {}, "b on 0"),
    "min_device_vram_mb picks the device": ([gpus("a", (900, 1000), (800, 2000))], {"min_device_vram_mb": 1500}, {}, "a on 1"),
    "harness": ([host("a", 900), host("b", 9, harnesses=("ctransformers",))], {"harness": "ctransformers"}, {}, "b"),
    "harness nowhere": ([host("a", 900)], {"harness": "ctransformers"}, {}, "404 model_not_found"),
    "no harness at all": ([host("a", 900, harnesses=())], {}, {}, "404 model_not_found"),
    "file present, without a profile": ([host("a", BIG), full("b", 1)], None, {}, "b"),
    "file present or fetchable": ([host("a", 10)], {}, {}, "a"),
    "neither present nor fetchable": ([host("a", 10)], None, {}, "404 model_not_found"),
    "disk room to fetch": ([host("a", BIG, disk_free_mb=99), host("b", 9, disk_free_mb=101), host("c", 1, ready=False, models={M: on_disk(size_mb=100)})], {}, {}, "b"),
    "no disk room anywhere": ([host("a", 9, disk_free_mb=9), host("c", 1, ready=False, models={M: on_disk(size_mb=100)})], {}, {}, "503 insufficient_vram"),
    "a full disk does not matter where the file is": ([host("a", 9, disk_free_mb=0, models={M: on_disk(size_mb=100)})], {}, {}, "a"),
    "what a neuron has not told is no reason against it": ([host("a", None, devices=None, harnesses=None)], {"min_devices": 2, **NEEDS_500}, {}, "a on 0+1"),
    # ---- the file of a profile
    "a variant that the profile asks for is the file": ([host("a", BIG), host("b", 9, models={"org/m:Q4_K_M": on_disk(quant="Q4_K_M")})], {"quant": "Q4_K_M"}, {}, "b, a"),
    "another variant is not": ([host("a", BIG), host("b", 9, models={"org/m:Q8_0": on_disk(quant="Q8_0")})], {"quant": "Q4_K_M"}, {}, "a, b"),
    "the only variant is listed by the repository's name": ([host("a", BIG), host("b", 9, models={M: on_disk(quant="Q4_K_M")})], {"quant": "Q4_K_M"}, {}, "b, a"),
    "and it is not, when it is another one": ([host("a", BIG), host("b", 9, models={M: on_disk(quant="Q8_0")})], {"quant": "Q4_K_M"}, {}, "a, b"),
    "any variant, when none is asked for": ([host("a", BIG), host("b", 9, models={"org/m:Q8_0": on_disk(quant="Q8_0")})], {}, {}, "b, a"),
    "-GGUF at the end makes no difference": ([host("a", BIG), host("b", 9, models={"org/m-GGUF:Q8_0": on_disk(quant="Q8_0")})], {}, {}, "b, a"),
    "the source names the repository": ([host("a", BIG), host("b", 9, models={"other/repo": on_disk()})], {"source": "other/repo"}, {}, "b, a"),
    # ---- memory needed: what the neuron said, measured, catalogue, estimate, unknown
    "measured": ([full("a", 400, x=loaded(400, 1)), host("b", 1)], NEEDS_500, {}, "a -x"),
    "measured beats the catalogue": ([host("a", 400, models={M: on_disk(measured_mb=300), "x": loaded(400, 1)})], NEEDS_500, {}, "a"),
    "the catalogue beats the estimate": ([host("a", 400, models={M: on_disk(estimate_mb=300), "x": loaded(400, 1)})], NEEDS_500, {}, "a -x"),
    "the estimate": ([host("a", 400, models={M: on_disk(estimate_mb=500), "x": loaded(400, 1)})], {"context": 4096}, {}, "a at 4096 -x"),
    "the estimate for the asked context": ([host("a", 400, models={M: on_disk(estimate_mb=500, estimate_context=8192, kv_bytes_per_token=32 * 1024), "x": loaded(400, 1)})], {"context": 4096}, {}, "a at 4096"),
    "the estimate for the asked cache": ([host("a", 400, models={M: on_disk(estimate_mb=500, estimate_context=8192, kv_bytes_per_token=32 * 1024), "x": loaded(400, 1)})], {"context": 8192, "kv_type": "q8_0"}, {}, "a at 8192"),
    "the estimate of another node's file": ([host("a", 400, models={"x": loaded(400, 1)}), host("b", 9, ready=False, models={M: on_disk(estimate_mb=500)})], {"context": 4096}, {}, "a at 4096 -x"),
    "unknown fits until a neuron says otherwise": ([full("a", 1, x=loaded(400, 1))], {}, {}, "a"),
    "what a neuron said counts": ([full("a", 450, x=loaded(400, 1))], {"vram_mb": 300}, {"told": {"a": 500}}, "a -x"),
    "unknown free memory fits": ([full("a", None, x=loaded(400, 1))], NEEDS_500, {}, "a"),
    # ---- several devices: each has its part
    "two devices that hold half each": ([two((260, 250))], {"min_devices": 2, **NEEDS_500}, {}, "a on 0+1"),
    "one of them is too full": ([two((900, 200))], {"min_devices": 2, **NEEDS_500}, {}, "503 insufficient_vram"),
    "the sum of all is no room for one": ([gpus("a", (300, 1000), (300, 1000), models={M: on_disk()})], {"min_devices": 1, **NEEDS_500}, {}, "503 insufficient_vram"),
    "a victim on the full one": ([two((900, 200), x=loaded(100, 1, devices=(1,)), y=loaded(100, 0, devices=(0,)))], {"min_devices": 2, **NEEDS_500}, {}, "a on 0+1 -x"),
    "a victim over both": ([two((200, 200), x=loaded(100, 1, devices=(0, 1)))], {"min_devices": 2, **NEEDS_500}, {}, "a on 0+1 -x"),
    "a victim frees only its own devices": ([two((200, 200), x=loaded(900, 1, devices=(0,)))], {"min_devices": 2, **NEEDS_500}, {}, "503 insufficient_vram"),
    "an uneven split": ([two((400, 100))], {"min_devices": 2, "tensor_split": [0.8, 0.2], **NEEDS_500}, {}, "a on 0+1"),
    "the freest of three": ([two((100, 300, 250))], {"min_devices": 2, **NEEDS_500}, {}, "a on 1+2"),
    "on the processor of a GPU host": ([gpus("a", (1, 1000), models={M: on_disk()}, memory_free_mb=600)], {"gpu_layers": 0, **NEEDS_500}, {}, "a"),
    "a model for the processor takes host memory of a GPU host": ([gpus("a", (9000, 9000), models={M: on_disk(processor_only=True)}, memory_free_mb=499), gpus("b", (1, 9000), models={M: on_disk(processor_only=True)}, memory_free_mb=500)], NEEDS_500, {}, "b"),
    "and who holds GPU memory need not leave for it": ([gpus("a", (1, 9000), models={M: on_disk(processor_only=True), "x": loaded(8000, 1, devices=(0,)), "y": loaded(400, 2)}, memory_free_mb=100)], NEEDS_500, {}, "a -y"),
    "whether it takes a GPU is each node's own word": ([gpus("a", (9000, 9000), models={M: on_disk(processor_only=True)}, memory_free_mb=499), gpus("b", (9000, 9000), models={M: on_disk()}, memory_free_mb=100)], NEEDS_500, {}, "b"),
    "host memory is the device of a host without GPUs": ([full("a", 499), full("b", 500)], NEEDS_500, {}, "b"),
    # ---- rank
    "fits free before eviction": ([full("a", 400, x=loaded(BIG, 1)), full("b", 500)], NEEDS_500, {}, "b"),
    "fits free by fetching before eviction": ([full("a", 400, x=loaded(BIG, 1)), host("b", 500)], NEEDS_500, {}, "b"),
    "the file beats fetching": ([host("a", 9000), full("b", 600)], NEEDS_500, {}, "b, a"),
    "the file beats fetching, both by eviction": ([host("a", 1, models={"x": loaded(900, 1)}), full("b", 1, x=loaded(600, 5))], NEEDS_500, {}, "b -x, a -x"),
    "most free": ([full("a", 600), full("b", 700)], NEEDS_500, {}, "b, a"),
    "name": ([full("b", 600), full("a", 600)], NEEDS_500, {}, "a, b"),
    "where it failed comes last": ([host("a", 9000, models={M: {"status": "failed"}}), full("b", 600)], NEEDS_500, {}, "b, a"),
    "nodes that were tried are out": ([full("a", 600), full("b", 600)], NEEDS_500, {"avoid": ["a"]}, "b"),
    # ---- who leaves
    "fewest": ([full(x=loaded(200, 1), y=loaded(200, 2), z=loaded(400, 9))], NEEDS_500, {}, "a -z"),
    "fewest, across nodes": ([full("a", x=loaded(200, 1), y=loaded(200, 1)), full("b", z=loaded(400, 9))], NEEDS_500, {}, "b -z, a -x -y"),
    "least recently used": ([full(x=loaded(400, 2), y=loaded(400, 1), z=loaded(400, 3))], NEEDS_500, {}, "a -y"),
    "least recently used, across nodes": ([full("a", x=loaded(400, 2)), full("b", x=loaded(400, 1))], NEEDS_500, {}, "b -x, a -x"),
    "never used is the oldest": ([full(x=loaded(400, 1), y=loaded(400))], NEEDS_500, {}, "a -y"),
    "lowest priority among the equally old": ([full(x=loaded(400, 1), low=loaded(400, 1))], NEEDS_500, {"others": [LOW]}, "a -low"),
    "lru: age before priority": ([full(x=loaded(400, 1), low=loaded(400, 2))], NEEDS_500, {"others": [LOW]}, "a -x"),
    "priority: rank before age": ([full(x=loaded(400, 1), low=loaded(400, 2))], NEEDS_500, {"others": [LOW], "strategy": "priority"}, "a -low"),
    "priority: rank before number": ([full(x=loaded(400, 1), low=loaded(200, 2), low2=loaded(200, 3))], NEEDS_500, {"others": [LOW, LOW | {"id": "low2"}], "strategy": "priority"}, "a -low -low2"),
    "priority: then age": ([full(x=loaded(400, 2), y=loaded(400, 1))], NEEDS_500, {"strategy": "priority"}, "a -y"),
    "as many as are needed, no more": ([full(x=loaded(150, 1), y=loaded(150, 2), z=loaded(150, 3))], NEEDS_500, {}, "a -x -y -z"),
    "many small ones": ([full(**{f"m{n:02}": loaded(50, n) for n in range(14)})], NEEDS_500, {}, "a " + " ".join(f"-m{n:02}" for n in range(8))),
    "what it holds is told by the catalogue, if by nobody else": ([full(x=loaded(None, 1))], NEEDS_500, {"others": [{"id": "x", "vram_mb": 400}]}, "a -x"),
    "what holds nobody knows how much makes no plan": ([full(x=loaded(None, 1))], NEEDS_500, {}, "503 insufficient_vram"),
    # ---- never
    "never busy with ours": ([full(x=loaded(400, 1), y=loaded(400, 2))], NEEDS_500, {"in_flight": {("a", "x"): 1}}, "a -y"),
    "ours elsewhere is no matter": ([full(x=loaded(400, 1))], NEEDS_500, {"in_flight": {("b", "x"): 1}}, "a -x"),
    "never busy with others'": ([host("a", 100, models={M: on_disk(), "x": loaded(400, 1), "y": loaded(400, 2)}, others={"x": 1})], NEEDS_500, {}, "a -y"),
    "never while somebody waits for it": ([full(x=loaded(400, 1), y=loaded(400, 2))], NEEDS_500, {"wanted": ["x"]}, "a -y"),
    "never loading": ([full(x={"status": "loading", "held_mb": 400}, y=loaded(400, 2))], NEEDS_500, {}, "a -y"),
    "never above its own rank": ([full(high=loaded(400, 1), y=loaded(400, 2))], NEEDS_500, {"others": [HIGH]}, "a -y"),
    "only those above": ([full(high=loaded(400, 1))], NEEDS_500, {"others": [HIGH]}, "503 insufficient_vram"),
    "equal ranks displace one another": ([full(high=loaded(400, 1))], NEEDS_500 | {"residency_priority": 500}, {"others": [HIGH]}, "a -high"),
    "a pinned model ranks 1000": ([full(x=loaded(400, 1))], NEEDS_500 | {"residency_priority": 999}, {"others": [{"id": "x", "pinned_on": ["a"]}]}, "503 insufficient_vram"),
    "pinned models displace one another": ([full(x=loaded(400, 1))], NEEDS_500 | {"pinned_on": ["a"]}, {"others": [{"id": "x", "pinned_on": ["a"]}]}, "a -x"),
    "nobody leaves where it may not run": ([full("a", x=loaded(400, 1)), full("b", x=loaded(400, 9))], NEEDS_500 | {"pinned_on": ["b"]}, {}, "b -x"),
    # ---- full of busy models: it waits for its turn
    "all are busy": ([full(x=loaded(400, 1))], NEEDS_500, {"in_flight": {("a", "x"): 1}}, "queue a: x"),
    "one is loading": ([full(x={"status": "loading", "held_mb": 400})], NEEDS_500, {}, "queue a: x"),
    "one is leaving": ([full(x={"status": "draining", "held_mb": 400})], NEEDS_500, {}, "queue a: x"),
    "busy, and not enough": ([full(x=loaded(300, 1))], NEEDS_500, {"in_flight": {("a", "x"): 1}}, "503 insufficient_vram"),
    "busy, and of a higher rank": ([full(high=loaded(400, 1))], NEEDS_500, {"others": [HIGH], "in_flight": {("a", "high"): 1}}, "503 insufficient_vram"),
    # ---- less context
    "less context only when nothing else helps": ([host("a", 300, models={M: on_disk(estimate_mb=500, estimate_context=8192, kv_bytes_per_token=64 * 1024)})], {"context": 8192, "min_context": 2048}, {}, "a at 4096"),
    "an eviction before less context": ([host("a", 300, models={M: on_disk(estimate_mb=500, estimate_context=8192, kv_bytes_per_token=64 * 1024), "x": loaded(400, 1)})], {"context": 8192, "min_context": 2048}, {}, "a at 8192 -x"),
    "no less than the profile allows": ([host("a", 300, models={M: on_disk(estimate_mb=500, estimate_context=8192, kv_bytes_per_token=64 * 1024)})], {"context": 8192, "min_context": 8000}, {}, "503 insufficient_vram"),
    "without a word about it the neuron chooses, and nobody leaves for more than 8192": ([host("a", 700, models={M: on_disk(estimate_mb=2500, estimate_context=32768, kv_bytes_per_token=96 * 1024), "x": loaded(9000, 1)})], {}, {}, "a"),
    "but for 8192": ([host("a", 100, models={M: on_disk(estimate_mb=2500, estimate_context=32768, kv_bytes_per_token=96 * 1024), "x": loaded(200, 1)})], {}, {}, "a -x"),
    # ---- after a failure: the next candidate
    "where it failed just now is not asked again": ([full("a", 900), full("b", 600)], NEEDS_500, {"failed_on": ["a"]}, "b"),
    "not even for an eviction": ([full("a", 900), full("b", 1, x=loaded(600, 1))], NEEDS_500, {"failed_on": ["a"]}, "b -x"),
    "it failed everywhere": ([full("a", 900)], NEEDS_500, {"failed_on": ["a"]}, "503 insufficient_vram"),
    # ---- after a failure for want of memory
    "everybody leaves": ([full(x=loaded(400, 1), y=loaded(400, 2))], NEEDS_500, {"emptied": ["a"]}, "a -x -y"),
    "everybody who may": ([full(x=loaded(400, 1), y=loaded(400, 2))], NEEDS_500, {"emptied": ["a"], "in_flight": {("a", "x"): 1}}, "a -y"),
    "less than what was too much": ([host("a", 600, models={M: on_disk(estimate_mb=500, estimate_context=8192, kv_bytes_per_token=64 * 1024)})], {"context": 8192, "min_context": 2048}, {"too_much": {"a": 8192}}, "a at 4096"),
    # ---- 5. nothing feasible at all, or only on neurons that are down or full
    "nobody has it, and nothing says where it is": ([host("a", BIG), host("b", BIG)], None, {}, "404 model_not_found"),
    "whoever has it is down": ([host("a", BIG), full("b", 900, ready=False)], None, {}, "503 service_unavailable"),
    "whoever has it takes nothing new": ([host("a", BIG), full("b", 900, ready=False, draining=True)], None, {}, "503 service_unavailable"),
    "all neurons are down": ([host("a", BIG, ready=False)], {}, {}, "503 service_unavailable"),
    "larger than every neuron": ([full("a", 400)], NEEDS_500, {}, "503 insufficient_vram"),
}
# fmt: on


@pytest.mark.parametrize(("nodes", "profile", "now", "expected"), ROWS.values(), ids=ROWS)
def test_placement(nodes, profile, now, expected):
    """The candidates in their order, with those who leave; or why there is none."""
    assert told(decide(nodes, profile, **now)) == expected


def test_the_table_is_complete():
    """As many rows as the house asked for."""
    assert len(ROWS) >= 60
