import pickle

import pytest
import torch

from ray_classy.dataset.transforms.mixup import MixupTransform, cutmix_bbox_and_lam, mixup_target, one_hot, rand_bbox
from ray_classy.errors import ComponentError, DataError

MODES = ["batch", "pair", "elem"]


def batch(rows, size=8):
    """Row i is filled with the number i and has class i."""
    images = torch.arange(rows, dtype=torch.float32).view(-1, 1, 1, 1).expand(rows, 3, size, size).contiguous()
    return {"input": images, "target": torch.arange(rows), "id": list(range(rows))}


@pytest.mark.parametrize("rows", [1, 4, 5])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "arguments",
    [{"mixup_alpha": 1.0}, {"mixup_alpha": 0, "cutmix_alpha": 1.0}, {"mixup_alpha": 1.0, "cutmix_alpha": 1.0}],
)
def test_targets_tell_the_share_of_the_pixels(rows, mode, arguments):
    torch.manual_seed(0)
    mixed = MixupTransform(num_classes=rows, mode=mode, **arguments)(batch(rows))
    numbers = torch.arange(rows, dtype=torch.float32)
    assert torch.allclose(mixed["input"].mean((1, 2, 3)), mixed["target"] @ numbers, atol=1e-5)
    assert torch.allclose(mixed["target"].sum(1), torch.ones(rows))


@pytest.mark.parametrize("mode", MODES)
def test_sample_is_changed_and_its_tensors_are_not(mode):
    sample = batch(5)
    before = dict(sample)
    assert MixupTransform(1.0, 5, cutmix_alpha=1.0, mode=mode)(sample) is sample and sample["target"].shape == (5, 5)
    assert torch.equal(before["input"], batch(5)["input"]) and torch.equal(before["target"], torch.arange(5))


def test_other_entries_travel_along():
    assert MixupTransform(1.0, 4)(batch(4))["id"] == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", MODES)
def test_middle_row_meets_itself(mode):
    mixed = MixupTransform(1.0, 5, cutmix_alpha=1.0, mode=mode)(batch(5))
    assert torch.allclose(mixed["input"][2], torch.tensor(2.0)) and mixed["target"][2, 2] == 1


@pytest.mark.parametrize("mode", MODES)
def test_seed_fixes_all_draws(mode):
    transform = MixupTransform(0.5, 6, cutmix_alpha=0.5, mix_prob=0.7, mode=mode)
    torch.manual_seed(3)
    one = transform(batch(6))
    torch.manual_seed(3)
    two = transform(batch(6))
    assert torch.equal(one["input"], two["input"]) and torch.equal(one["target"], two["target"])


def test_batch_mode_draws_once():
    target = MixupTransform(1.0, 6)(batch(6))["target"]
    assert torch.allclose(target.diagonal(), target[0, 0])


def test_pair_mode_draws_alike_for_partners():
    kept = MixupTransform(1.0, 6, mode="pair")(batch(6))["target"].diagonal()
    assert torch.equal(kept, kept.flip(0)) and len(kept.unique()) == 3


def test_elem_mode_draws_for_each_row():
    assert len(MixupTransform(1.0, 6, mode="elem")(batch(6))["target"].diagonal().unique()) == 6


@pytest.mark.parametrize("mode", MODES)
def test_probability_zero_mixes_nothing(mode):
    mixed = MixupTransform(1.0, 4, cutmix_alpha=1.0, mix_prob=0.0, mode=mode)(batch(4))
    assert torch.equal(mixed["input"], batch(4)["input"]) and torch.equal(mixed["target"], torch.eye(4))


@pytest.mark.parametrize("mode", MODES)
def test_cutmix_pastes_one_box_of_the_partner(mode):
    torch.manual_seed(0)
    mixed = MixupTransform(0, 4, cutmix_alpha=1.0, mode=mode)(batch(4))["input"][0, 0]
    pasted = mixed == 3
    assert ((mixed == 0) | pasted).all()
    assert torch.equal(pasted, pasted.any(1, keepdim=True) & pasted.any(0, keepdim=True))


def test_switch_probability_one_means_cutmix():
    mixed = MixupTransform(1.0, 4, cutmix_alpha=1.0, switch_prob=1.0, mode="elem")(batch(4))
    assert torch.equal(mixed["input"], mixed["input"].round())


def test_cutmix_minmax_bounds_the_box():
    transform = MixupTransform(0, 2, cutmix_minmax=(0.25, 0.5), mode="elem")
    for _ in range(20):
        pasted = transform(batch(2))["input"][0, 0] == 1
        assert 2 <= pasted.any(0).sum() <= 4 and 2 <= pasted.any(1).sum() <= 4


def test_uncorrected_lam_is_as_drawn():
    torch.manual_seed(0)
    transform = MixupTransform(0, 2, cutmix_alpha=1.0, correct_lam=False)
    shares = [transform(batch(2))["target"][0, 0].item() * 64 for _ in range(10)]
    assert any(abs(share - round(share)) > 1e-3 for share in shares)


