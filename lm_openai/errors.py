"""The failures an operator can meet, each a sentence with its cure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class FailureKind(NamedTuple):
    """One row of the README's "When it fails": what it looks like and what to do."""

    meaning: str
    cure: str


FAILURES = {
    "key": FailureKind(
        "the admin key is wrong or was revoked", "make a new one as an organization owner"
    ),
    "project_key": FailureKind(
        "a project key was given where an admin key is needed",
        "make an admin key (sk-admin-…) under Organization, Admin keys",
    ),
    "scope": FailureKind(
        "the admin key lacks a scope", "give the key that read scope, or use one that has it"
    ),
    "archived": FailureKind(
        "the project is archived", "leave it out; its past usage and costs stay readable"
    ),
    "not_found": FailureKind(
        "the API does not know what was asked", "check the id and openai.api.url"
    ),
    "refused": FailureKind(
        "the API refused the request", "mend what its reason names, often a grouping or a filter"
    ),
    "ungrouped": FailureKind(
        "this organization does not support them for this time range",
        "use OpenAI_Cost_ByApiKey, which every organization has",
    ),
    "throttled": FailureKind(
        "the API throttles this organization",
        "poll less often, or share a cache between collectors",
    ),
    "billing": FailureKind(
        "the organization ran out of credit or reached a limit",
        "see Billing in its settings; asking again does not help",
    ),
    "down": FailureKind(
        "the API answered with a server error", "wait; see the vendor's status page"
    ),
    "unreachable": FailureKind(
        "no connection to the API", "check DNS, firewall, proxy and openai.api.url"
    ),
    "proxy": FailureKind("the proxy refused", "check openai.proxy.url and openai.proxy.pass"),
    "tls": FailureKind(
        "the API's certificate was not accepted",
        "set openai.ca.file to the CA that signed it, which may be a proxy's own",
    ),
    "deadline": FailureKind(
        "the poll's time ran out", "raise openai.timeout, or narrow the window"
    ),
    "not_json": FailureKind(
        "the answer is not JSON",
        "check openai.api.url, and what stands between here and the API",
    ),
    "contract": FailureKind(
        "the answer breaks the API's contract", "check openai.api.url; if it is right, report this"
    ),
    "too_large": FailureKind(
        "an answer is larger than allowed", "narrow the window or the grouping"
    ),
    "redirect": FailureKind(
        "the API answered with a redirect", "set openai.api.url to the final address"
    ),
}


class Failure(Exception):
    """Base of everything this suite raises on purpose; `str()` is one sentence without a secret."""


class WrongUsage(Failure):
    """Options, properties or files that people write are wrong; nothing was asked of the API."""


class Unwritable(Failure):
    """Stdout is closed, full or gone, so that no word about it belongs there."""


class ApiFailure(Failure):
    """A question to the API stayed unanswered; `kind` is a key of FAILURES.

    `asked` names the endpoint; `scope` names the missing scope when `kind` is "scope".
    """

    def __init__(self, kind: str, asked: str, detail: str = "", scope: str = "") -> None:
        self.kind, self.asked, self.detail, self.scope = kind, asked, detail, scope
        meaning, cure = FAILURES[kind]
        words = f"{meaning} ({detail})" if detail else meaning
        super().__init__(f"{asked}: {words}; {cure}")


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a refusal: `; did you mean …?` with the nearest known word, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
