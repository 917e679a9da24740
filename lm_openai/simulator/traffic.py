"""Traffic of the demo organization: callers, models, calls per day and tokens per call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from lm_openai.simulator.catalog import Model
from lm_openai.simulator.organization import (
    DAY,
    ApiKey,
    Organization,
    Project,
    User,
    VectorStore,
    stable_hash,
)
from lm_openai.simulator.rhythm import FOREVER, Leaf


class Flow(NamedTuple):
    """Flow of a project's traffic; `by` is the caller: `service`, `person` or `playground`."""

    kind: str
    model: str | None
    daily: int
    profile: str
    rhythm: str = "office"
    by: str = "service"
    more: tuple[tuple[str, str | bool], ...] = ()


@lru_cache(maxsize=64)
def leaves(organization: Organization, kind: str) -> tuple[Leaf, ...]:
    """Return all sources of a kind's usage."""
    keys: dict[str, list[ApiKey]] = {}
    for key in organization.keys:
        keys.setdefault(key.project_id, []).append(key)
    return tuple(
        leaf_of(organization, project, place, flow, keys[project.id])
        for number, project in enumerate(organization.projects)
        for place, flow in enumerate(_flows(organization, project, number))
        if flow.kind == kind
    )


def _flows(organization: Organization, project: Project, number: int) -> Iterator[Flow]:
    if project.case == "plain":
        yield from _plain(organization, number)
        return
    names = {model.name for model in organization.models}
    for flow in FLOWS[project.case]:
        if flow.model is None or flow.model in names:
            yield flow


def _plain(organization: Organization, number: int) -> Iterator[Flow]:
    """Yield the flows of a generated project: `breadth` models; the first differs by project."""
    models = organization.models
    for step in range(min(organization.breadth, len(models))):
        model = models[(number * organization.breadth + step) % len(models)]
        daily = 4000 + stable_hash(organization.seed, number, model.name) % 12000
        yield _plain_flow(model, daily)


def _plain_flow(model: Model, daily: int) -> Flow:
    profile, more = PLAIN[model.kinds[0]]
    return Flow(model.kinds[0], model.name, daily, profile, "visitors", more=more)


def leaf_of(
    organization: Organization, project: Project, place: int, flow: Flow, keys: list[ApiKey]
) -> Leaf:
    """Return the source of a flow; `keys` are the project's, the service's first."""
    rates = PROFILES[flow.profile]
    archived = project.archived_at
    return Leaf(
        number=stable_hash(organization.seed, project.id, place) % 2**61,
        kind=flow.kind,
        dimensions={
            "project_id": project.id,
            **_caller(flow.by, keys),
            "model": flow.model,
            "batch": False,
            "service_tier": "default",
            "api_source": "unlabeled",
            **_more(flow, project, organization.vector_stores),
        },
        daily=flow.daily,
        fields=tuple(rates),
        rates=tuple(rates.values()),
        rhythm=flow.rhythm,
        first_day=project.created_at // DAY + 3,
        last_day=FOREVER if archived is None else archived // DAY,
        long_context=("long_context", True) in flow.more,
    )


def _caller(by: str, keys: list[ApiKey]) -> dict[str, str | None]:
    service, person = keys[0], keys[1]
    key = {"service": service.id, "person": person.id, "playground": None}[by]
    user = person.owner.id if isinstance(person.owner, User) and by != "service" else None
    return {"user_id": user, "api_key_id": key}


def _more(flow: Flow, project: Project, stores: tuple[VectorStore, ...]) -> dict[str, str | bool]:
    more = dict(flow.more)
    if "store" in more:
        name = more.pop("store")
        more["vector_store_id"] = next(
            store.id for store in stores if (store.project_id, store.name) == (project.id, name)
        )
    return more


