"""Where a job runs: the native environment, containers, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core import glossary, translation
from builder.core.config.defaults import MOUNTED
from builder.core.config.types import Config
from builder.core.images import versions as known
from builder.core.jobs import compose, request, sandbox
from builder.core.jobs.compose import ComposeFile, Machine, StageImage
from builder.core.jobs.job import Job, JobStage
from builder.core.jobs.request import JobOptions, Request
from builder.core.jobs.sandbox import ContainerLimits
from builder.core.machine import Hardware
from builder.core.metadata import about
from builder.core.progress import Progress
from builder.core.terms import Mode
from builder.core.translation import Pair
from builder.core.voices import cast
from builder.core.weights.model import PinnedModel, model_digest
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import stage_images
from builder.edges.jobs.preflight import Containers
from builder.edges.jobs.stage_images import MediaImages, StageImages
from builder.edges.machine import environment as native
from builder.edges.machine import terms
from builder.edges.system import files
from builder.errors import ConfigError, MissingError
from builder.program import command
from builder.workflows.session import Session, chosen_models, hardware_of, native_python, pythons_apart

if TYPE_CHECKING:
    from builder.edges.jobs.prepare import Media
    from builder.edges.jobs.runner import Host
    from builder.edges.system.shell import Done


@dataclass(frozen=True, kw_only=True)
class JobHost:
    """Where the stages of jobs run."""

    stages: Callable[[Job, int], Host]
    """The runner's host, from a job and the index of the GPU that it is given."""
    media: Media
    python: Path | None
    """The native environment's, where some stage runs in it."""
    apart: Mapping[str, Path] = field(default_factory=dict)
    """Those of stages that have an environment of their own."""
    compose_file: Callable[[Job, int], ComposeFile | None] = lambda job, gpu: None
    """The job's compose file, from the job and the index of its GPU; None where no engine has images of all stages."""
    containers: Containers | None = None
    """Engine and images, where all stages run in containers."""
    media_each: Callable[[Sequence[Path]], list[Done]] | None = None
    """Probes many recordings by one process; None: each has a container of its own."""
    carried: frozenset[str] = frozenset()
    """Digests of models that containers have without this machine's store."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Stage -> id of its image, where all stages run in containers."""
    memory: int = 0
    """Bytes that the engine has, where all stages run in containers."""
    note: str = ""
    """What a person is told of it when a job is done."""
    warning: str = ""
    """What a person is told of it before a job begins."""

    def of_store(self, models: Sequence[PinnedModel]) -> list[PinnedModel]:
        """The models that this machine's store has to have."""
        return [(model, pin) for model, pin in models if model_digest(pin) not in self.carried]


def resolve(config: Config, options: JobOptions) -> Request:
    """What a job is asked to do, by options, configuration and this machine.

    Raises:
        UsageError, MissingError: see :func:`builder.core.jobs.request.resolve`.
        UsageError: ``--metadata`` says something else than it takes.
        ConfigError: the glossary is none, with its line.
    """
    about.chosen(options.metadata)
    hardware, advice = hardware_of(config)
    chosen = partial(
        chosen_models,
        config,
        models=options.models,
        diarization=options.diarization,
        separation=request.separation(options, config),
    )
    models = chosen(tagging=False)
    if request.tagging(options, config, models):
        models = chosen(tagging=True)
    pairs: tuple[Pair, ...] = ()
    if options.to is not None:
        from builder.workflows.pairs import commands as translators

        models = translators.with_model(config, models, translation.targets(options.to))
        pairs = translators.here(config, models)
    resolved = request.resolve(options, config=config, hardware=hardware, advice=advice, models=models, pairs=pairs)
    if translation.STAGE in resolved.settings:
        from builder.edges.jobs.correct import endpoint

        endpoint.endpoint(resolved.settings[translation.STAGE])  # a bad one is told of before a job is made
    if options.cast is not None:
        listed = terms.read(options.cast, where="--cast")
        resolved = cast.with_cast(resolved, [term.text for term in listed])
    if options.voices and resolved.diarization and config.paths.voices.is_dir():
        from builder.core.voices import known
        from builder.edges.machine import voices

        resolved = known.with_voices(resolved, voices.read(config.paths.voices).voices)
    if options.glossary == glossary.NONE:
        return resolved
    found = terms.find(options.glossary, config.root)
    return glossary.with_glossary(resolved, found.terms, warning=found.note)


