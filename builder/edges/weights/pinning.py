"""Ask the hub, or a fixed address, what a model is today, and keep the answer in models.lock."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from builder.core.config.paths import Paths
from builder.core.weights import hub_api, lock
from builder.core.weights.model import COMMIT, SHA256, FilePin, Model, Pin, unsafe
from builder.edges.system import files, http
from builder.edges.weights import access
from builder.errors import IntegrityError, SourceError

if TYPE_CHECKING:
    import httpx

    from builder.edges.weights.store import Store

PATIENCE = 10.0
"""Seconds that the hub's answer is waited for."""

SMALL = 64 << 20
"""Bytes up to which files are downloaded and hashed when the hub has no sha256 of them (they are outside LFS)."""

LARGEST = 8 << 30
"""Bytes of a file at a fixed address."""

PAGES = 20
"""Of a history."""


class HubUnreachable(SourceError):
    """No hub can be asked: asking about the next model is pointless."""


@dataclass(frozen=True, kw_only=True)
class HubAnswer:
    """What the hub says of a model today."""

    pin: Pin
    history: tuple[str, ...] | None
    """The repository's commits, from the pin's backwards; None when the hub doesn't tell."""


def resolve(model: Model, *, token: access.Token | None, env: Mapping[str, str], scratch: Path) -> HubAnswer:
    """Ask the hub what a model's repository is now.

    The pin has the files that the catalogue's ``include`` names, without hidden files and read-mes. Sizes and sha256 are the
    hub's where it has them (LFS); other files are downloaded and hashed. So is the file of a model that has an address in
    place of a repository; where it is converted, the result has a pin, too.

    Args:
        scratch: a folder for such a file, and for what it is converted into; nothing stays there.

    Raises:
        SourceError: the hub can't be reached, refuses, or has no such repository; or nobody can be asked about the model.
        IntegrityError: the answer names what can't be pinned, or the file can't be converted.
        MissingError: the file doesn't fit on the disk.
    """
    if model.repo is None and model.url is not None:
        return _of_address(model, model.url, env, scratch)
    if model.repo is None:
        raise SourceError(
            f"model {model.id} has no hub repository and no address to ask",
            hint="write its pin into models.lock by hand, with two records",
        )
    if access.offline(env):
        raise HubUnreachable("HF_HUB_OFFLINE is set", where=model.id, hint="unset it to ask the hub")
    import httpx

    hub = _Hub(access.endpoint(env), model, token, env)
    try:
        info = hub_api.repository(hub.get(f"{hub.api}?blobs=true"))
        wanted = [file for file in info.files if _included(model, file.path)]
        _check(model, hub.address, info.revision, wanted)
        pinned = hub.pinned(info.revision, wanted)
        history = hub.history(info.revision)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise HubUnreachable(f"{hub.address} could not be reached ({http.short(error)})", where=model.id) from error
    except ValueError as error:
        raise SourceError(f"what {hub.address} answered is not of the hub's form: {error}", where=model.id) from error
    pin = Pin(
        revision=info.revision,
        files=tuple(sorted(pinned, key=lambda f: f.path)),
        records=(f"{model.repo} on {hub.address}",),
        licence=info.licence,
    )
    return HubAnswer(pin=pin, history=history)


def in_int8(model: Model, pin: Pin, store: Store) -> Pin:
    """The pin of a model's weights in int8. They are made from its weights in the store, and thrown away.

    Args:
        model: the one in int8.
        pin: of the model that it is made from, whose files are in the store, and were compared with it.

    Raises:
        IntegrityError: they can't be converted.
        MissingError: the result doesn't fit on the disk.
    """
    from builder.edges.weights import convert

    assert model.convert is not None
    assert model.int8_of is not None
    source = next(file for file in pin.files if file.path == model.convert.source)
    weights = store.same(source)
    assert weights is not None
    files.require_room({store.incoming.parent: source.size}, "put the state elsewhere: --home DIR")
    store.incoming.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lock-", dir=store.incoming) as folder:
        result = Path(folder, "result")
        convert.converter(model.convert.how)(weights, result)
        made = FilePin(path=model.convert.result, size=result.stat().st_size, sha256=files.sha256(result))
    others = (file for file in pin.files if file != source)
    return Pin(
        revision=pin.revision,
        files=tuple(sorted((*others, made), key=lambda file: file.path)),
        source_files=(source,),
        records=(f"made from {model.int8_of} by this program",),
        licence=pin.licence,
    )


