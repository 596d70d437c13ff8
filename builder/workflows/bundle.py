"""The commands about bundles: create, verify, inspect, diff, repair, keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import __version__
from builder.core.bundle import contents, licences, manual
from builder.core.bundle import plan as planning
from builder.core.bundle.contents import Base, InventoryChange
from builder.core.bundle.image import platform
from builder.core.config.defaults import BAKED
from builder.core.config.types import Config
from builder.core.jobs.request import JobOptions
from builder.core.progress import Progress
from builder.core.terms import Purpose
from builder.errors import BakeError, IntegrityError, UsageError
from builder.program import command, shell_word
from builder.receiver.inventory import MANUAL, SIGNATURE
from builder.receiver.parts import Fault, faults_text
from builder.workflows import host
from builder.workflows.images import ImageSelection
from builder.workflows.session import Session, alternatives, fetch_missing, image_models

if TYPE_CHECKING:
    from builder.core.bundle.plan import BundlePlan
    from builder.core.progress import OnProgress
    from builder.core.weights.model import Model, Pin
    from builder.edges.bundle.acceptance import Acceptance
    from builder.edges.bundle.blobs import BundleSource
    from builder.edges.signing.keys import Signer


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What the command line asks of a bundle, as it was typed."""

    out: Path
    bases: tuple[Path, ...] = ()
    """Receivers' inventories, or earlier bundles: what all of them have is left out."""
    part_size: str = "4G"
    code_only: bool = False
    models_only: bool = False
    native: bool = False
    """Whether it carries what ``--mode native`` needs."""
    example: bool = True
    """Whether it carries the acceptance run."""
    key: Path | None = None
    """A private key to sign with; with ``sign_with`` the public one."""
    sign_with: str | None = None
    """A command that signs in place of a file."""
    voices: bool = False
    """Whether it carries the voices that this machine knows, for jobs of the loader."""

    @property
    def content(self) -> str:
        """What the bundle is to hold: of :mod:`builder.core.bundle.contents`."""
        return contents.MODELS if self.models_only else contents.CODE if self.code_only else contents.COMPLETE


@dataclass(frozen=True, kw_only=True)
class BundleCreated:
    """A bundle that was written, or was there already."""

    folder: Path
    up_to_date: bool
    """The folder held this very bundle: nothing was written but the signature."""
    key: Path | None
    """The key that signed it, as it was typed."""
    by_command: bool = False
    """A command signed it: ``key`` is the public one."""
    fingerprint: str
    """Hex sha256 of inventory.json."""
    inventory: Mapping[str, Any]

    @property
    def signed(self) -> bool:
        """Whether this command signed it."""
        return self.key is not None


@dataclass(frozen=True, kw_only=True)
class BundleVerified:
    """What a look at every byte of a bundle found."""

    folder: Path
    fingerprint: str
    faults: tuple[Fault, ...]
    """What is damaged or missing."""
    signed: bool
    """The signature was checked with a key."""
    parts: int

    @property
    def failure(self) -> BakeError | None:
        """The error of a damaged bundle."""
        if not self.faults:
            return None
        return IntegrityError(
            faults_text(self.faults),
            where=str(self.folder),
            hint=f"bundle repair {shell_word(self.folder)} --from ANOTHER-COPY",
        )


@dataclass(frozen=True, kw_only=True)
class BundleInspected:
    """An inventory: of a bundle, or of a receiver."""

    fingerprint: str
    """Hex sha256 of inventory.json."""
    inventory: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class BundleRepaired:
    """A bundle whose damaged files were replaced."""

    folder: Path
    replaced: tuple[str, ...]
    """Names of files."""


@dataclass(frozen=True, kw_only=True)
class KeysMade:
    """A new pair of keys."""

    private: Path
    public: Path