def informant(session: Session, options: JobOptions, media: Media) -> Callable[[Request, Sequence[Path]], Request]:
    """What adds to the request of one job what is known of its recordings; see :mod:`builder.edges.metadata.informed`."""
    from builder.edges.jobs import prepare
    from builder.edges.metadata import informed

    return informed.informant(
        session.config,
        options,
        look=partial(prepare.look, media),
        env=session.env,
        on_progress=session.on_progress,
    )


def require_gpu(config: Config, env: Mapping[str, str], *, hint: str = "") -> None:
    """Refuse what wants a GPU where there is none for it: before an image of 2 GB is built.

    Args:
        hint: what to type where the machine has no GPU; by default a job's way out.

    Raises:
        MissingError: this machine has no GPU, or its engine no way to it.
    """
    hardware, _ = hardware_of(config)
    if not hardware.gpus:
        gpu_images = config.defaults.mode is Mode.DOCKER_GPU
        raise request.no_gpu(config.defaults.mode, where="--mode" if gpu_images else "--device", hint=hint)
    if config.defaults.mode is Mode.DOCKER_GPU:
        from builder.edges.engine import connection as engines
        from builder.edges.engine import needs

        engine = engines.address(env)
        if engines.why_not(engine) is None:  # without one the images' step says so
            needs.gpu(engines.info(engine), config.defaults.gpu_driver)


def choose(session: Session, *, stages: Iterable[str] = (), gpu: bool = False, build: bool = True) -> JobHost:
    """The host that the configured mode asks for.

    Args:
        stages: what jobs run, for images that aren't built with all others, and native environments of single stages.
        gpu: a stage wants a GPU.
        build: build images that are missing or not up to date; else they are an error.

    Raises:
        MissingError: see :func:`require_gpu`, or images are missing and are not to be built.
    """
    asked = frozenset(stages)
    config, env = with_extras(session.config, asked), session.env
    if gpu:
        require_gpu(config, env)
    if config.defaults.mode is Mode.NATIVE:
        python = native_python(config, cuda=gpu, env=env, on_progress=session.on_progress)
        apart = pythons_apart(config, asked, env=env, on_progress=session.on_progress)
        return _native(config, env, python=python, apart=apart, hardware=hardware_of(config)[0])
    hardware, _ = hardware_of(config)
    images = stage_images_here(
        replace(session, config=config), build=build, mounting=config.defaults.weights == MOUNTED
    )
    return _containers(config, env, images=images, hardware=hardware)


def with_extras(config: Config, stages: Iterable[str]) -> Config:
    """The configuration in which the images of some stages are built with all others."""
    asked = set(stages)
    named = [
        n for n, spec in config.images.items() if spec.extra and (n in config.defaults.extras or spec.stage in asked)
    ]
    return replace(config, defaults=replace(config.defaults, extras=tuple(named)))