# Amounts per thousand counts. Input text, audio and image tokens are the uncached part.
PROFILES: dict[str, dict[str, int]] = {
    "chat": {
        "input_text_tokens": 620_000,
        "input_cached_text_tokens": 240_000,
        "input_cache_write_30m_tokens": 40_000,
        "output_text_tokens": 180_000,
    },
    "documents": {
        "input_text_tokens": 4_100_000,
        "input_cached_text_tokens": 2_600_000,
        "input_cache_write_30m_tokens": 300_000,
        "input_cache_write_12h_tokens": 150_000,
        "output_text_tokens": 420_000,
    },
    "reasoning": {
        "input_text_tokens": 800_000,
        "input_cached_text_tokens": 300_000,
        "output_text_tokens": 1_500_000,
    },
    "vision": {
        "input_text_tokens": 280_000,
        "input_image_tokens": 765_000,
        "input_cached_image_tokens": 110_000,
        "output_text_tokens": 150_000,
        "output_image_tokens": 45_000,
    },
    "voice": {
        "input_text_tokens": 90_000,
        "input_cached_text_tokens": 40_000,
        "input_audio_tokens": 420_000,
        "input_cached_audio_tokens": 160_000,
        "output_text_tokens": 60_000,
        "output_audio_tokens": 380_000,
    },
    "choice": {"input_text_tokens": 210_000, "output_text_tokens": 4_000},
    "passages": {"input_tokens": 350_000},
    "pictures": {"images": 1_300},
    "speech": {"characters": 480_000},
    "recording": {"seconds": 95_000},
    "searches": {"num_requests": 1_250},
    "count": {},
}

PLAIN: dict[str, tuple[str, tuple[tuple[str, str | bool], ...]]] = {
    "completions": ("chat", ()),
    "embeddings": ("passages", ()),
    "moderations": ("passages", ()),
    "images": ("pictures", (("size", "1024x1024"), ("source", "image.generation"))),
    "audio_speeches": ("speech", ()),
    "audio_transcriptions": ("recording", ()),
}

BATCH = (("batch", True),)
PRIORITY = (("service_tier", "priority"),)
FLEX = (("service_tier", "flex"),)
AGENTS = (("api_source", "agents_api"),)
SQUARE = (("size", "1024x1024"), ("source", "image.generation"))
WIDE = (("size", "1024x1792"), ("source", "image.generation"))
EDIT = (("size", "1024x1024"), ("source", "image.edit"))
FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::a1b2c3"

