"""What is trained is what is drawn: the trainer's U-Net and the node's patch predict the same noise."""

import pytest
import rig
import torch
from pack.nodes.adapter_apply import IAMGAdapterApply
from safetensors.torch import save_file
from test_diffusers_parity import predictions

from iamg.adapter import load_adapter
from iamg_train.diffusion_files import load_unet
from iamg_train.personalised_unet import Conditions, PersonalisedUNet

K = 3


@pytest.fixture(scope="module")
def model():
    return rig.small_model()


@pytest.fixture(scope="module")
def unet(model, tmp_path_factory):
    """The U-Net out of a checkpoint of ComfyUI's weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    state = model.model.diffusion_model.state_dict()
    save_file({f"model.diffusion_model.{key}": value.contiguous() for key, value in state.items()}, path)
    return load_unet(path)


@pytest.mark.parametrize("text_weight", [1.0, 0.7])
@pytest.mark.parametrize("interest_weight", [0.0, 0.2, 1.0])
@torch.no_grad()
def test_both_faces_predict_the_same_noise(model, unet, tmp_path, interest_weight, text_weight):
    adapter, vision = rig.adapter(model, tmp_path), rig.VisionOutput()
    random = torch.Generator().manual_seed(20)
    text, empty = rig.text(10), rig.text(11)
    texts = torch.randn(1, K, 77, rig.TEXT_WIDTH, generator=random)
    pictures = torch.randn(1, K, rig.IMAGE_WIDTH, generator=random)

    ours = load_adapter(tmp_path / "adapter.safetensors")
    interest = ours.ira(text, texts, ours.project_image(pictures[0])[None]).tokens
    patched = IAMGAdapterApply.execute(
        model, adapter, vision, 1.0, text_weight, interest_weight, 0.0, 1.0, interest=interest
    ).result[0]

    trainer = PersonalisedUNet(unet, ours, text_weight=text_weight)
    timestep_of = model.get_model_object("model_sampling").timestep
    for x, sigma, positive, negative in predictions(patched):
        noisy = x / (sigma**2 + 1) ** 0.5
        for expected, tokens, embeds, weight in (
            (positive, text, vision.image_embeds, interest_weight),
            (negative, empty, torch.zeros_like(vision.image_embeds), 0.0),
        ):
            conditions = Conditions(tokens, embeds, text, texts, pictures, torch.tensor([weight]))
            found = trainer(noisy, timestep_of(sigma), conditions)
            assert (found - expected).norm() < 1e-4 * expected.norm()
