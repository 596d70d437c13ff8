"""Sources over HTTP: the hub, another machine's `models serve`, and files at fixed addresses."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from builder.core.weights.model import FilePin, HubSource, Model, Pin, UrlSource
from builder.edges.weights import access
from builder.edges.weights.download import link, transfer
from builder.edges.weights.sources.bring import FetchContext, bring
from builder.errors import SourceError, UsageError


def from_hub(context: FetchContext, model: Model, pin: Pin, source: HubSource) -> None:
    """Bring a model from its repository, at the pinned commit.

    Raises:
        SourceError: the hub can't be reached, or refuses.
        IntegrityError: it has other bytes.
        UsageError: HF_TOKEN can't be a token.
    """
    endpoint = _endpoint(context.env)
    headers = access.authorization(model, _token(context.env))
    with_token = bool(headers) and access.may_have_token(endpoint, context.env)
    context.traffic.reach(endpoint)

    def get(file: FilePin, target: Path, on_bytes: Callable[[int], None]) -> str:
        url = access.file_url(endpoint, source.repo, pin.revision, file.path)
        try:
            return _download(context, url, headers, file, target, on_bytes)
        except link.Refused as error:
            raise _refusal(
                error, model, source.repo, endpoint, with_token=with_token, withheld=bool(headers) and not with_token
            ) from error

    bring(context, model, pin, get, local=False)


def from_peer(context: FetchContext, model: Model, pin: Pin) -> None:
    """Bring what no hub repository holds from another machine's `models serve`: by digest, and without a token.

    Raises:
        SourceError: it can't be reached, or has no such file.
        IntegrityError: it has other bytes.
    """
    endpoint = _endpoint(context.env)
    context.traffic.reach(endpoint)

    def get(file: FilePin, target: Path, on_bytes: Callable[[int], None]) -> str:
        url = f"{endpoint}/whisperbake/sha256/{file.sha256}"
        try:
            return _download(context, url, {}, file, target, on_bytes)
        except link.Refused as error:
            raise SourceError(f"{endpoint} has no {file.path}, or is another hub ({error.status})") from error

    bring(context, model, pin, get, local=False, converted=True)


def from_url(context: FetchContext, model: Model, pin: Pin, source: UrlSource) -> None:
    """Bring the one file of a fixed address.

    Raises:
        SourceError: its host can't be reached, or refuses.
        IntegrityError: it has other bytes.
    """
    context.traffic.reach("/".join(source.url.split("/")[:3]))
    bring(context, model, pin, functools.partial(_download, context, source.url, {}), local=False)


def _download(
    context: FetchContext,
    url: str,
    headers: Mapping[str, str],
    file: FilePin,
    target: Path,
    on_bytes: Callable[[int], None],
) -> str:
    address = link.Link(url, headers, size=file.size, sha256=file.sha256, traffic=context.traffic)
    return transfer.download(address, target, size=file.size, sha256=file.sha256, on_bytes=on_bytes)


def _endpoint(env: Mapping[str, str]) -> str:
    """The hub's address.

    Raises:
        SourceError: the environment says to stay offline.
    """
    if access.offline(env):
        raise SourceError("HF_HUB_OFFLINE is set")
    return access.endpoint(env)


def _token(env: Mapping[str, str]) -> str:
    """The token of HF_TOKEN.

    Raises:
        UsageError: HF_TOKEN can't be a token. It is not shown.
    """
    token = env.get("HF_TOKEN", "").strip()
    if not re.fullmatch(r"[!-~]*", token):
        raise UsageError("HF_TOKEN holds spaces, or letters that no token has", hint="set it to the token alone, hf_…")
    return token


def _refusal(
    error: link.Refused, model: Model, repo: str, endpoint: str, *, with_token: bool, withheld: bool
) -> SourceError:
    """What 401 and 403 mean, told apart, each with what to do."""
    page = model.page or f"{endpoint}/{repo}"
    if error.status not in (401, 403):
        return SourceError(error.what + (", no such repository or revision" if error.status == 404 else ""))
    if error.code == "RepoNotFound" and not model.gated:
        return SourceError(
            f"no such repository, or a private one: {page}",
            hint=f"a private repository: gated: true at {model.id} in models.yaml, then HF_TOKEN is sent",
        )
    if withheld:
        return SourceError(
            access.Reason.PLAIN_HTTP.value, hint="an https address in HF_ENDPOINT, or its host in BAKE_INSECURE_HOSTS"
        )
    if not with_token:
        return SourceError(
            "it wants a token", hint=f"accept the licence at {page}, then set HF_TOKEN to a token of that account"
        )
    if error.status == 401:
        return SourceError("it refused the token (401)", hint="make a new token, and set HF_TOKEN")
    if error.code == "GatedRepo" or model.gated:
        return SourceError(
            "its licence is not accepted by this token's account, or the token may not read gated repositories",
            hint=f"accept the licence at {page}",
        )
    return SourceError("it refused (403): a rule of a proxy or of the repository", hint=f"see {page}")