class _Hub:
    """What is asked of a hub about one repository."""

    def __init__(self, address: str, model: Model, token: access.Token | None, env: Mapping[str, str]) -> None:
        from builder.edges.system import answers

        self.address = address
        self.api = f"{address}/api/models/{quote(str(model.repo))}"
        self._model = model
        self._client = answers.shared(address, env)
        self._headers = access.authorization(model, token.value if token else None)
        self._told = bool(self._headers) and self._client.may_hear(address)

    def get(self, url: str) -> bytes:
        """A question's answer.

        Raises:
            SourceError: the hub refuses.
        """
        answer = self._ask(url)
        if answer.status_code != 200:
            raise _refusal(answer, self._model, self.address, with_token=self._told)
        return bytes(answer.content)

    def _ask(self, url: str) -> httpx.Response:
        from builder.edges.system import answers

        return answers.ask(self._client, "GET", url, headers=self._headers, timeout=PATIENCE)

    def pinned(self, revision: str, files: Sequence[hub_api.ListedFile]) -> list[FilePin]:
        """The pins of files; those without a sha256 are read.

        Raises:
            SourceError: these are too large together.
            IntegrityError: one has another size than the hub said.
        """
        unknown = [file for file in files if not file.sha256]
        if sum(file.size for file in unknown) > SMALL:
            largest = max(unknown, key=lambda file: file.size)
            raise SourceError(
                f"{self._model.repo}: {largest.path} has {largest.size} bytes and no sha256",
                hint="leave it out: include",
            )
        return [
            FilePin(path=f.path, size=f.size, sha256=f.sha256 or self._sha256(revision, f.path, f.size)) for f in files
        ]

    def _sha256(self, revision: str, path: str, size: int) -> str:
        url = access.file_url(self.address, str(self._model.repo), revision, path)
        with _streamed(self._client, url, self._headers, self._model) as answer:
            if answer.status_code != 200:
                raise _refusal(answer, self._model, self.address, with_token=self._told)
            digest, count = hashlib.sha256(), 0
            for piece in answer.iter_raw():
                count += len(piece)
                if count > size:
                    break
                digest.update(piece)
            if count != size:
                raise IntegrityError(f"{self.address} says that {path} has {size} bytes", where=self._model.id)
            return digest.hexdigest()

    def history(self, revision: str) -> tuple[str, ...] | None:
        """The repository's commits from one backwards; None when the hub doesn't tell, or when they are too many."""
        url = f"{self.api}/commits/{revision}"
        commits: list[str] = []
        for _ in range(PAGES):
            answer = self._ask(url)
            try:
                if answer.status_code != 200:
                    return None
                commits += hub_api.commits(bytes(answer.content))
                following = answer.links.get("next", {}).get("url")
                if not following:
                    return tuple(commits)
                url = http.redirected(url, following)
            except (ValueError, SourceError):  # a mirror without a history fails in many ways
                return None
        return None


@contextlib.contextmanager
def _streamed(client: httpx.Client, url: str, headers: Mapping[str, str], model: Model) -> Iterator[httpx.Response]:
    """A file's answer, before its bytes are read, after its redirects.

    Raises:
        SourceError: they are too many.
    """
    from builder.edges.system import answers

    for _ in range(http.HOPS + 1):
        with client.stream("GET", url, headers=headers, timeout=PATIENCE, extensions=answers.FILE) as answer:
            if not answer.has_redirect_location:
                yield answer
                return
            url = http.redirected(url, answer.headers["Location"])
    raise SourceError(f"{url}: it redirects more than {http.HOPS} times", where=model.id)


def _of_address(model: Model, url: str, env: Mapping[str, str], scratch: Path) -> HubAnswer:
    """What a fixed address has. Its bytes are all that is known of it: they name the revision, too."""
    from builder.edges.weights import convert

    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lock-", dir=scratch) as folder:
        source, result = Path(folder, "source"), Path(folder, "result")
        fetched = [_downloaded(model, url, env, source)]
        kept = fetched
        if model.convert is not None:
            files.require_room({scratch: fetched[0].size}, "put the state elsewhere: --home DIR")
            convert.converter(model.convert.how, model.convert.labels)(source, result)
            kept = [FilePin(path=model.convert.result, size=result.stat().st_size, sha256=files.sha256(result))]
    return HubAnswer(
        pin=Pin(
            revision=fetched[0].sha256[:12],
            files=tuple(kept),
            source_files=tuple(fetched) if model.convert else (),
            records=(url,),
        ),
        history=None,
    )


