"""Content of the dashboards: which datapoints each of them shows, and as what."""

from __future__ import annotations

from collections.abc import Iterable

from lm_openai.hosts.grafana_views import Dashboard, Section, View, lines, stat, table
from lm_openai.model.definition import Definition

CONSUMERS = (
    ("Projects", ""),
    ("Users", "user_id"),
    ("API keys", "api_key_id"),
    ("Models", "model"),
)
"""Heading and openai.group.by of each view of usage_by_consumer."""
GROUPINGS = tuple(grouping for _, grouping in CONSUMERS if grouping)
"""Groupings of usage_by_consumer that need a poll of their own."""
COSTS = ("amount_month_to_date", "amount_month_forecast", "amount_last_month", "amount")

HEADLINE = Section(
    "Now",
    (
        stat("Tokens", "usage_by_consumer", "tokens"),
        stat("Requests", "usage_by_consumer", "requests"),
        stat("Images", "usage_by_consumer", "images"),
        stat("Cost this month", "cost_by_organization", "amount_month_to_date"),
        stat("Forecast of this month", "cost_by_organization", "amount_month_forecast"),
        stat("Highest use of a token limit", "rate_limits", "tpm_utilization", "max"),
        stat("Active projects", "organization", "projects_active"),
        stat("Users", "organization", "users"),
        stat("API keys", "organization", "api_keys"),
        stat("API reachable", "collection_health", "api_reachable", "min"),
        stat("Admin key valid", "collection_health", "key_valid", "min"),
        stat("Slowest response", "collection_health", "latency_seconds", "max"),
    ),
)

OVERVIEW = Dashboard(
    "overview",
    "OpenAI: overview",
    "Totals of the organization, what drives them, and each kind of usage.",
    (
        HEADLINE,
        Section(
            "Top",
            (
                table(
                    "Models by tokens", "completion_by_model", "total_tokens", "num_model_requests"
                ),
                table(
                    "Projects by tokens",
                    "usage_by_consumer",
                    "tokens",
                    "requests",
                    "change_percent",
                ),
                table("Users by cost", "cost_by_user", "amount_month_to_date", "share_percent"),
                table(
                    "API keys by cost", "cost_by_api_key", "amount_month_to_date", "share_percent"
                ),
            ),
        ),
        Section(
            "Tokens",
            (
                lines(
                    "Tokens by type",
                    "completion_by_model",
                    "input_uncached_tokens",
                    "input_cached_tokens",
                    "input_cache_write_tokens",
                    "output_tokens",
                    total="sum",
                    stacked=True,
                ),
                lines("Tokens by model", "completion_by_model", "total_tokens", stacked=True),
                lines("Tokens of embeddings", "embeddings_by_model", "input_tokens", stacked=True),
                lines("Tokens of decisions", "decisions_by_model", "total_tokens", stacked=True),
            ),
        ),
        Section(
            "Images",
            (
                table("Images by model", "images_by_model", "images", "num_model_requests"),
                lines("Images over time", "images_by_model", "images", stacked=True),
            ),
        ),
        Section(
            "Audio",
            (
                lines(
                    "Audio transcribed", "audio_transcriptions_by_model", "seconds", stacked=True
                ),
                lines("Characters spoken", "audio_speeches_by_model", "characters", stacked=True),
            ),
        ),
        Section(
            "Vector stores and tools",
            (
                table("Stored bytes by project", "vector_stores_by_project", "usage_bytes"),
                table("File searches", "file_search_by_vector_store", "num_requests"),
                table("Web searches", "web_search_by_model", "num_requests", "num_model_requests"),
                table("Code interpreter", "code_interpreter_by_project", "num_sessions"),
            ),
        ),
    ),
)

LIMITS = Dashboard(
    "limits",
    "OpenAI: rate limits",
    "How much of each rate limit is used, the highest use of tokens first, then requests, then "
    "images.",
    (
        Section(
            "By project and model",
            (
                table(
                    "Headroom by project and model",
                    "rate_limits",
                    "tpm_utilization",
                    "rpm_utilization",
                    "ipm_utilization",
                    "rpd_utilization",
                    "batch_tpd_utilization",
                    "tpm_used",
                    "tpm_limit",
                    "rpm_used",
                    "rpm_limit",
                    "ipm_used",
                    "ipm_limit",
                    "tpm_busy_minutes",
                    sort=3,
                    width=24,
                ),
                lines("Use of token limits", "rate_limits", "tpm_utilization"),
                lines("Use of request limits", "rate_limits", "rpm_utilization"),
                lines("Use of image limits", "rate_limits", "ipm_utilization", width=24),
            ),
        ),
        Section(
            "By model, all projects together",
            (
                table(
                    "Headroom by model",
                    "rate_limits_by_model",
                    "tpm_ceiling_utilization",
                    "rpm_ceiling_utilization",
                    "ipm_ceiling_utilization",
                    "tpm_used",
                    "tpm_peak_sum",
                    "tpm_ceiling",
                    "tpm_limit_sum",
                    "rpm_used",
                    "rpm_ceiling",
                    "ipm_used",
                    "ipm_ceiling",
                    sort=3,
                    width=24,
                ),
                lines(
                    "Use of token ceilings",
                    "rate_limits_by_model",
                    "tpm_ceiling_utilization",
                    width=24,
                ),
            ),
        ),
    ),
    "now-6h",
)

