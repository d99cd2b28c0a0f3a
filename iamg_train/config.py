"""What a training run is told, in TOML and by flags: every key, its type, its limits and its default."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from iamg.scenarios import load_scenarios
from iamg_train.config_problems import EXPECTED, Problems

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[
    tuple[Weight, Weight], BeforeValidator(lambda value: tuple(value) if type(value) is list else value)
]


class Section(BaseModel):
    """One table of the TOML: its fields are the keys, their descriptions are what --help and the docs say."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Section):
    items: Path = Field(description="the folder of items: pictures with metadata.jsonl, .csv or .parquet")
    interactions: Path = Field(
        None, description="CSV with user_id, item_id, rating, timestamp (left out: interactions.csv in items)"
    )
    pool: Path = Field(description="the embedding pool of these items, made by `iamg-train pool build`")
    prepared: Path = Field(Path("prepared"), description="where the training entries are written")
    cache: Path = Field(Path("cache"), description="where what the encoders compute is kept; runs may share it")
    scenario: str = Field("movie poster", description="what kind of items these are: the words of T*'s sentence")
    history_length: Count = Field(5, description="k: liked items before the objective; users with fewer are left out")
    min_rating: float = Field(4.0, description="from which rating on an item counts as liked; without one it does")
    interest_tags: Count = Field(8, description="H: the history's most frequent tags, which T* names")
    top_k: Count = Field(5, description="K: texts and pictures retrieved for each entry")
    max_entries: Count = Field(1500, description="at most so many entries, one a user, training and test together")
    test_fraction: float = Field(
        0.1, ge=0, lt=1, description="the share of users, and of items, held out of training by the hash of their id"
    )
    leave_one_out: bool = Field(True, description="never retrieve the objective itself (off: the paper's reading)")
    near_duplicate: float = Field(
        0.985, gt=0, le=1, description="from which cosine on a picture counts as the objective's own and is left out"
    )
    foreground: Literal["none", "rembg", "masks"] = Field(
        "none", description="the picture condition: the whole picture, rembg's foreground, or that of your masks"
    )
    masks: Path | None = Field(None, description='with foreground = "masks": a folder of ITEM_ID.png, white is kept')
    cache_dtype: Literal["float16", "float32"] = Field("float16", description="how cached numbers are stored")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.foreground == "masks" and self.masks is None:
            raise ValueError('foreground is "masks", so masks is needed: the folder they lie in')
        if self.scenario not in (known := load_scenarios()):
            raise ValueError(f'scenario is "{self.scenario}", expected one of: {", ".join(known)}')
        return self


class Model(Section):
    checkpoint: Path = Field(description="an SD1.5 checkpoint: U-Net, VAE and text encoder in one file")
    clip_vision: Path = Field(description="the CLIP Vision file that the IP-Adapter was trained with")
    ip_adapter: Path = Field(description="what training starts from: a stock IP-Adapter, or one exported here")


class Method(Section):
    image_weight: Weight = Field(1.0, description="the weight of the picture's attention")
    text_weight: Weight = Field(1.0, description="λ1: the weight of the text's attention")
    interest_weight: Weight | Interval = Field(
        0.2,
        description="λ2: the weight of the interest's attention; [low, high] draws it anew for each sample",
        json_schema_extra={EXPECTED: "a number of 0 or more, or two as [low, high]"},
    )
    query: Literal["tokens", "pooled"] = Field(
        "tokens", description="what asks in IRA: all 77 rows of T*, or its end token's row"
    )
    heads: Count = Field(4, description="IRA's attention heads; they divide the text encoder's width")

    @property
    def drawn_interest_weight(self) -> float:
        """λ2 for drawing: the middle of a range."""
        weight = self.interest_weight
        return sum(weight) / 2 if isinstance(weight, tuple) else weight

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.interest_weight, tuple) and self.interest_weight[0] > self.interest_weight[1]:
            low, high = self.interest_weight
            raise ValueError(f"interest_weight is [{low:g}, {high:g}], expected the lower number first")
        return self