def create(session: Session, selection: ImageSelection, options: BundleOptions) -> BundleCreated:
    """Build the images that are missing, then write what the receiver lacks.

    Raises:
        UsageError: an option makes no sense, the key can't be used, or the folder holds something else.
        BuildError, MissingError, IntegrityError: see the building of images, and :func:`builder.edges.bundle.folder.create`.
    """
    from builder.edges.bundle import acceptance as accepting
    from builder.edges.bundle import blobs, origin, wheelhouse
    from builder.edges.bundle import folder as bundle
    from builder.workflows import images
    from builder.workflows.papers import commands as papers
    from builder.workflows.versions import commands as versions

    session = _baked(session)
    config, on_progress = session.config, session.on_progress
    part_size = planning.parse_size(options.part_size)
    bases = _bases(options.bases)
    signer = _signer(options)
    voices = _voices(config, selection, options)
    engine, rendered, built = images.ensure(session, selection)
    versions.require_models_of_plan(engine, rendered, built)
    packing = blobs.packing(config, on_progress)
    bundled = packing.images(rendered.plan.images)
    native = _native_models(config, selection, session.env, on_progress) if options.native else ()
    loose = packing.weights(native)
    models = tuple({model.id: (model, pin) for model, pin in [*rendered.plan.models, *native]}.values())
    example = None
    if options.example and not options.models_only:
        request = host.resolve(config, _example_options(config, selection))
        example = accepting.acceptance(config, request, rendered.plan, engine, on_progress)
        example = accepting.with_voices(example, voices)
    beside = _beside(config, options, models, example)
    if options.native and not options.models_only:
        beside |= wheelhouse.collect(config, session.env, on_progress)
    shown = () if options.models_only else bundled
    if any(one.state == "held" for one in built):
        on_progress(Progress(what="papers", note="none: images are held at an earlier version", finished=True))
    else:
        wheels = wheelhouse.wheels_of(beside)
        beside |= papers.of_bundle(config, packing.layout, rendered, shown, models=models, wheels=wheels)
    source = blobs.BundleSource(packing=packing, beside=beside)
    loader = bundle.loader()
    plan = planning.plan(
        bundled,
        extras=source.sizes(),
        licences=licences.licences(models),
        loader=loader,
        made_by=f"whisperbake {__version__}",
        platform=platform(bundled[0]),
        part_size=part_size,
        content=options.content,
        bases=bases,
        loose=loose,
        memory={} if options.models_only else accepting.stage_memory(config, rendered.plan),
        acceptance=example.paths if example else None,
        made=_made(config, native=options.native),
    )
    plan = planning.dated(plan, origin.created(plan.inventory, options.out, config.paths, session.env))
    return _written(options, plan, source, loader, signer, on_progress)


def _baked(session: Session) -> Session:
    """The session with images that carry their weights: a bundle has each layer once anyway, and its loader mounts none."""
    if session.config.defaults.weights == BAKED:
        return session
    session.on_progress(Progress(what="bundle", note="images carry their weights in a bundle", finished=True))
    defaults = replace(session.config.defaults, weights=BAKED)
    return replace(session, config=replace(session.config, defaults=defaults))


def _made(config: Config, *, native: bool) -> dict[str, str]:
    """From which code a bundle is made, and for which Python its wheels are."""
    from builder.edges.bundle import origin, wheelhouse

    commit = origin.commit(config.root)
    return {**({"commit": commit} if commit else {}), **({"python": wheelhouse.PYTHON} if native else {})}


def _bases(paths: Sequence[Path]) -> tuple[Base, ...]:
    """What each receiver has, as its inventory or an earlier bundle says."""
    from builder.edges.bundle import folder as bundle

    return tuple(contents.base_of(bundle.read_inventory(path)) for path in paths)


def _signer(options: BundleOptions) -> Signer | None:
    """Who signs, tried before anything is built. Raises BakeError: they can't (:meth:`Signer.sign`)."""
    from builder.edges.signing import command as signing

    if options.key is None:
        return None
    signer = signing.chosen(options.key, options.sign_with)
    signer.sign(b"whisperbake")
    return signer


def _native_models(
    config: Config, selection: ImageSelection, env: Mapping[str, str], on_progress: OnProgress
) -> tuple[tuple[Model, Pin], ...]:
    """The models of native runs, fetched: images carry a part of them, or none."""
    models = image_models(
        config,
        presets=selection.presets,
        models=selection.models,
        languages=selection.languages,
        diarization=selection.diarization,
    )
    fetch_missing(config, models, env=env, on_progress=on_progress)
    return models


def _example_options(config: Config, selection: ImageSelection) -> JobOptions:
    """How the example is run: alike on every machine, and not translated."""
    named = (alternatives(config, selection.models)[0] or "").split(",")
    purposes = {id_: model.purpose for id_, model in config.models.items()}
    return JobOptions(
        models=",".join(id_ for id_ in named if purposes.get(id_.strip()) is not Purpose.TRANSLATION) or None,
        diarization=selection.diarization,
        voices=False,  # whom this machine knows is nobody else's business
        threads=2,
        batch_size=4,
        device="cpu",
    )


def _voices(config: Config, selection: ImageSelection, options: BundleOptions) -> bytes:
    """The voices that the bundle carries; empty where none are asked for.

    Raises:
        UsageError: the bundle has nothing that would know them, or there are none.
    """
    if not options.voices:
        return b""
    if not options.example or options.models_only or not selection.diarization:
        raise UsageError(
            "nothing in this bundle would know a voice",
            where="--voices",
            hint="leave out --no-example, --models-only and --no-diarization",
        )
    request = host.resolve(config, replace(_example_options(config, selection), voices=True))
    if not request.voices:
        raise UsageError(
            request.warning or "no voice is known", where="--voices", hint=f"{command('voices list')} shows all"
        )
    return request.voices


