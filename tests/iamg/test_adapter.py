"""Adapter files: stock, .bin and ours; and those that must be refused."""

import json
import pickle
import resource

import pytest
import torch
from safetensors.torch import save_file

from iamg.adapter import load_adapter, read_adapter, write_adapter

WIDTH, IMAGE_WIDTH, TOKENS = 16, 12, 4
CHANNELS = [8, 8, 32]


def stock_state(seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    state = {
        "image_proj.proj.weight": normal(TOKENS * WIDTH, IMAGE_WIDTH),
        "image_proj.proj.bias": normal(TOKENS * WIDTH),
        "image_proj.norm.weight": normal(WIDTH),
        "image_proj.norm.bias": normal(WIDTH),
    }
    for slot, channels in zip((1, 3, 11), CHANNELS, strict=True):
        state[f"ip_adapter.{slot}.to_k_ip.weight"] = normal(channels, WIDTH)
        state[f"ip_adapter.{slot}.to_v_ip.weight"] = normal(channels, WIDTH)
    return state


def write(path, state, **metadata):
    save_file(state, path, {"iamg": json.dumps(metadata)} if metadata else None)
    return path


def test_widths_and_order_come_from_the_file(tmp_path):
    adapter = load_adapter(write(tmp_path / "a.safetensors", stock_state()))
    assert (adapter.width, adapter.image_width, adapter.channels) == (WIDTH, IMAGE_WIDTH, CHANNELS)
    assert not adapter.has_trained_ira
    assert torch.equal(adapter.ira.to_q.weight, torch.eye(WIDTH))


def test_projection_and_keys_are_the_plain_formulas(tmp_path):
    state = stock_state()
    adapter = load_adapter(write(tmp_path / "a.safetensors", state))
    embeds = torch.randn(2, IMAGE_WIDTH)
    projected = embeds @ state["image_proj.proj.weight"].T + state["image_proj.proj.bias"]
    expected = torch.nn.functional.layer_norm(
        projected.reshape(2, TOKENS, WIDTH), (WIDTH,), state["image_proj.norm.weight"], state["image_proj.norm.bias"]
    )
    tokens = adapter.project_image(embeds)
    torch.testing.assert_close(tokens, expected)
    key, value = adapter.keys_values(tokens)[2]
    torch.testing.assert_close(key, tokens @ state["ip_adapter.11.to_k_ip.weight"].T)
    torch.testing.assert_close(value, tokens @ state["ip_adapter.11.to_v_ip.weight"].T)


def test_null_tokens_are_the_projection_of_zero(tmp_path):
    adapter = load_adapter(write(tmp_path / "a.safetensors", stock_state()))
    null = adapter.null_image_tokens(torch.randn(3, IMAGE_WIDTH))
    torch.testing.assert_close(null, adapter.project_image(torch.zeros(3, IMAGE_WIDTH)))


def test_bin_and_safetensors_are_the_same_adapter(tmp_path):
    state = stock_state()
    nested = {"image_proj": {}, "ip_adapter": {}}
    for key, value in state.items():
        part, rest = key.split(".", 1)
        nested[part][rest] = value
    torch.save(nested, tmp_path / "a.bin")
    binary, safe = load_adapter(tmp_path / "a.bin"), load_adapter(write(tmp_path / "a.safetensors", state))
    assert binary.state_dict().keys() == safe.state_dict().keys()
    assert all(torch.equal(value, safe.state_dict()[key]) for key, value in binary.state_dict().items())


def test_trained_matrices_and_heads_are_read(tmp_path):
    ira = {f"ira.to_{x}.weight": torch.randn(WIDTH, WIDTH) for x in "qkv"}
    adapter = load_adapter(write(tmp_path / "a.safetensors", stock_state() | ira, format_version=1, heads=2))
    assert adapter.has_trained_ira and adapter.ira.heads == 2
    assert torch.equal(adapter.ira.to_k.weight, ira["ira.to_k.weight"])


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, capsys):
    (tmp_path / "a.bin").write_bytes(pickle.dumps({"image_proj": {"x": Evil()}}))
    with pytest.raises(ValueError, match="a.bin"):
        load_adapter(tmp_path / "a.bin")
    assert "executed" not in capsys.readouterr().out