class Drop(Section):
    joint: Share = Field(0.05, description="how often text, picture and interest are dropped together")
    text: Share = Field(0.0, description="how often the text alone is dropped")
    image: Share = Field(0.0, description="how often the picture alone is dropped")
    interest: Share = Field(0.0, description="how often the interest alone is dropped")

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.joint + self.text + self.image + self.interest
        if total > 1:
            raise ValueError(f"joint + text + image + interest is {total:g}, expected at most 1")
        return self


class Train(Section):
    resolution: int = Field(512, ge=8, multiple_of=8, description="pixels a side, after resizing and a centre crop")
    steps: Count = Field(2000, description="optimizer steps")
    batch_size: Count = Field(16, description="pictures a process and forward pass")
    accumulation: Count = Field(1, description="forward passes an optimizer step")
    learning_rate: float = Field(1e-4, gt=0, description="the learning rate after warm-up")
    weight_decay: Weight = Field(0.01, description="AdamW's weight decay")
    optimizer: Literal["adamw", "adamw8bit"] = Field(
        "adamw", description="adamw8bit keeps its state in a quarter of the memory and needs bitsandbytes"
    )
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"] = (
        Field("constant", description="how the learning rate goes on after warm-up")
    )
    warmup_steps: CountOrNone = Field(0, description="steps over which the learning rate rises from 0")
    gradient_checkpointing: bool = Field(False, description="compute activations twice: less memory, slower steps")
    min_snr_gamma: Weight = Field(0.0, description="Min-SNR's γ, usually 5, weighs the loss by timestep; 0: off")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="keep an exponential moving average of the weights, such as 0.999; 0: off"
    )
    compile: bool = Field(False, description="torch.compile the U-Net: a slow first step, faster ones after it")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="what the frozen parts compute in; auto: bf16 or fp16 on a GPU, fp32 on the CPU"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the order of entries, noise, timesteps and dropping")
    workers: CountOrNone = Field(0, description="processes that read the cache; 0: the training process itself")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it runs; one GPU of several: set CUDA_VISIBLE_DEVICES"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, expected at most steps, which is {self.steps}")
        return self


class Watch(Section):
    log_every: Count = Field(10, description="steps between two lines of the log")
    loggers: list[Literal["csv", "tensorboard", "wandb"]] = Field(["csv"], description="where losses are logged")
    validate_every: CountOrNone = Field(250, description="steps between two held-out losses; 0: never")
    validate_samples: Count = Field(64, description="at most so many held-out entries in that loss")
    sample_every: CountOrNone = Field(500, description="steps between two grids of pictures; 0: never")
    sample_users: Count = Field(4, description="held-out users in a grid, a row each")
    sample_steps: Count = Field(20, description="DDIM steps a picture of the grid")
    checkpoint_every: CountOrNone = Field(500, description="steps between two checkpoints; 0: only at the end")
    keep_checkpoints: Count = Field(3, description="the newest so many checkpoints are kept")


class Run(Section):
    out: Path = Field(Path("runs/iamg"), description="the run's folder: settings, log, checkpoints, grids, summary")