FLOWS: dict[str, tuple[Flow, ...]] = {
    "support": (
        Flow("completions", "gpt-4o-2024-08-06", 32_000, "chat", "visitors"),
        Flow("completions", "gpt-4o-2024-08-06", 2_400, "chat", "visitors", more=PRIORITY),
        Flow("completions", "gpt-4o", 900, "chat", by="person"),
        Flow("completions", FINE_TUNED, 21_000, "chat", "visitors"),
        Flow("completions", "gpt-5-mini-2025-08-07", 6_000, "chat", "visitors", more=AGENTS),
        Flow("decisions", "gpt-5-mini-2025-08-07", 9_000, "choice", "visitors"),
        Flow("embeddings", "text-embedding-3-small", 26_000, "passages", "visitors"),
        Flow("moderations", "omni-moderation-latest", 30_000, "passages", "visitors"),
        Flow("vector_stores", None, 5_400_000_000, "count", "steady"),
        Flow("file_search_calls", None, 7_000, "count", "visitors", more=(("store", "handbook"),)),
        Flow("file_search_calls", None, 2_500, "count", "visitors", more=(("store", "tickets"),)),
    ),
    "hot": (
        Flow("completions", "gpt-4o-mini-2024-07-18", 480_000, "chat", "steady"),
        Flow("completions", "gpt-4o-mini-2024-07-18", 24_000, "chat", "nights", more=BATCH),
        Flow("completions", "gpt-4.1-2025-04-14", 700, "documents", by="person"),
        Flow("embeddings", "text-embedding-3-large", 15_000, "passages", "nights"),
        Flow("code_interpreter_sessions", None, 140, "count"),
    ),
    "pair": (
        Flow("completions", "gpt-5-nano-2025-08-07", 800_000, "chat", "steady"),
        Flow("completions", "gpt-4.1-mini-2025-04-14", 5_000, "chat"),
        Flow("embeddings", "text-embedding-3-small", 60_000, "passages"),
        Flow("embeddings", "text-embedding-ada-002-v2", 4_000, "passages", by="person"),
        Flow("vector_stores", None, 21_000_000_000, "count", "steady"),
        Flow("file_search_calls", None, 3_600, "count", more=(("store", "handbook"),)),
        Flow("file_search_calls", None, 900, "count", by="person", more=(("store", "tickets"),)),
    ),
    "blocked": (
        Flow("completions", "o3-2025-04-16", 260, "reasoning", "visitors", "person"),
        Flow("completions", "gpt-5-2025-08-07", 300, "reasoning", by="playground"),
        Flow("completions", "computer-use-preview-2025-03-11", 420, "vision", by="person"),
        Flow("code_interpreter_sessions", None, 25, "count"),
    ),
    "renamed": (
        Flow("images", "gpt-image-1", 420, "pictures", more=SQUARE),
        Flow("images", "gpt-image-1", 90, "pictures", by="person", more=EDIT),
        Flow("images", "dall-e-3", 160, "pictures", more=WIDE),
        Flow("completions", "gpt-4o-2024-11-20", 2_800, "vision"),
        Flow("completions", "gpt-5.1-2025-11-13", 1_500, "chat", by="person"),
        Flow(
            "web_search_calls",
            "gpt-5.1-2025-11-13",
            500,
            "searches",
            more=(("context_level", "low"),),
        ),
        Flow(
            "web_search_calls",
            "gpt-4o-2024-08-06",
            260,
            "searches",
            by="person",
            more=(("context_level", "high"),),
        ),
    ),
    "archived": (
        Flow("completions", "gpt-4o-2024-08-06", 4_000, "chat", "visitors"),
        Flow("embeddings", "text-embedding-ada-002-v2", 6_000, "passages", "visitors"),
    ),
    "unlimited": (
        Flow("moderations", "omni-moderation-latest", 90_000, "passages", "visitors"),
        Flow("completions", "gpt-4o-2024-08-06", 9_000, "chat", "visitors"),
        Flow("moderations", "omni-moderation-latest", 60, "passages", by="person"),
        Flow("decisions", "gpt-5-2025-08-07", 3_000, "choice", "visitors"),
        Flow("decisions", "gpt-5-2025-08-07", 45, "choice", by="person"),
    ),
    "translation": (
        Flow("completions", "gpt-4.1-2025-04-14", 5_500, "chat"),
        Flow("completions", "gpt-4.1-2025-04-14", 40, "documents", more=(("long_context", True),)),
        Flow("completions", "gpt-5-2025-08-07", 1_800, "reasoning", more=FLEX),
    ),
    "batch": (
        Flow("completions", "gpt-4.1-mini-2025-04-14", 42_000, "documents", "nights", more=BATCH),
        Flow("completions", "o4-mini-2025-04-16", 9_000, "reasoning", "nights", more=BATCH),
        Flow("completions", "gpt-4.1-mini-2025-04-14", 600, "documents", by="person"),
    ),
    "voice": (
        Flow("completions", "gpt-realtime-2025-08-28", 1_900, "voice", "visitors"),
        Flow("completions", "gpt-4o-audio-preview-2024-12-17", 700, "voice", "visitors"),
        Flow("audio_speeches", "tts-1", 4_800, "speech", "visitors"),
        Flow("audio_speeches", "tts-1", 70, "speech", by="person"),
        Flow("audio_transcriptions", "whisper-1", 3_900, "recording", "visitors"),
        Flow("audio_transcriptions", "whisper-1", 120, "recording", by="person"),
        Flow("web_search_calls", "gpt-5-2025-08-07", 640, "searches", "visitors", more=AGENTS),
    ),
    "idle": (),
}
