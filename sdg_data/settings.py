"""Settings: a profile (or a config file) plus the folder where everything lives.

Where a value comes from, the first that is given: the command line (`--home`, `--config`), the environment (`SDG_HOME`,
`PROFILE`), the profile's own default. The built-in profiles `mini` and `sdg30k` are files in configs/; a config file of
one's own has the same form, and may start from a built-in one with `extends = "mini"`.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.records import Split
from sdg_data.errors import ConfigError

DEFAULT_PROFILE = "mini"
DEFAULT_HOME = "data"

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptSettings(_Section):
    """`test_share`: the fraction of prompts that go to the test split."""

    test_share: Share = 0.04


class GenerateSettings(_Section):
    """Which presets run over the prompts. `batch_size` None: what the preset says."""

    models: tuple[str, ...] = ()
    samples_per_prompt: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] | None = None
    device: str = "auto"


class VlmSettings(_Section):
    """The model that is asked about images, and how it is asked (docs/prelabel.md)."""

    backend: str = "mini"
    """mini or transformers (in this process), openai (any compatible server); for enrichment also template."""
    model: str = ""
    """A hub repository, a folder, or the server's name for it."""
    revision: str = ""
    """The state of the weights; answers are filed under it."""
    template: str = ""
    """The question: the name of one of ours or a file; empty: what the model was trained with."""
    codec: str = ""
    """How the model writes boxes: qwen3-vl, qwen2.5-vl or gemini; empty: told by the model's name."""
    base_url: str = ""
    """The server's address; several servers of one model as a list, or with spaces between."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that the key is read from; it is kept nowhere."""
    server: str = ""
    """The kind of server (`annotate.vlm.servers`); empty: told by the address."""
    reasoning: str = ""
    """The effort of a model that thinks, sent as it stands."""
    thinking_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens of room for thoughts beside `max_tokens`; none: what the kind of server wants."""
    extra: dict[str, Any] = {}
    """Further fields of each request's body."""
    send_images: Literal["inline", "file"] = "inline"
    """inline, or file: the file:// address of the blob, for a server on this machine."""
    image_format: Literal["", "jpeg", "webp"] = ""
    """Empty: images are sent as they are; jpeg and webp are smaller, and another question."""
    image_quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of jpeg and webp."""
    structured: bool = False
    """Hold the model to a JSON Schema, where the server can."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Of sampling; 0: the likeliest token."""
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    """Tokens of an answer at most."""
    max_side: Annotated[int, Field(ge=32)] = 1024
    """Pixels; larger images are sent smaller."""
    concurrency: Annotated[int, Field(ge=1)] = 48
    """Questions under way at once: half again a server's slots."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Questions a call, for a model in this process."""
    deadline: Annotated[float, Field(gt=0)] = 300.0
    """Seconds for one answer with its retries."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …, for a model in this process."""
    price_in: Annotated[float, Field(ge=0)] | None = None
    """US dollars per million tokens that are sent; none: no cost is known."""
    price_out: Annotated[float, Field(ge=0)] | None = None
    """US dollars per million tokens that come back; none: no cost is known."""

    @field_validator("base_url", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """A list of addresses as one text."""
        return " ".join(value) if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value) else value