def _beside(
    config: Config, options: BundleOptions, models: Sequence[tuple[Model, Pin]], example: Acceptance | None
) -> dict[str, bytes | Path]:
    """Path in the bundle -> file: licences and the acceptance run."""
    if options.models_only:
        return {}
    return {**_licence_files(config, models), **(example.files if example else {})}


def _licence_files(config: Config, models: Sequence[tuple[Model, Pin]]) -> dict[str, bytes | Path]:
    """The licences of the models, and this project's own."""
    licence_files: dict[str, bytes | Path] = {licences.MODELS_FILE: licences.licence_table(models).encode()}
    if (config.shipped / "LICENSE").is_file():
        licence_files[licences.PROJECT_FILE] = config.shipped / "LICENSE"
    return licence_files


def _written(
    options: BundleOptions,
    plan: BundlePlan,
    source: BundleSource,
    loader: bytes,
    signer: Signer | None,
    on_progress: OnProgress,
) -> BundleCreated:
    """Write the bundle, unless the folder holds it, and sign it."""
    from builder.edges.bundle import folder as bundle
    from builder.edges.bundle import signing
    from builder.edges.bundle.part_writer import PartSource

    text = manual.manual(plan.inventory)
    plan = planning.with_manual(plan, text)
    there = bundle.done(options.out, plan)
    if there is None:
        raw = bundle.create(
            options.out,
            plan,
            PartSource(open=source.open, checked=source.is_checked),
            texts={bundle.LOADER: loader, MANUAL: text},
            on_progress=on_progress,
        )
    else:
        raw = there
    if signer:  # what was written, not what somebody may have put there since
        signing.sign_file(signer, raw, options.out / SIGNATURE)
    fingerprint, inventory = bundle.parsed(raw, options.out)
    return BundleCreated(
        folder=options.out,
        up_to_date=there is not None,
        key=options.key,
        by_command=options.sign_with is not None,
        fingerprint=fingerprint,
        inventory=inventory,
    )


def verify(session: Session, folder: Path, *, key: Path | None) -> BundleVerified:
    """Read everything once.

    Args:
        key: a public key that the bundle has to be signed with.

    Raises:
        IntegrityError: the inventory can't be right, or is not signed with the key.
    """
    from builder.edges.bundle import folder as bundle
    from builder.edges.bundle import signing

    opened = bundle.open_bundle(folder)
    if key:
        signing.verify_file(key, opened.raw, folder / SIGNATURE)
    faults = bundle.faults(opened, session.on_progress)
    return BundleVerified(
        folder=folder,
        fingerprint=opened.fingerprint,
        faults=tuple(faults),
        signed=key is not None,
        parts=len(opened.inventory["parts"]),
    )


def inspect(path: Path) -> BundleInspected:
    """What is in a bundle, or on a receiver. Reads only the inventory.

    Raises:
        IntegrityError: the inventory can't be right.
    """
    from builder.edges.bundle import folder as bundle

    fingerprint, inventory = bundle.read_with_fingerprint(path)
    return BundleInspected(fingerprint=fingerprint, inventory=inventory)


def diff(first: Path, second: Path) -> InventoryChange:
    """What the second bundle or receiver has that the first hasn't.

    Raises:
        IntegrityError: an inventory can't be right.
    """
    from builder.edges.bundle import folder as bundle

    return contents.compare(bundle.read_inventory(first), bundle.read_inventory(second))


def repair(session: Session, folder: Path, source: Path) -> BundleRepaired:
    """Copy damaged or missing files from another copy of the bundle.

    Raises:
        UsageError: both are the same folder.
        IntegrityError, MissingError: see :func:`builder.edges.bundle.folder.repair`.
    """
    from builder.edges.bundle import folder as bundle

    if folder.resolve() == source.resolve():
        raise UsageError("a bundle can't be repaired from itself", where=str(source))
    return BundleRepaired(folder=folder, replaced=tuple(bundle.repair(folder, source, session.on_progress)))


def keys(private: Path) -> KeysMade:
    """A new pair for bundles, images and models (:mod:`builder.edges.signing.keys`).

    Raises:
        UsageError: one of the files exists, or the name is not a file's.
    """
    from builder.edges.bundle import signing

    if not private.name or private.is_dir():
        raise UsageError("this is not a file's name", where=str(private), hint="bundle keys FILE")
    public = private.with_name(f"{private.name}.pub.pem")
    signing.make_keys(private, public)
    return KeysMade(private=private, public=public)