COST = Dashboard(
    "cost",
    "OpenAI: cost",
    "US dollars of the invoice: this month, its forecast, budgets and what they were spent on.",
    (
        Section(
            "Organization",
            (
                stat("Today", "cost_by_organization", "amount"),
                stat("Yesterday", "cost_by_organization", "amount_yesterday"),
                stat("This month", "cost_by_organization", "amount_month_to_date"),
                stat("Last month", "cost_by_organization", "amount_last_month"),
                stat("Forecast", "cost_by_organization", "amount_month_forecast"),
                stat("Budget used", "cost_by_organization", "budget_used_percent", "max"),
                lines("Cost by day and project", "cost_by_project", "amount", stacked=True),
                lines(
                    "Month to date and forecast",
                    "cost_by_organization",
                    "amount_month_to_date",
                    "amount_month_forecast_low",
                    "amount_month_forecast",
                    "amount_month_forecast_high",
                    total="sum",
                ),
            ),
        ),
        Section(
            "What it was spent on",
            (
                table(
                    "Projects", "cost_by_project", *COSTS, "share_percent", "budget_used_percent"
                ),
                table("Line items", "cost_by_line_item", *COSTS, "share_percent"),
                table("API keys", "cost_by_api_key", *COSTS, "share_percent"),
                table("Users", "cost_by_user", *COSTS, "share_percent"),
            ),
        ),
        Section(
            "Limits and checks",
            (
                table(
                    "Spend limits",
                    "spend_limits_by_project",
                    "used_percent",
                    "spent_month",
                    "threshold",
                    "enforcing",
                ),
                table(
                    "Billed and used quantities",
                    "reconciliation_by_model",
                    "difference_percent",
                    "billed_quantity",
                    "used_quantity",
                ),
            ),
        ),
    ),
    "now-30d",
)


def consumers(title: str, grouping: str) -> Section:
    """Return the section of the usage by one kind of consumer."""
    folder = "usage_by_consumer"
    columns = ("tokens", "requests", "images", "seconds", "characters", "change_percent")
    return Section(
        title,
        (
            table(f"Usage: {title}", folder, *columns, grouping=grouping),
            lines(f"Tokens: {title}", folder, "tokens", grouping=grouping, stacked=True),
        ),
    )


ATTRIBUTION = Dashboard(
    "attribution",
    "OpenAI: attribution",
    "Who uses what: usage by project, user, API key and model, approved models, and all keys.",
    (
        *(consumers(title, grouping) for title, grouping in CONSUMERS),
        Section(
            "Rules",
            (
                table(
                    "Requests to approved models",
                    "model_mix_by_project",
                    "requests",
                    "requests_approved",
                    "approved_percent",
                ),
                table(
                    "Age and use of keys",
                    "api_keys_by_key",
                    "unused_days",
                    "age_days",
                    "expires_in_days",
                    "owner_active",
                    "is_admin",
                ),
            ),
        ),
    ),
)


def details(definitions: Iterable[Definition]) -> Dashboard:
    """Return the dashboard with all graphs of every DataSource, in folded sections."""
    return Dashboard(
        "details",
        "OpenAI: all DataSources",
        "Every graph of every DataSource.",
        tuple(
            Section(known.title.removeprefix("OpenAI "), tuple(_graphs(known)), folded=True)
            for known in definitions
        ),
        "now-7d",
    )


def _graphs(known: Definition) -> Iterable[View]:
    for graph in known.graphs:
        yield lines(graph.title, known.folder, *graph.datapoints, stacked=graph.stacked)


def dashboards(definitions: Iterable[Definition]) -> tuple[Dashboard, ...]:
    """Return all dashboards that show datapoints."""
    return (OVERVIEW, LIMITS, COST, ATTRIBUTION, details(definitions))