def _native(
    config: Config, env: Mapping[str, str], *, python: Path, apart: Mapping[str, Path], hardware: Hardware
) -> JobHost:
    """Processes of this machine; media files in containers where an engine has images of today's code."""
    from builder.edges.jobs.hosts import media as containers
    from builder.edges.jobs.hosts.native import Native

    def processes(job: Job, gpu: int) -> Native:
        folder = jobs.folder(config, job)
        return Native(
            stages=config.shipped / "stages",
            models=config.paths.models,
            folder=folder,
            python=python,
            env=env,
            apart=apart,
        )

    media = stage_images.media_images(config, env)
    if not isinstance(media, MediaImages):
        return JobHost(
            stages=processes,
            media=native.media(config, python, env),
            media_each=native.media_each(config, python, env),
            python=python,
            apart=apart,
            note="media were read in the native environment, not in containers",
            warning=stage_images.unisolated(config, media),
        )
    stage_images.note_isolated(config)

    sizes = {id_: pin.size for id_, pin in config.pins.items()}

    def mixed(job: Job, gpu: int) -> Host:
        def limits(stage: JobStage) -> ContainerLimits:
            spec = config.stages.get(stage.name)
            memory = compose.limit(job, stage, spec=spec, sizes=sizes, machine=hardware.memory)
            return ContainerLimits(memory=memory, cpus=hardware.threads)

        folder, host = jobs.folder(config, job), media.engine
        return containers.Media(
            processes(job, gpu), host=host, images=media.ids, folder=folder, limits=limits, file=file(job, gpu)
        )

    def file(job: Job, gpu: int) -> ComposeFile | None:
        images = stage_images.of_native_job(config, media.engine, job)
        return _compose_file(config, images, hardware, job, gpu) if images else None

    limits = ContainerLimits(memory=sandbox.look_memory(hardware.memory), cpus=hardware.threads)
    return JobHost(
        stages=mixed,
        media=containers.media(media.engine, media.ids["demux"], limits),
        python=python,
        apart=apart,
        compose_file=file,
        note="media were read in containers without network",
    )


def _containers(config: Config, env: Mapping[str, str], *, images: StageImages, hardware: Hardware) -> JobHost:
    """Every stage in a container of its own."""
    from builder.edges.jobs.hosts import media as containers

    if not images.engine.startswith("unix:"):
        raise MissingError("jobs need an engine on this machine: it reads the job's folder", where=images.engine)
    machine = container_machine(config, images, hardware)

    def file(job: Job, gpu: int) -> ComposeFile:
        return _compose_file(config, images, hardware, job, gpu)

    def project(job: Job, gpu: int) -> Host:
        from builder.edges.jobs.hosts.compose import Project

        return Project(job=job.id, folder=jobs.folder(config, job), file=file(job, gpu), env=env)

    limits = ContainerLimits(memory=sandbox.look_memory(machine.memory), cpus=machine.threads)
    mounted = images.weights.models if images.weights is not None else ()
    return JobHost(
        stages=project,
        media=containers.media(images.engine, images.images["demux"].id, limits),
        python=None,
        compose_file=file,
        containers=Containers(
            engine=images.engine,
            images=sorted(i.id for i in images.images.values()),
            models={stage: frozenset({*image.models, *mounted}) for stage, image in images.images.items()},
        ),
        carried=frozenset({*mounted, *(digest for image in images.images.values() for digest in image.models)}),
        images={stage: image.id for stage, image in images.images.items()},
        memory=machine.memory,
        note="every stage ran in a container without network",
    )


def container_machine(config: Config, images: StageImages, hardware: Hardware) -> Machine:
    """What containers are given of this machine and of the engine."""
    from builder.edges.jobs.hosts import media as containers

    return Machine(
        threads=min(hardware.threads, images.cpus),
        memory=min(hardware.memory, images.memory or hardware.memory),
        user=containers.user(),
        gpu_driver=config.defaults.gpu_driver,
    )