class Config(Section):
    """A whole run. `load_config` makes one; its paths are then absolute."""

    preset: Literal["paper", "robust"] = Field(
        "paper", description="what lies under your values: paper is the defaults, robust drops more and varies λ2"
    )
    data: Data
    model: Model
    method: Method
    drop: Drop
    train: Train
    watch: Watch
    run: Run

    def to_toml(self) -> str:
        """The resolved settings: `load_config` reads them back as the same Config, from any folder."""
        return tomli_w.dumps(_plain(self))

    def identity(self) -> dict[str, Any]:
        """The part, by "section.key" and JSON-able, that must stay as it is for a run to be resumed."""
        return {
            f"{section}.{key}": value
            for section, table in _plain(self).items()
            if section in SECTIONS and section != "watch"
            for key, value in table.items()
            if f"{section}.{key}" not in MAY_CHANGE
        }

    def require_files(self) -> None:
        """FileNotFoundError naming every file and folder that the run reads and that is not there, one a line."""
        files = {
            "data.interactions": self.data.interactions,
            "model.checkpoint": self.model.checkpoint,
            "model.clip_vision": self.model.clip_vision,
            "model.ip_adapter": self.model.ip_adapter,
        }
        folders = {"data.items": self.data.items, "data.pool": self.data.pool}
        if self.data.foreground == "masks":
            folders["data.masks"] = self.data.masks
        lacking = [f"{key}: there is no file {path}" for key, path in files.items() if not path.is_file()]
        lacking += [f"{key}: there is no folder {path}" for key, path in folders.items() if not path.is_dir()]
        if lacking:
            raise FileNotFoundError("\n".join(lacking))


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation for name, field in Config.model_fields.items() if name != "preset"
}
MAY_CHANGE = {
    "data.prepared",
    "data.cache",
    "run.out",
    "train.steps",
    "train.workers",
    "train.device",
    "train.compile",
    "train.gradient_checkpointing",
}
PRESETS = {
    "paper": {},
    "robust": {
        "drop": {"text": 0.05, "image": 0.05, "interest": 0.05},
        "method": {"interest_weight": [0.0, 0.4]},
    },
}


def load_config(path: Path | None, overrides: dict[str, object] | None = None) -> Config:
    """The settings of a TOML file, over its preset and under `overrides` (by key: names are unique over sections).

    Relative paths are relative to the file's folder; those of `overrides`, and all without a file, to the working
    folder. Raises ValueError with every problem on a line of its own.
    """
    given_flags = overrides or {}
    overrides = dict(given_flags)
    given = _read(path) if path else {}
    folder = path.resolve().parent if path else Path.cwd()
    preset = overrides.pop("preset", given.get("preset", "paper"))
    homes = {key: section for section, model in SECTIONS.items() for key in model.model_fields}
    tables: dict[str, Any] = {name: value for name, value in given.items() if name not in SECTIONS}
    tables["preset"] = preset
    for name, model in SECTIONS.items():
        own = given.get(name, {})
        if isinstance(own, dict):
            flags = {key: value for key, value in overrides.items() if homes.get(key) == name}
            under = PRESETS.get(preset, {}).get(name, {}) if isinstance(preset, str) else {}
            own = under | _absolute(model, _default_paths(model) | own, folder) | _absolute(model, flags, Path.cwd())
            if name == "data" and isinstance(own.get("items"), Path):
                own.setdefault("interactions", own["items"] / "interactions.csv")
        tables[name] = own
    tables |= {key: value for key, value in overrides.items() if key not in homes}
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        raise ValueError(Problems(Config, tables, path, frozenset(given_flags)).describe(error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; give --config the TOML file of the run") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None


def _path_keys(model: type[Section]) -> list[str]:
    return [key for key, field in model.model_fields.items() if field.annotation in (Path, Path | None)]


def _default_paths(model: type[Section]) -> dict[str, object]:
    defaults = {key: model.model_fields[key].default for key in _path_keys(model)}
    return {key: str(default) for key, default in defaults.items() if isinstance(default, Path)}


def _absolute(model: type[Section], table: dict[str, object], folder: Path) -> dict[str, object]:
    """The table with its texts that name files as absolute paths; what is no text is left for the schema to refuse."""
    paths = {
        key: (folder / Path(table[key]).expanduser()).resolve()
        for key in _path_keys(model)
        if isinstance(table.get(key), str | Path) and str(table[key])
    }
    return table | paths


def _plain(config: Config) -> dict[str, Any]:
    """The settings as TOML and JSON know them: paths as texts, pairs as lists, what is not set left out."""
    return config.model_dump(mode="json", exclude_none=True)