def test_lam_follows_the_beta_distribution():
    torch.manual_seed(0)
    lam = MixupTransform(0.4, 1, mode="elem")._draw(20000, 8, 8).lam
    expected = torch.distributions.Beta(0.4, 0.4)
    assert abs(lam.mean() - expected.mean) < 0.01 and abs(lam.var() - expected.variance) < 0.01


def test_label_smoothing():
    target = MixupTransform(1.0, 4, mix_prob=0.0, label_smoothing=0.2)(batch(4))["target"]
    assert torch.allclose(target, torch.eye(4) * 0.8 + 0.05)


def test_soft_targets_are_mixed_without_num_classes():
    sample = {**batch(4), "target": torch.eye(4, dtype=torch.int64)}
    torch.manual_seed(0)
    soft = MixupTransform(1.0)(sample)["target"]
    torch.manual_seed(0)
    assert torch.equal(soft, MixupTransform(1.0, 4)(batch(4))["target"])


def test_class_indices_need_num_classes():
    with pytest.raises(ComponentError, match="num_classes"):
        MixupTransform(1.0)(batch(4))


def test_video_is_blended():
    video = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 2, 4, 4)
    mixed = MixupTransform(1.0, 4, cutmix_alpha=1.0, mode="elem")({"input": video, "target": torch.arange(4)})
    assert torch.allclose(mixed["input"].mean((1, 2, 3, 4)), mixed["target"] @ torch.arange(4.0))


def test_dict_inputs_are_blended_alike():
    inputs = {"video": batch(4)["input"], "audio": torch.arange(4.0).view(4, 1, 1), "length": torch.arange(4)}
    mixed = MixupTransform(1.0, 4)({"input": inputs, "target": torch.arange(4)})["input"]
    assert torch.allclose(mixed["video"][:, 0, 0, 0], mixed["audio"].flatten())
    assert torch.equal(mixed["length"], torch.arange(4))


@pytest.mark.parametrize(
    ("alphas", "inputs"),
    [({"mixup_alpha": 0, "cutmix_alpha": 1.0}, torch.rand(4, 3, 2, 4, 4)), ({"mixup_alpha": 1.0}, {})],
)
def test_inputs_that_cannot_be_mixed(alphas, inputs):
    with pytest.raises(DataError, match="mixup"):
        MixupTransform(num_classes=4, **alphas)({"input": inputs, "target": torch.arange(4)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mode", MODES)
def test_dtype_is_kept(dtype, mode):
    sample = {"input": torch.rand(4, 3, 8, 8).to(dtype), "target": torch.arange(4)}
    assert MixupTransform(1.0, 4, cutmix_alpha=1.0, mode=mode)(sample)["input"].dtype == dtype


@pytest.mark.parametrize("mode", MODES)
def test_integer_images_become_float(mode):
    sample = {"input": torch.ones(4, 3, 8, 8, dtype=torch.uint8), "target": torch.arange(4)}
    assert MixupTransform(1.0, 4, cutmix_alpha=1.0, mode=mode)(sample)["input"].dtype == torch.float32


@pytest.mark.parametrize(
    "arguments",
    [
        {"mixup_alpha": 0},
        {"mixup_alpha": -1.0},
        {"mixup_alpha": 1.0, "mode": "row"},
        {"mixup_alpha": 1.0, "mix_prob": 1.5},
        {"mixup_alpha": 1.0, "label_smoothing": -0.1},
        {"mixup_alpha": 1.0, "cutmix_minmax": (0.5, 0.2)},
        {"mixup_alpha": 1.0, "num_classes": 0},
    ],
)
def test_impossible_arguments(arguments):
    with pytest.raises(ComponentError):
        MixupTransform(**arguments)


def test_picklable():
    assert pickle.loads(pickle.dumps(MixupTransform(1.0, 4))).num_classes == 4


def test_targets_are_mixed_and_smoothed_as_in_classy_vision():
    mixed = mixup_target(torch.tensor([1, 0]), 3, 0.25, smoothing=0.3)
    torch.testing.assert_close(mixed, torch.tensor([[0.625, 0.275, 0.1], [0.275, 0.625, 0.1]]))
    weights = mixup_target(torch.eye(2), 2, torch.tensor([0.25, 0.5]), smoothing=0.3)
    assert weights.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert one_hot(torch.tensor([2]), 3, 0.9, 0.05).tolist() == [pytest.approx([0.05, 0.05, 0.9])]


@pytest.mark.parametrize("minmax", [None, (0.2, 0.5)])
def test_boxes_lie_in_the_image_and_say_what_they_leave(minmax):
    (top, bottom, left, right), lam = cutmix_bbox_and_lam((2, 3, 10, 20), 0.3, minmax, count=50)
    assert (top >= 0).all() and (top <= bottom).all() and (bottom <= 10).all()
    assert (left >= 0).all() and (left <= right).all() and (right <= 20).all()
    torch.testing.assert_close(lam, 1 - (bottom - top) * (right - left) / 200, check_dtype=False)
    assert cutmix_bbox_and_lam((10, 20), 0.3, correct_lam=False)[1] == 0.3


def test_a_margin_keeps_centres_away_from_the_border():
    top, bottom, left, right = rand_bbox((100, 100), 0.75, margin=1.0, count=50)
    assert (bottom - top == 50).all() and (right - left == 50).all()