class RoutingSettings(_Section):
    """Which images go to people, and how (docs/annotate-review.md)."""

    share: Share = 1.0
    """Share of the images that goes to people."""
    shares: dict[str, dict[Split, Share]] = {}
    """The share of a model (`*`: every model) and split, where it is another."""
    clean_share: Share = 1.0
    """Factor of `share` for the images that the detector calls clean."""
    blind_share: Share = 0.1
    """Share of all that is worked on without prelabels."""
    overlap: Annotated[int, Field(ge=1)] = 2
    """How many people see an image of `overlap_shares` independently; one sees the others."""
    overlap_shares: dict[Split, Share] = {Split.TRAIN: 0.1, Split.TEST: 1.0}
    """Share of each split that several people see."""
    uncertainty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Weight of the detector's doubts in the order of tasks."""
    disagreement: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Weight of the differences between detectors in the order of tasks."""
    without_prelabel: bool = True
    """Whether images without a prelabel go to people too."""
    annotated_elsewhere: bool = False
    """Whether images with annotations that were imported go to people too."""


class ReviewSettings(_Section):
    """When several people's versions of an image agree, so that one can stand for all (docs/annotate-review.md).

    Boxes match from `agree_iou` on, within their types; versions agree from an F1 of `agree_f1` on. Else the image goes
    to adjudication.
    """

    agree_iou: Share = 0.5
    agree_f1: Share = 0.6


class KnownAnswerSettings(_Section):
    """Tasks whose answer is known, to measure people's work by (docs/known-answers.md).

    `share` of the tasks that go to people are known-answer items, as long as there are some
    (`sdg annotate known-answers plan`). `accuracy`: the share of right decisions that a person's answers must reach.
    `own_eyes`: the same where the machine did not give the right answer away: of the prelabels' faults the share that
    they must mend. `alpha`: how sure an alarm is; smaller is surer.
    """

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    accuracy: Annotated[float, Field(gt=0, lt=1)] = 0.75
    own_eyes: Annotated[float, Field(gt=0, lt=1)] = 0.7
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.02


class AnnotateSettings(_Section):
    """The Label Studio where people work, and what they see there (docs/annotate.md).

    LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY name a server that runs already; without them it is the project's own, in
    the folder `venv`, on loopback. `database` "": what it was started on last, at first SQLite; else `sqlite` or
    postgresql://user@host:port/name, with the password in LABEL_STUDIO_DB_PASSWORD. `public_url`: the address of the
    proxy by which people reach it; "": they work on this machine.
    `image_url` "": the server serves the files itself; `presigned`: signed addresses of blobs on S3, which open them
    for `image_hours` (S3 allows 168); else a URL with {blob}, {extension}.
    `prelabels_of`: the model whose prelabels are shown; "": the last one of each image. `scores`: ask for four scores
    of the whole image too. `batch_size`: tasks a request. `poll_seconds`: how often `watch` looks without a hint.
    `overlap_minutes`: how far behind its last look each pull looks again, for clocks that differ and late commits.
    `patience`: seconds to wait for a server that does not answer before giving up. `anonymous`: people are called by
    pseudonyms wherever others read of them.
    """

    project: Annotated[str, Field(min_length=1, max_length=40)] = "SDG"
    port: Annotated[int, Field(ge=1, le=65535)] = 8085
    venv: str = ".venv-labelstudio"
    database: str = ""
    public_url: str = ""
    image_url: str = ""
    image_hours: Annotated[float, Field(ge=0.1, le=168)] = 168.0
    prelabels_of: str = ""
    scores: bool = False
    batch_size: Annotated[int, Field(ge=1, le=2000)] = 500
    poll_seconds: Annotated[float, Field(gt=0)] = 15.0
    overlap_minutes: Annotated[float, Field(ge=0)] = 10.0
    webhook_port: Annotated[int, Field(ge=1, le=65535)] = 8086
    patience: Annotated[float, Field(ge=0)] = 120.0
    anonymous: bool = False
    routing: RoutingSettings = RoutingSettings()
    review: ReviewSettings = ReviewSettings()
    known_answers: KnownAnswerSettings = KnownAnswerSettings()


class StorageSettings(_Section):
    """`blobs`: any URL that fsspec knows; None: the folder `blobs` of the home."""

    blobs: str | None = None


class WorkSettings(_Section):
    """Who computes: this process, several of this machine, or a Ray cluster (docs/cluster.md).

    `workers` auto: with `local` a process for each GPU, and this process alone where there is one or none; with `ray`
    as many as the cluster has room for, those that join later included. `gpus_per_worker` None: 1 where there are
    GPUs. `address` "": RAY_ADDRESS, else a Ray that is started on this machine for the length of the command.
    """

    executor: Literal["local", "ray"] = "local"
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    address: str = ""


class Settings(_Section):
    """Everything a command is told.

    `models` and `editors` hold preset overrides and custom presets, checked by `generators`; `refine` is checked by
    `trainers.refinement`.
    """

    profile: str
    home: Path
    prompts: PromptSettings = PromptSettings()
    generate: GenerateSettings = GenerateSettings()
    storage: StorageSettings = StorageSettings()
    work: WorkSettings = WorkSettings()
    prelabel: VlmSettings = VlmSettings()
    enrich: VlmSettings = VlmSettings(backend="template")
    annotate: AnnotateSettings = AnnotateSettings()
    models: dict[str, dict[str, Any]] = {}
    editors: dict[str, dict[str, Any]] = {}
    refine: dict[str, Any] = {}

    @property
    def blob_url(self) -> str:
        """The folder or URL of the blobs, as fsspec takes it; a folder of the home where none is set."""
        return self.storage.blobs or str(self.home / "blobs")


def profiles() -> dict[str, Path]:
    """The files of the built-in profiles, by name."""
    return {path.stem: path for path in sorted(_configs_folder().glob("*.toml"))}


def load_settings(
    *, home: Path | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings for one command.

    Args:
        home: The home; None: `SDG_HOME`, else the default.
        config: A file of settings; None: the profile that `PROFILE` names, else the default one.
        environ: The environment; None: that of the process.

    Returns:
        The settings.

    Raises:
        ConfigError: The file is missing or wrong; the message names the file and the key.
    """
    environ = os.environ if environ is None else environ
    path = config or _profile_path(environ.get("PROFILE") or DEFAULT_PROFILE)
    values = _read(path)
    chosen_home = home or Path(environ.get("SDG_HOME") or DEFAULT_HOME)
    try:
        return Settings(profile=path.stem, home=chosen_home.expanduser().absolute(), **values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(
            "; ".join(lines), item=str(path), hint="The keys are described in docs/configuration.md."
        ) from error


def _profile_path(name: str) -> Path:
    known = profiles()
    if name not in known:
        raise ConfigError(
            f"there is no profile {name!r}",
            hint=f"PROFILE is one of {', '.join(known)}; for a file of your own use --config FILE.",
        )
    return known[name]


def _configs_folder() -> Path:
    """Inside the package in a wheel, beside it in a checkout."""
    return packaged_or_checkout(Path(__file__).parent / "configs", "configs")


def packaged_or_checkout(packaged: Path, name: str) -> Path:
    """The folder of files that a wheel carries inside a package and a checkout beside the packages.

    Args:
        packaged: Where the wheel puts it.
        name: The folder's name in a checkout.

    Returns:
        `packaged` where it exists, else the folder `name` beside the packages.
    """
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / name


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file ({error.strerror})", item=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file: {error}", item=str(path)) from error
    for reserved in ("home", "profile"):
        if reserved in values:
            raise ConfigError(
                f"{reserved!r} is no key of a config file", item=str(path), hint="Use --home or SDG_HOME."
            )
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError("extends names a built-in profile", item=str(path))
    return _merged(_read(_profile_path(base)), values)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: tables key by key, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