def _downloaded(model: Model, url: str, env: Mapping[str, str], target: Path) -> FilePin:
    """The pin of the one file of an address, which is then in ``target``.

    Raises:
        SourceError: nobody is there, or it is refused.
        IntegrityError: it is too large, or cut short.
        MissingError: it doesn't fit on the disk.
    """
    import httpx

    from builder.edges.system import answers

    def pieces(answer: httpx.Response) -> Iterator[bytes]:
        count = 0
        for piece in answer.iter_raw():
            count += len(piece)
            if count > size:
                break
            yield piece
        if count != size:
            raise IntegrityError(f"{url} says that it has {size} bytes", where=model.id)

    try:
        with _streamed(answers.shared(url, env), url, {}, model) as answer:
            size = _length(answer)
            if answer.status_code != 200 or not 0 < size <= LARGEST:
                raise SourceError(f"{url} answered {answer.status_code}, {size} bytes", where=model.id)
            files.require_room({target.parent: size}, "put the state elsewhere: --home DIR")
            digest = files.copy_hashed(pieces(answer), target)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"{url} could not be reached ({http.short(error)})", where=model.id) from error
    if model.url_sha256 not in ("", digest):
        raise IntegrityError(
            f"{url} has a file with sha256 {digest}",
            where=model.id,
            expected=f"{model.url_sha256}, as models.yaml says",
        )
    path = model.convert.source if model.convert else url.rpartition("/")[2]
    return FilePin(path=path, size=size, sha256=digest)


def _length(answer: httpx.Response) -> int:
    """How many bytes follow, as the answer says; 0 when it doesn't."""
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def _refusal(answer: httpx.Response, model: Model, address: str, *, with_token: bool) -> SourceError:
    """Why the hub told nothing of a model."""
    page = model.page or f"{address}/{model.repo}"
    status, headers = answer.status_code, answer.headers
    code, message = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    if status in (401, 403) and (code == "GatedRepo" or model.gated or "credentials" in message.lower()):
        why = access.reason(status, code, message, with_token=with_token)
        return SourceError(f"{model.repo}: {why.value}", where=model.id, hint=f"see {page}")
    if status in (401, 404):
        private = None if model.gated else f"a private one: gated: true at {model.id} in models.yaml sends the token"
        return SourceError(f"no such repository, or a private one: {page}", where=model.id, hint=private)
    return SourceError(f"{address} answered {status} {code}".rstrip(), where=model.id)


def _check(model: Model, address: str, revision: str, wanted: Sequence[hub_api.ListedFile]) -> None:
    """Refuse an answer that no lock could hold, before any of its files is asked for.

    Raises:
        SourceError: none of the repository's files is included.
        IntegrityError: the revision is not a commit, a path or a sha256 is not one, or a path comes twice.
    """
    if not COMMIT.fullmatch(revision):
        raise IntegrityError(f"{address} named no commit: {revision!r}", where=model.id)
    if not wanted:
        raise SourceError(f"{model.repo} has none of the files that models.yaml includes", where=model.id)
    paths = [file.path for file in wanted]
    for file in wanted:
        why_not = unsafe(file.path) or (None if not file.sha256 or SHA256.fullmatch(file.sha256) else "its sha256")
        if why_not or paths.count(file.path) > 1:
            raise IntegrityError(
                f"{address} named a file that can't be pinned: {file.path[:200]!r} ({why_not or 'it comes twice'})",
                where=model.id,
            )


def _included(model: Model, path: str) -> bool:
    if path.startswith(".") or path.lower().endswith(".md"):
        return False
    return not model.include or any(fnmatch.fnmatchcase(path, pattern) for pattern in model.include)


def write(root: Path, home: Path, pins: Mapping[str, Pin], known: Mapping[str, Model]) -> None:
    """Write pins into models.lock, beside what another process may have written meanwhile; all of them or none."""
    path = root / "models.lock"
    with files.locked(Paths(home=home).lock_guard):
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        before = lock.parse_lock(text, known=known) if text.strip() else {}
        after = lock.dump_lock({**before, **pins})
        lock.parse_lock(after, known=known)  # what can't be read back is not written
        files.write_atomic(path, after)
