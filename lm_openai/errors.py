"""Failures that an operator can meet, each a sentence with its cure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lm_openai import redaction


class FailureKind(NamedTuple):
    """One kind of API failure: its meaning and its cure, as the README's table shows them."""

    meaning: str
    cure: str


FAILURES = {
    "key": FailureKind(
        "the admin key is wrong or was revoked", "create a new one as an organization owner"
    ),
    "project_key": FailureKind(
        "a project key was given where an admin key is needed",
        "create an admin key (sk-admin-…) under Organization, Admin keys",
    ),
    "scope": FailureKind(
        "the admin key lacks a scope", "give the key that read scope, or use a key that has it"
    ),
    "archived": FailureKind(
        "the project is archived", "leave it out; its past usage and costs stay readable"
    ),
    "not_found": FailureKind(
        "the API does not know this endpoint or id", "check the id and openai.api.url"
    ),
    "refused": FailureKind(
        "the API refused the request", "fix what the message names, often a grouping or a filter"
    ),
    "ungrouped": FailureKind(
        "this organization does not support them for this time range",
        "use OpenAI_Cost_ByProject for dollars and OpenAI_Usage_ByConsumer for use by key and user",
    ),
    "throttled": FailureKind(
        "the API throttles this organization",
        "poll less often, or share a cache between collectors",
    ),
    "postponed": FailureKind(
        "a poll reads the limits of at most 200 projects",
        "wait: the next polls read them, and then they are kept for a day",
    ),
    "billing": FailureKind(
        "the organization ran out of credit or reached a limit",
        "see Billing in its settings; a retry does not help",
    ),
    "down": FailureKind("the API returned a server error", "wait; see the vendor's status page"),
    "unreachable": FailureKind(
        "no connection to the API", "check DNS, firewall, proxy and openai.api.url"
    ),
    "proxy": FailureKind(
        "the proxy refused the connection", "check openai.proxy.url and openai.proxy.pass"
    ),
    "tls": FailureKind(
        "the API's certificate is not trusted",
        "set openai.ca.file to the CA that signed it, which may be a proxy's own",
    ),
    "deadline": FailureKind(
        "the poll ran out of time", "raise openai.timeout, or narrow the window"
    ),
    "not_json": FailureKind(
        "the response is not JSON",
        "check openai.api.url and any proxy or gateway in front of the API",
    ),
    "contract": FailureKind(
        "the response breaks the API's contract",
        "check openai.api.url; if it is right, report this",
    ),
    "incomplete": FailureKind(
        "the response lacks part of the requested time",
        "wait for the next poll; if it stays, report it to OpenAI",
    ),
    "currencies": FailureKind(
        "the bill is in several currencies, which cannot be added",
        "compare the amounts in each currency in the vendor's console",
    ),
    "too_large": FailureKind(
        "a response is larger than allowed", "narrow the window or the grouping"
    ),
    "redirect": FailureKind("the API sent a redirect", "set openai.api.url to the final address"),
}


class Failure(Exception):
    """Base of all errors that the suite raises on purpose; `str()` is one sentence, no secret."""


class WrongUsage(Failure):
    """Options, properties or files are wrong; no request was sent."""


class Unwritable(Failure):
    """Stdout is closed, full or broken, so that the error cannot be printed there."""


class ApiFailure(Failure):
    """A request to the API failed; `kind` is a key of FAILURES.

    `endpoint` is the endpoint's name; `scope` is the missing scope if `kind` is "scope". Their
    text and `detail` may come from the network, so they are made safe here, for every failure.
    """

    def __init__(self, kind: str, endpoint: str, detail: str = "", scope: str = "") -> None:
        meaning, cure = FAILURES[kind]
        self.kind, self.endpoint = kind, redaction.sentence(endpoint)
        self.detail, self.scope = redaction.sentence(detail), redaction.sentence(scope)
        sentence = f"{meaning} ({self.detail})" if self.detail else meaning
        super().__init__(f"{self.endpoint}: {sentence}; {cure}")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the nearest known word, or "" if none is near."""
    near = closest(word, known)
    return f"; did you mean {near}?" if near else ""


def closest(word: str, known: Iterable[str]) -> str:
    """Return the nearest known word, or "" if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return near[0] if near else ""
