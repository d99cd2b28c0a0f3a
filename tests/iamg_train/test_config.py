"""A run's settings: defaults, presets, files, flags, and what is said of every mistake."""

import argparse
import json
import re
from pathlib import Path

import pytest

from iamg_train.config import MAY_CHANGE, PRESETS, SECTIONS, Config, load_config
from iamg_train.config_flags import add_flags, default_text, overrides_of

REQUIRED = """
[data]
items = "posters"
pool = "../pools/posters"
[model]
checkpoint = "/models/sd15.safetensors"
clip_vision = "~/vit-h.safetensors"
ip_adapter = "ip.safetensors"
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, required: str = REQUIRED) -> Path:
        file = tmp_path / "project" / "run.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text + required, encoding="utf-8")
        return file

    return write


def problems(path, overrides=None) -> list[str]:
    with pytest.raises(ValueError) as caught:
        load_config(path, overrides)
    return str(caught.value).splitlines()


def parse(*argv: str) -> dict:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return overrides_of(parser.parse_args(argv))


def test_the_defaults_are_the_papers(write):
    config = load_config(write(""))
    assert (config.train.learning_rate, config.train.weight_decay) == (1e-4, 0.01)
    assert (config.train.batch_size, config.train.steps, config.train.resolution) == (16, 2000, 512)
    assert (config.drop.joint, config.drop.text, config.drop.image, config.drop.interest) == (0.05, 0, 0, 0)
    assert (config.method.interest_weight, config.method.text_weight, config.data.max_entries) == (0.2, 1.0, 1500)
    assert load_config(write('preset = "paper"')) == config


def test_paths_are_relative_to_the_file_and_those_of_flags_to_the_working_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    project = tmp_path / "project"
    config = load_config(write("").relative_to(tmp_path), {"out": Path("here"), "ip_adapter": "mine.safetensors"})
    assert config.data.items == project / "posters" and config.data.pool == tmp_path / "pools" / "posters"
    assert config.data.interactions == project / "posters" / "interactions.csv"
    assert (config.data.prepared, config.data.cache) == (project / "prepared", project / "cache")
    assert config.model.checkpoint == Path("/models/sd15.safetensors")
    assert config.model.clip_vision == tmp_path / "home" / "vit-h.safetensors"
    assert (config.run.out, config.model.ip_adapter) == (tmp_path / "here", tmp_path / "mine.safetensors")
    flags = parse("--items", "posters", "--pool", "p", "--checkpoint", "c", "--clip-vision", "v", "--ip-adapter", "i")
    assert load_config(None, flags).data.interactions == tmp_path / "posters" / "interactions.csv"


def test_a_preset_lies_under_the_file_and_the_file_under_the_flags(write):
    file = write('preset = "robust"\n[drop]\ntext = 0.1\n[train]\nsteps = 7\nseed = 1\n')
    config = load_config(file, {"steps": 9})
    assert (config.drop.joint, config.drop.text, config.drop.image, config.drop.interest) == (0.05, 0.1, 0.05, 0.05)
    assert config.method.interest_weight == (0.0, 0.4)
    assert (config.train.steps, config.train.seed) == (9, 1)
    assert load_config(file, {"preset": "paper"}).method.interest_weight == 0.2
    assert load_config(file, {"preset": "paper"}).drop.text == 0.1


def test_resolved_settings_are_read_back_as_they_were_from_anywhere(write, tmp_path):
    masks = REQUIRED.replace("[data]", '[data]\nforeground = "masks"\nmasks = "m"')
    pair = "[method]\ninterest_weight = [0, 0.5]\n[watch]\nloggers = []\n"
    for config in (load_config(write('preset = "robust"')), load_config(write(pair, masks))):
        elsewhere = tmp_path / "elsewhere.toml"
        elsewhere.write_text(config.to_toml(), encoding="utf-8")
        assert load_config(elsewhere) == config


def test_only_what_a_resumed_run_may_change_is_outside_its_identity(write, tmp_path):
    before = load_config(write("")).identity()
    assert json.loads(json.dumps(before)) == before
    free = {"steps": 3000, "workers": 2, "device": "cpu", "log_every": 1, "out": "other", "cache": "other"}
    assert load_config(write(""), free).identity() == before
    everything = {f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields}
    watched = {name for name in everything if name.startswith("watch.")}
    assert everything - set(before) == MAY_CHANGE | watched | {"data.masks"}  # masks: not set here
    now = load_config(write(""), {"interest_weight": [0.1, 0.2], "batch_size": 8}).identity()
    assert {key for key in now if now[key] != before[key]} == {"method.interest_weight", "train.batch_size"}
    assert now == json.loads(json.dumps(now))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("[train]\nbatch_sise = 4", "train.batch_sise is no known key; did you mean train.batch_size?"),
        ("[train]\nheads = 4", "train.heads is no known key; heads belongs under [method]"),
        ("[watch]\nlearning_rat = 4", "watch.learning_rat is no known key; did you mean train.learning_rate?"),
        ("[run]\nzzz = 4", "run.zzz is no known key; its keys are out"),
        ("[trian]\nsteps = 4", "trian is no known key; did you mean [train]?"),
        ("steps = 4", "steps is no known key; steps belongs under [train]"),
        ("train = 4", "train is 4; expected a table [train]"),
        ('preset = "robots"', 'preset is "robots"; expected one of "paper", "robust"; did you mean "robust"?'),
        ("preset = [1]", 'preset is [1]; expected one of "paper", "robust"'),
        ("[train]\nbatch_size = 0", "train.batch_size is 0; expected a whole number, 1 or more"),
        ('[train]\nbatch_size = "4"', 'train.batch_size is "4"; expected a whole number, 1 or more'),
        ("[train]\nbatch_size = 4.0", "train.batch_size is 4.0; expected a whole number, 1 or more"),
        ("[train]\nseed = true", "train.seed is true; expected a whole number, 0 or more, less than 4294967296"),
        ("[train]\ncompile = 1", "train.compile is 1; expected true or false"),
        ("[train]\nlearning_rate = nan", "train.learning_rate is nan; expected a number, more than 0"),
        ("[train]\nweight_decay = inf", "train.weight_decay is inf; expected a number, 0 or more"),
        ("[train]\nresolution = 500", "train.resolution is 500; expected a whole number, 8 or more, a multiple of 8"),
        ('[train]\nprecision = "bf61"', 'expected one of "auto", "fp32", "bf16", "fp16"; did you mean "bf16"?'),
        ("[train]\nsteps = 5\nwarmup_steps = 6", "[train] warmup_steps is 6, expected at most steps, which is 5"),
        ("[drop]\njoint = 1.5", "drop.joint is 1.5; expected a number, 0 or more, at most 1"),
        ("[drop]\njoint = 0.9\ntext = 0.2", "[drop] joint + text + image + interest is 1.1, expected at most 1"),
        (
            "[method]\ninterest_weight = [1, 2, 3]",
            "is [1, 2, 3]; expected a number of 0 or more, or two as [low, high]",
        ),
        ("[method]\ninterest_weight = [0.4, 0.1]", "interest_weight is [0.4, 0.1], expected the lower number first"),
        ("[method]\ninterest_weight = -1", "method.interest_weight is -1; expected a number of 0 or more, or two"),
        ('[watch]\nloggers = ["csv", "cvs"]', 'expected a list, each one of "csv", "tensorboard", "wandb"'),
        ("[run]\nout = 3", "run.out is 3; expected a path"),
        ('[run]\nout = ""', 'run.out is ""; expected a path'),
    ],
)
def test_a_mistake_is_said_with_its_place_what_was_given_and_what_is_expected(told, said, write):
    file = write(told + "\n")
    (line,) = problems(file)
    assert line.startswith(f"{file}: ") and said in line


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('scenario = "movie"', '[data] scenario is "movie", expected one of: movie poster, news poster, outfit'),
        ('foreground = "masks"', '[data] foreground is "masks", so masks is needed'),
        ("test_fraction = 1.0", "data.test_fraction is 1.0; expected a number, 0 or more, less than 1"),
    ],
)
def test_mistakes_about_data(data, said, write):
    (line,) = problems(write("", REQUIRED.replace("[data]", "[data]\n" + data)))
    assert said in line


def test_all_mistakes_are_said_at_once_each_by_where_it_was_made(write):
    file = write("[train]\nsteps = 0\nseed = -1\n", REQUIRED.replace('items = "posters"', "item = 3"))
    lines = problems(file, {"heads": 0})
    assert sorted(lines) == sorted(
        [
            f"{file}: data.items is missing; expected a path: {SECTIONS['data'].model_fields['items'].description}",
            f"{file}: data.item is no known key; did you mean data.items?",
            "--heads is 0; expected a whole number, 1 or more",
            f"{file}: train.steps is 0; expected a whole number, 1 or more",
            f"{file}: train.seed is -1; expected a whole number, 0 or more, less than 4294967296",
        ]
    )
    missing = [line.split()[0] for line in problems(None)]
    assert missing == ["--items", "--pool", "--checkpoint", "--clip-vision", "--ip-adapter"]
    assert problems(write(""), {"interest": 2.0})[0].startswith("--drop-interest is 2.0")


def test_a_file_that_is_no_toml_or_not_there_is_named(write, tmp_path):
    with pytest.raises(ValueError, match=r"run\.toml is not TOML.*line 1"):
        load_config(write("[data\n"))
    with pytest.raises(FileNotFoundError, match="nothing.toml does not exist"):
        load_config(tmp_path / "nothing.toml")


def test_files_that_the_run_reads_are_all_looked_for(write, tmp_path):
    config = load_config(write(""))
    with pytest.raises(FileNotFoundError) as caught:
        config.require_files()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        *("data.interactions", "model.checkpoint", "model.clip_vision", "model.ip_adapter"),
        *("data.items", "data.pool"),
    ]
    for folder in ("items", "pool"):
        (tmp_path / folder).mkdir()
    for file in ("items/interactions.csv", "c", "v", "i"):
        (tmp_path / file).touch()
    here = {"items": "items", "pool": "pool", "checkpoint": "c", "clip_vision": "v", "ip_adapter": "i"}
    load_config(None, {key: tmp_path / file for key, file in here.items()}).require_files()


def test_every_key_has_a_flag_and_only_flags_that_were_given_count(capsys):
    assert parse() == {}
    names = [key for section in SECTIONS.values() for key in section.model_fields]
    assert len(set(names)) == len(names)
    with pytest.raises(SystemExit):
        parse("--help")
    told = re.split(r"[ ,\n]+", capsys.readouterr().out)
    for name, section in SECTIONS.items():
        for key in section.model_fields:
            assert f"--{'drop-' if name == 'drop' else ''}{key.replace('_', '-')}" in told
        assert all(field.description for field in section.model_fields.values())
    assert Config.model_fields["preset"].description


def test_flags_have_the_schemas_types(write):
    argv = "--batch-size 4 --learning-rate 1e-3 --no-leave-one-out --compile --drop-text 0.1 --interest-weight 0.3"
    config = load_config(write(""), parse(*argv.split(), "--loggers", "csv", "wandb", "--preset", "robust"))
    assert (config.train.batch_size, config.train.learning_rate, config.train.compile) == (4, 1e-3, True)
    assert not config.data.leave_one_out and (config.drop.text, config.drop.image) == (0.1, 0.05)
    assert config.method.interest_weight == 0.3 and config.watch.loggers == ["csv", "wandb"]
    assert load_config(write(""), parse("--interest-weight", "0", "0.4")).method.interest_weight == (0.0, 0.4)
    assert load_config(write(""), parse("--loggers")).watch.loggers == []


def test_flags_can_be_those_of_some_sections():
    parser = argparse.ArgumentParser()
    add_flags(parser, ("data", "model"))
    told = parser.format_help()
    assert "--scenario" in told and "--clip-vision" in told and "--preset" in told
    assert "--learning-rate" not in told and "--out" not in told


GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_guide_lists_exactly_the_keys_with_their_defaults_and_descriptions():
    listed, section = {}, None
    for line in GUIDE.splitlines():
        if line.startswith("#"):
            section = line.removeprefix("### `[").removesuffix("]`") if line.startswith("### `[") else None
        elif section and line.startswith("| `"):
            key, default, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            listed[section, key.strip("`")] = (default.strip("`"), meaning)
    schema = {
        (name, key): ("required" if field.is_required() else default_text(field), field.description)
        for name, section in SECTIONS.items()
        for key, field in section.model_fields.items()
    }
    assert listed == schema


def test_the_guides_example_is_a_whole_configuration(write):
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    config = load_config(write(example, required=""))
    assert (config.preset, config.run.out.name, config.data.items.name) == ("paper", "posters", "posters")


def test_the_guide_names_what_a_preset_sets_and_what_a_resumed_run_may_change():
    (robust,) = (line for line in GUIDE.splitlines() if line.startswith('| `preset = "robust"`'))
    for section, table in PRESETS["robust"].items():
        assert all(f"`{section}.{key}`" in robust and f"`{value}`" in robust for key, value in table.items())
    (resuming,) = re.findall(r"only these may change: (.*?)\n\n", GUIDE, re.DOTALL)
    named = set(re.findall(r"`([a-z_.]+)`", resuming))
    assert named == {key if not key.startswith("train.") else key.removeprefix("train.") for key in MAY_CHANGE}
