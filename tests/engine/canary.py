"""Secrets of a site that nobody has: what is built there must not keep one of them."""

from __future__ import annotations

import base64
import os
import ssl
from pathlib import Path

from builder.bootstrap import pip_wheel as pipwheel

TOKEN = "canary-7f3a91c2-token"
AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBozCCAUmgAwIBAgIUaRhUZwteJLrGaKwyl6U4jw//grMwCgYIKoZIzj0EAwIw
JzElMCMGA1UEAwwcd2hpc3BlcmJha2UgY2FuYXJ5IGF1dGhvcml0eTAeFw0yNjEx
MjQwMDE4MzdaFw00NjExMTkwMDE4MzdaMCcxJTAjBgNVBAMMHHdoaXNwZXJiYWtl
IGNhbmFyeSBhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASiI+fA
HRu+gmkCA3qHBAZD573PhYiumPntX81Bq2TEHls6jWI7phm3xmt+c9sUJcSi3w+g
X0EPLvaPtzhGW9XWo1MwUTAdBgNVHQ4EFgQU5FWBFO9R0r+rxIvwJIEAmcZ20Q4w
HwYDVR0jBBgwFoAU5FWBFO9R0r+rxIvwJIEAmcZ20Q4wDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNIADBFAiEAr6DRKB2PljpNg28mAkAkoxyiiutxnkAJY0PK
AsTAPjwCIBGa6eg6QKUabGjuX85M+/odAfTXvfoJu8DtdUl2SxuS
-----END CERTIFICATE-----
"""
"""A certificate that nobody has the key of (it was thrown away)."""


def needles() -> dict[str, bytes]:
    body = "".join(AUTHORITY.splitlines()[1:-1])
    return {
        "token": TOKEN.encode(),
        "token, base64": base64.b64encode(f"me:{TOKEN}".encode())[:-4],
        "certificate": AUTHORITY.splitlines()[2].encode(),
        "certificate, binary": base64.b64decode(body)[40:100],
    }


def site(tmp_path: Path) -> dict[str, str]:
    """This machine's network, with a canary in each place that could hold a secret."""
    bundle = (
        pipwheel.certificates(os.environ)
        or ssl.get_default_verify_paths().cafile
        or "/etc/ssl/certs/ca-certificates.crt"
    )
    own = tmp_path / "ca.crt"
    own.write_text(Path(os.environ.get("SSL_CERT_FILE", bundle)).read_text() + AUTHORITY)
    index = next(p for p in pipwheel._places(pipwheel.settings(os.environ)) if p.startswith("https://"))
    signed = index if "@" in index else index.replace("https://", f"https://me:{TOKEN}@")
    return {
        "SSL_CERT_FILE": str(own),
        "PIP_CERT": str(own),
        "PIP_INDEX_URL": signed,
        "NO_PROXY": f"{TOKEN}.invalid",
        "HF_TOKEN": TOKEN,
        "UV_INDEX_PASSWORD": TOKEN,
    }