def _compose_file(config: Config, images: StageImages, hardware: Hardware, job: Job, gpu: int) -> ComposeFile:
    """A job's compose file.

    Args:
        gpu: index of the GPU that the job is given.
    """
    template = config.shipped / "compose" / compose.TEMPLATE
    if not template.is_file():
        raise ConfigError("no template", where=str(template))
    machine = replace(container_machine(config, images, hardware), gpu=gpu)
    sizes = {id_: pin.size for id_, pin in config.pins.items()}
    weights = images.weights
    services = compose.services(job, images.images, machine=machine, specs=config.stages, sizes=sizes, weights=weights)
    models = str(config.paths.models.resolve())
    source = template.read_text(encoding="utf-8")
    text = compose.render(source, job, services, machine=machine, models=models, weights=weights)
    names = {service.image: f"{config.defaults.registry}/{service.name}" for service in services}
    if weights is not None and any(compose.WEIGHTS in service.mounts for service in services):
        names[weights.id] = f"{config.defaults.registry}/{compose.WEIGHTS}"
    return ComposeFile(text=text, engine=images.engine, images=names)


def stage_images_here(session: Session, *, build: bool, mounting: bool = False) -> StageImages:
    """The images of all stages: as they were recorded, else as the engine has them, built if need be.

    Args:
        mounting: containers of this engine are to mount the weights image, which it gets then.

    Raises:
        MissingError: the engine can't mount an image.
        MissingError: some are missing or not up to date, and are not to be built.
    """
    from builder.edges.engine import connection as engines
    from builder.edges.engine import needs
    from builder.edges.images.installed import tagged
    from builder.edges.images.past import versions
    from builder.workflows import images

    config = session.config
    _tell_of_holds(session)
    chosen = [model for model, _ in chosen_models(config, to_fetch=True).values()]
    models = [model.id for model in chosen]
    recorded = stage_images.recorded(config, models, session.env)
    if recorded is not None and (recorded.weights is not None or not mounting):
        return recorded
    if mounting:
        host = engines.address(session.env)
        if engines.why_not(host) is None:  # without one the next step says so
            needs.image_mounts(engines.info(host), host)
    if build:
        engine, rendered, _ = images.ensure(session, keeping=True)
    else:
        engine = engines.connect(session.env, builds=False)
        rendered = images.rendered(session, engine=engine)
    installed = {image.tag: image for image in images.here(session, engine, keeping=True)}
    tags = {image.stage: image.tag for image in rendered.plan.images if image.stage}
    held = versions.held(config, engine)
    versions.require_fit(config, tagged(config, engine), {t: held[t] for t in tags.values() if t in held}, chosen)
    lacking = [t for t in tags.values() if t not in installed or not (installed[t].up_to_date or t in held)]
    if lacking:
        names = [i.name for i in rendered.plan.images if i.tag in lacking]
        if not any(config.images[name].extra for name in names):
            names = []  # without names, those that are built everywhere are
        weights = ["--weights", MOUNTED] if config.defaults.weights == MOUNTED else []
        raise MissingError(
            f"not built, or not of this code: {', '.join(lacking)}",
            hint=command(" ".join(["build", *names, "--mode", config.defaults.mode.value, *weights])),
        )
    baked = {
        stage: StageImage(id=installed[tag].id, models=tuple(sorted(installed[tag].baked.values())))
        for stage, tag in tags.items()
    }
    ready = StageImages(engine=engine.host, images=baked, tags=tags, cpus=engine.cpus, memory=engine.memory)
    if mounting:
        tag, id_, digests = images.weights_here(session, engine, build=build)
        ready = replace(ready, weights=StageImage(id=id_, models=digests), weights_tag=tag)
    stage_images.record(config, models, ready)
    return ready


def _tell_of_holds(session: Session) -> None:
    """Say that images are held: they aren't of today's code, and nobody should wonder why."""
    defaults = session.config.defaults
    hold = known.parsed(files.read_object(session.config.paths.versions)).hold(
        defaults.mode.value, defaults.variant.value
    )
    if hold is not None and not hold.moving:
        release = command(f"rollback {known.options(hold.mode, hold.variant)} --release")
        note = f"held at {hold.name} since {hold.at[:10]}, whatever has changed; {release} ends that"
        session.on_progress(Progress(what="images", note=note, finished=True))