def changed(**changes):
    state = stock_state()
    for key, value in changes.items():
        state.pop(key.replace("__", ".")) if value is None else state.update({key.replace("__", "."): value})
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(image_proj__norm__bias=None), "lacks image_proj.norm.bias"),
        (changed(ip_adapter__3__to_v_ip__weight=None), "lacks ip_adapter.3.to_v_ip.weight"),
        ({k: v for k, v in stock_state().items() if k.startswith("image")}, "lacks ip_adapter"),
        (stock_state() | {"ira.to_q.weight": torch.zeros(WIDTH, WIDTH)}, "lacks ira.to_k.weight, ira.to_v.weight"),
        (changed(ip_adapter__3__to_k_ip__weight=torch.zeros(8, WIDTH + 1)), r"\(8, 17\) where \(8, 16\)"),
        (changed(image_proj__proj__bias=torch.zeros(5)), r"\(5,\) where \(64,\)"),
        (stock_state() | {"image_proj.latents": torch.zeros(1)}, "IP-Adapter Plus"),
        (stock_state() | {"image_proj.proj.0.weight": torch.zeros(1)}, "FaceID"),
        (stock_state() | {"unet.weight": torch.zeros(1)}, "unet.weight"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(tmp_path, state, message):
    with pytest.raises(ValueError, match=message) as error:
        load_adapter(write(tmp_path / "some.safetensors", state))
    assert "some.safetensors" in str(error.value)


def test_a_file_cut_short_is_refused_by_name(tmp_path):
    path = write(tmp_path / "some.safetensors", stock_state())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="some.safetensors.*cut short"):
        load_adapter(path)


def test_a_newer_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="format version 9"):
        load_adapter(write(tmp_path / "a.safetensors", stock_state(), format_version=9))


def test_embeddings_of_another_encoder_are_refused_with_the_one_to_load(tmp_path):
    state = stock_state() | {"image_proj.proj.weight": torch.randn(TOKENS * WIDTH, 1024)}
    adapter = load_adapter(write(tmp_path / "a.safetensors", state))
    with pytest.raises(ValueError, match="1024-d.*gives 1280-d.*ViT-H-14"):
        adapter.project_image(torch.zeros(1, 1280))


def trained_state():
    return stock_state() | {f"ira.to_{x}.weight": torch.randn(WIDTH, WIDTH) for x in "qkv"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_what_is_written_is_what_is_read(tmp_path, dtype):
    state = {key: value.to(dtype) for key, value in trained_state().items()}
    path = tmp_path / "made" / "a.safetensors"
    write_adapter(path, state, {"heads": 2, "data_hash": "ü"})
    read, metadata = read_adapter(path)
    assert metadata == {"heads": 2, "data_hash": "ü", "format_version": 1}
    assert read.keys() == state.keys() and all(torch.equal(value, read[key]) for key, value in state.items())
    assert read["ira.to_q.weight"].dtype == dtype
    assert load_adapter(path).ira.heads == 2
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("a.bin", stock_state(), "not as 'a.bin'"),
        ("a.safetensors", changed(ip_adapter__3__to_v_ip__weight=None), "lacks ip_adapter.3.to_v_ip.weight"),
        (
            "a.safetensors",
            changed(image_proj__norm__bias=torch.full((WIDTH,), 1e5).half()),
            "image_proj.norm.bias .* not finite in float16; write float32",
        ),
    ],
)
def test_what_no_one_could_load_is_not_written(tmp_path, name, state, message):
    (tmp_path / name).write_bytes(b"before")
    with pytest.raises(ValueError, match=message):
        write_adapter(tmp_path / name, state, {})
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path):
    path = write(tmp_path / "a.safetensors", stock_state())
    whole, before = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # the disk takes no more than this
    try:
        with pytest.raises(OSError, match="a.safetensors' could not be written.*make room"):
            write_adapter(path, trained_state(), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [whole]
