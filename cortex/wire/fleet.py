"""What a neuron says about itself, as types: the shapes of the first generation (upstream-facts A.2, B.3) and what we added.

Unknown fields are ignored and missing ones have a meaning ("not told"), so that gateways and neurons of different
versions understand one another. All memory is in MiB, all durations in seconds, all times in Unix seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ONE_LINE = r"^[^\x00-\x1f\x7f]+$"


class Wire(BaseModel):
    """A frozen message that ignores what it does not know. `protected_namespaces` is off: `model_id` is the field's standard name."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class ModelStatus(StrEnum):
    """What `GET /models` says of a model. Clients of the first generation know loaded, unloaded, reloading."""

    unloaded = "unloaded"  # on disk, in no memory
    fetching = "fetching"
    loading = "loading"
    loaded = "loaded"
    draining = "draining"
    recovering = "recovering"  # its engine died and is being started again
    failed = "failed"
    reloading = "reloading"  # first generation only


# ---- GET /discovery


class Device(Wire):
    """A GPU, or an instance of a partitioned one (MIG). None means that the driver did not tell.

    part_of                  UUID of the card that it is an instance of; None: it is a whole card
    power_limit_w            what the driver lets it draw
    persistence              whether the driver stays loaded while nobody uses the card
    cuda_unavailable_reason  why models are not put on it, whatever it has free; None: they are
    """

    index: int
    name: str
    vram_total_mb: int | None = None
    compute_capability: str | None = None
    uuid: str | None = None
    part_of: str | None = None
    power_limit_w: int | None = None
    ecc: bool | None = None
    persistence: bool | None = None
    numa_node: int | None = None
    cuda_unavailable_reason: str | None = None


class ForeignDevice(Wire):
    """A GPU that a harness has no code for, and why."""

    index: int
    cuda_unavailable_reason: str


class HarnessDetail(Wire):
    """What serves models here.

    version                  of its library, or of the operator's own server
    processor_only           its models take host memory, whatever GPUs there are
    cuda_unavailable_reason  what its engines lack for this host's NVIDIA GPUs, everything at once; None: nothing
    foreign_devices          those of them that its models are not put on, while they are put on the others
    cpu_variant              code for newer processors that its engines use, as llama.cpp calls it; None: the library's own
    cuda_build               CUDA version of its engines' backend for GPUs, and `cuda_architectures` what that is compiled for
    gpus                     as its server lists them
    problem                  why it serves nothing now
    """

    name: str
    version: str | None = None
    processor_only: bool = False
    cuda_unavailable_reason: str | None = None
    foreign_devices: tuple[ForeignDevice, ...] = ()
    cpu_variant: str | None = None
    cuda_build: str | None = None
    cuda_architectures: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    problem: str | None = None


class Discovery(Wire):
    """`GET /discovery`: the host's constant facts.

    devices_age_secs  how old the last reading of the GPUs is; None: there was none yet. A driver that hangs lets it grow
    other_gpus        what is here and cannot be used yet, a sentence for each maker
    """

    hostname: str = "unknown"
    os: str = "unknown"
    kernel: str = "unknown"
    cuda_version: str | None = None
    driver_version: str | None = None
    cuda_unavailable_reason: str | None = None
    devices: tuple[Device, ...] = ()
    devices_age_secs: float | None = None
    other_gpus: tuple[str, ...] = ()
    harnesses: tuple[str, ...] = ()
    harness_details: tuple[HarnessDetail, ...] = ()
    cpu_model: str | None = None
    cpu_cores: int | None = None  # physical cores that this process may use
    memory_total_mb: int | None = None  # what models may use on a host without a GPU: cgroup and [limits] included
    numa_nodes: int | None = None
    version: str | None = None
    offers_files: bool = False  # of its models, to whoever shows its token
    accepts_files: bool = False  # of models that it does not have


# ---- GET /health


class DeviceHealth(Wire):
    """What a GPU is doing. None means that this card has no such figure.

    throttled_by             what keeps its clocks low although it has work
    ecc_errors               uncorrected ones since the driver was loaded
    problem                  why nothing can be had from it now; None: it answers
    cuda_unavailable_reason  as on `/discovery`
    """

    index: int
    vram_used_mb: int | None = None
    vram_free_mb: int | None = None
    utilization_pct: int | None = None
    temp_c: int | None = None
    power_w: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttled_by: tuple[str, ...] = ()
    ecc_errors: int | None = None
    problem: str | None = None
    cuda_unavailable_reason: str | None = None


class FailedActivation(Wire):
    model_id: str
    error: str


class Activation(Wire):
    """How far the default models are: `pre_warming` until each was tried once, then `ready`."""

    state: Literal["pre_warming", "ready"] = "ready"
    pending: tuple[str, ...] = ()
    in_progress: str | None = None
    completed: tuple[str, ...] = ()
    failed: tuple[FailedActivation, ...] = ()


class ModelHealth(Wire):
    """Admission figures of one loaded model."""

    id: str
    in_flight: int = 0
    queue_depth: int = 0
    max_in_flight: int = 0
    max_queue_depth: int = 0
    rejected_queue_full: int = 0
    rejected_timeout: int = 0
    last_used: float | None = None


class Health(Wire):
    """`GET /health`"""

    uptime_secs: float = 0
    devices: tuple[DeviceHealth, ...] = ()
    activation: Activation = Activation()
    models: tuple[ModelHealth, ...] = ()
    memory_free_mb: int | None = None  # host memory that a model could still take
    disk_free_mb: int | None = None
    draining: bool = False
    time: float | None = None  # the neuron's clock, by which `last_used` is to be read


