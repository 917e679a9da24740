"""TLS: one verifying context, with the certificate authorities of the site or the platform."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from lm_openai import files
from lm_openai.errors import WrongUsage

LARGEST_CA_FILE = 16 * 1024 * 1024
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
HASHED_FOLDERS = ("/etc/ssl/certs",)


def tls_context(ca_file: str, environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return a verifying TLS context with the given CA file, the environment's or the platform's.

    The first of these that is set is used. OpenSSL looks certificates up in a hashed folder as
    needed, at no cost; a bundle is read once. Raises WrongUsage for a CA file that cannot be read.
    """
    from urllib3.util.ssl_ import create_urllib3_context

    # urllib3 1.26 checks host names itself and fails on IP addresses with any other context.
    context = create_urllib3_context()
    given = {"openai.ca.file": ca_file, **{name: environ.get(name, "") for name in CA_VARIABLES}}
    for name, path in given.items():
        if path:
            return _with_ca(context, name, path)
    folder = _hashed_folder()
    if folder:
        context.load_verify_locations(capath=folder)
    else:
        context.load_verify_locations(cafile=_bundle())
    return context


def _with_ca(context: ssl.SSLContext, name: str, path: str) -> ssl.SSLContext:
    files.look(path)
    folder = os.path.isdir(path)
    try:
        if folder:
            files.refuse(files.distrust_folder(path))
        else:
            files.check(path, LARGEST_CA_FILE)
        context.load_verify_locations(
            cafile=None if folder else path, capath=path if folder else None
        )
    except OSError as error:
        cure = "" if isinstance(error, files.Refused) else "; set it to a PEM file"
        reason = error.strerror or "it contains no certificate"
        raise WrongUsage(f"{name}: {path} cannot be used: {reason}{cure}") from None
    return context


def _hashed_folder() -> str | None:
    """Return the platform's folder of certificates linked by hash, or None."""
    for folder in (ssl.get_default_verify_paths().capath, *HASHED_FOLDERS):
        names = os.listdir(folder) if folder and os.path.isdir(folder) else []
        if any(name.endswith(".0") for name in names):
            return folder
    return None


def _bundle() -> str:
    from certifi import where

    return ssl.get_default_verify_paths().cafile or where()
