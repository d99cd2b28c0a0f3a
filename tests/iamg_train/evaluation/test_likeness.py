"""SSIM, MS-SSIM and LPIPS against implementations of their papers' formulas that share no code with torchmetrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
import torchvision
from PIL import Image
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from iamg_train.evaluation.methods import Shot
from iamg_train.evaluation.metrics_likeness import cached_backbone, likenesses, lpips
from iamg_train.evaluation.pictures import Pictures

POSTERS = Path(__file__).parents[4] / "shared" / "data" / "movielens_mini" / "images"
SIDE = 192
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's scales


@pytest.fixture(scope="module", params=["drawn", "posters"])
def paths(request, tmp_path_factory) -> list[Path]:
    """Three pictures, and a fourth that is the first with noise."""
    folder = tmp_path_factory.mktemp("pictures")
    if request.param == "posters":
        if not POSTERS.is_dir():
            pytest.skip("shared/data is not there")
        paths = sorted(POSTERS.iterdir())[:3]
    else:
        random, paths = np.random.default_rng(0), [folder / f"{number}.png" for number in range(3)]
        for path in paths:
            small = Image.fromarray(random.integers(0, 256, (9, 6, 3), dtype=np.uint8))
            small.resize((200, 300), Image.Resampling.BICUBIC).save(path)
    pixels = np.asarray(Image.open(paths[0]).convert("RGB"), np.float32)
    noise = np.random.default_rng(1).normal(0, 8, pixels.shape)
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(folder / "noisy.png")
    return [*paths, folder / "noisy.png"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), path)
    return path


def square(path: Path) -> np.ndarray:
    """(side, side, 3) in 0..1."""
    picture = Image.open(path).convert("RGB")
    left, top = ((length - min(picture.size)) // 2 for length in picture.size)
    box = (left, top, left + min(picture.size), top + min(picture.size))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box), np.float64) / 255


def values(metric, paths: list[Path]) -> list[float]:
    """Of the fourth, the second and the first picture with the first as original."""
    return metric.values([Shot(paths[place], "u", "first", (), 0) for place in (3, 1, 0)])


def blurred(pixels: np.ndarray) -> np.ndarray:
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()
    return correlate1d(correlate1d(pixels, window, axis=0, mode="mirror"), window, axis=1, mode="mirror")


def luminance_and_structure(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of SSIM (Wang et al. 2004, Eq 13) at every place."""
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def halved(pixels: np.ndarray) -> np.ndarray:
    side = len(pixels) // 2
    return pixels[: 2 * side, : 2 * side].reshape(side, 2, side, 2, 3).mean(axis=(1, 3))


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        luminance, structure = luminance_and_structure(a, b)
        last = scale == len(WEIGHTS) - 1
        product *= max(0.0, (luminance * structure if last else structure[5:-5, 5:-5]).mean()) ** weight
        a, b = halved(a), halved(b)
    return product


def test_ssim_is_that_of_scikit_image(paths):
    ssim = likenesses(Pictures(), {"first": paths[0]}, SIDE)[0]
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": 2}
    expected = [structural_similarity(square(paths[place]), square(paths[0]), **how) for place in (3, 1, 0)]
    found = values(ssim, paths)
    assert found == pytest.approx(expected, abs=2e-4)
    assert found[2] == pytest.approx(1) and found[1] < 0.6 and found[1] < found[0] < 1


def test_ms_ssim_is_that_of_its_formula(paths):
    metric = likenesses(Pictures(), {"first": paths[0]}, SIDE)[1]
    expected = [ms_ssim(square(paths[place]), square(paths[0])) for place in (3, 1, 0)]
    found = values(metric, paths)
    assert found == pytest.approx(expected, abs=2e-3)
    assert found[2] == pytest.approx(1) and found[1] < found[0] < 1


def test_lpips_is_that_of_its_formula(paths, backbone):
    """Zhang et al. 2018, Eq 1: squared distances of features of length 1, weighted by channel, averaged over places."""
    metric = lpips("alex", backbone, Pictures(), {"first": paths[0]}, SIDE)
    net = torchvision.models.alexnet(weights=None).eval()
    net.load_state_dict(torch.load(backbone))
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    linear = torch.load(folder / "alex.pth", map_location="cpu")

    def features(path: Path) -> list[np.ndarray]:
        pixels = (square(path) * 2 - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        found, x = [], torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None]
        for layer in net.features:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                found.append(x[0].detach().numpy().astype(np.float64))
        return found

    def distance(a: Path, b: Path) -> float:
        total = 0.0
        for place, (x, y) in enumerate(zip(features(a), features(b), strict=True)):
            x, y = (z / np.sqrt((z**2).sum(axis=0) + 1e-8) for z in (x, y))
            channels = linear[f"lin{place}.model.1.weight"].numpy().reshape(-1, 1, 1)
            total += (channels * (x - y) ** 2).sum(axis=0).mean()
        return total

    found = values(metric, paths)
    assert found == pytest.approx([distance(paths[place], paths[0]) for place in (3, 1, 0)], rel=1e-3, abs=1e-6)
    assert found[2] == 0 < min(found[:2])


def test_ms_ssim_is_left_out_where_its_windows_do_not_fit(paths):
    assert [x.definition.name for x in likenesses(Pictures(), {}, 175)] == ["SSIM"]


def test_a_file_that_is_no_backbone_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="other.pth holds no weights of LPIPS's alex: .*alexnet-owt"):
        lpips("alex", path, Pictures(), {}, SIDE)
    with pytest.raises(FileNotFoundError, match="absent.pth"):
        lpips("alex", tmp_path / "absent.pth", Pictures(), {}, SIDE)


def test_the_cache_is_where_torchvision_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert cached_backbone("vgg") == tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"


def test_keys_follow_the_pictures_and_the_size(paths, tmp_path):
    shot = Shot(paths[1], "u", "first", (), 0)
    originals = {"first": paths[0]}
    key = likenesses(Pictures(), originals, SIDE)[0].key(shot)
    assert key == likenesses(Pictures(), originals, SIDE)[0].key(Shot(paths[1], "v", "first", ("x",), 3))
    others = [likenesses(Pictures(), {"first": paths[2]}, SIDE)[0], likenesses(Pictures(), originals, 256)[0]]
    assert key not in [x.key(shot) for x in (*others, likenesses(Pictures(), originals, SIDE)[1])]