# ---- GET /models


class Limit(Wire):
    context: int
    output: int | None = None


class ModelEntry(Wire):
    """One element of `GET /models`. `vram_used_mb` is what the engine really holds: GPU memory, or host memory without a GPU.

    harness_reason      why this harness serves it, or why none does
    processor_only      it takes host memory, whatever GPUs there are
    vram_measured_mb    what it held when it ran here last; None: it never did
    estimate_context    tokens of context that `vram_estimate_mb` counts with
    kv_bytes_per_token  what each token more or less of context changes, as f16
    """

    id: str
    harness: str = "unknown"
    harness_reason: str | None = None
    processor_only: bool | None = None
    status: str = "loaded"  # an unknown word from another version is kept, and treated as not servable
    devices: tuple[int, ...] = ()
    vram_used_mb: int | None = None
    vram_estimate_mb: int | None = None
    vram_measured_mb: int | None = None
    estimate_context: int | None = None
    kv_bytes_per_token: float | None = None
    quant: str | None = None
    size_bytes: int | None = None
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    limit: Limit | None = None
    last_used: float | None = None
    ttl: float | None = None  # idle seconds before it is to be unloaded; 0: as soon as it is idle; negative: it stays
    yields: bool | None = None  # it takes no new requests, because another model has waited too long for its place
    job_id: str | None = None
    error: str | None = None
    last_death: str | None = None  # why an engine of it ended by itself, the last time


# ---- jobs


class JobStage(StrEnum):
    queued = "queued"
    fetching = "fetching"
    verifying = "verifying"
    loading = "loading"
    warming = "warming"
    done = "done"
    failed = "failed"


class Job(Wire):
    """`GET /jobs/{id}`: a load in progress. `eta_seconds` is left out rather than guessed; `notes` says what was decided for the caller."""

    id: str
    model_id: str
    stage: JobStage = JobStage.queued
    bytes_done: int | None = None
    bytes_total: int | None = None
    eta_seconds: float | None = None
    started_at: float = 0
    finished_at: float | None = None
    error: dict[str, Any] | None = None  # an OpenAI error object: message, type, code
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        return self.stage in (JobStage.done, JobStage.failed)


# ---- POST /models/load, /models/unload


class LoadSettings(Wire):
    """How an engine runs a model. None means "the harness decides" (see `neuron.harness.settings`)."""

    context: int | None = Field(None, ge=256)  # tokens
    parallel: int | None = Field(None, ge=1, le=256)  # slots
    gpu_layers: int | None = Field(None, ge=-1)
    kv_type: Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"] | None = None
    flash_attention: Literal["auto", "on", "off"] | None = None
    mmproj: str | None = None
    draft: str | None = None
    threads: int | None = Field(None, ge=1)
    mode: Literal["chat", "embedding", "rerank"] | None = None
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None = None
    chat_template: str | None = None  # a Jinja text or the name of a template family that the engine knows
    max_output_tokens: int | None = Field(None, ge=1)
    max_in_flight: int | None = Field(None, ge=1)
    max_queue_depth: int | None = Field(None, ge=0)
    max_wait_secs: float | None = Field(None, gt=0)
    ttl: float | None = Field(None, ge=0)  # idle seconds before it is unloaded; 0 or None: never
    tensor_split: tuple[float, ...] | None = None
    split_mode: Literal["none", "layer", "row"] | None = None
    main_gpu: int | None = None
    server_args: tuple[str, ...] | None = None  # for an external llama-server, as they are


class LoadRequest(LoadSettings):
    """`POST /models/load`. `harness` "candle" is what clients of the first generation send, and means auto."""

    model_id: str = Field(min_length=1, max_length=512)
    harness: str = "auto"
    quant: str | None = None
    tensor_parallel: int | None = Field(None, ge=1)
    devices: tuple[int, ...] | None = None
    devices_required: bool = False  # the operator's profile asked for GPUs: their absence is an error, not a note
    source: str | None = None  # a hub repository, when it is not what the id says
    wait: bool = True


class UnloadRequest(Wire):
    """`POST /models/unload`. `if_idle_since` (Unix seconds): refused with 409 when the model was used after that moment."""

    model_id: str = Field(min_length=1, max_length=512)
    if_idle_since: float | None = None


class KeepRequest(Wire):
    """`POST /models/keep`: for how many idle seconds a model stays from now on, whatever its load request said.

    0: it leaves as soon as it is idle; negative: it stays
    """

    model_id: str = Field(min_length=1, max_length=512)
    ttl: float


class YieldRequest(Wire):
    """`POST /models/yield`: another model has waited too long for its place.

    For so long it takes nothing new from anybody, and nothing but `to` is loaded there.
    """

    model_id: str = Field(min_length=1, max_length=512)
    to: str = Field(min_length=1, max_length=512)
    seconds: float = Field(gt=0, le=60)


# ---- POST /neurons/join, /neurons/leave, at a gateway


class Announcement(Wire):
    """A neuron tells a gateway of itself, again and again; when it is silent for some `interval_secs` it has left.

    endpoint  where it is reached; None: at the address that it is heard from, with `scheme` and `port`
    """

    name: str = Field(min_length=1, max_length=128, pattern=ONE_LINE)
    endpoint: str | None = Field(None, max_length=512)
    scheme: Literal["http", "https"] = "http"
    port: int = Field(13131, ge=1, le=65535)
    interval_secs: float = Field(5.0, ge=0.1, le=60)
