"""A run's model predicts as its evaluation does, on images of any kind."""

import numpy as np
import pytest
import torch
from PIL import Image

from ray_classy import load_model
from ray_classy.config.load import load_config
from ray_classy.errors import CheckpointNotFoundError, ComponentError, DataError, ResourceError
from ray_classy.inference import Classifier
from ray_classy.inference.load_model import activation_of
from ray_classy.tasks import build_task
from ray_classy.trainer import LocalTrainer


def test_a_runs_best_checkpoint_is_loaded(model, result):
    assert model.path == result.best_checkpoint


def test_the_predictions_are_those_of_the_evaluation(model, digits):
    images, labels = digits
    right = [int(one.label) == label for one, label in zip(model.predict(images), labels, strict=True)]
    assert np.mean(right) == pytest.approx(model.metrics["test"]["accuracy"]["top_1"], abs=1e-9)


def test_scores_are_probabilities_from_the_highest_on(model, digits):
    one = model.predict(digits[0][0], topk=10)
    scores = [score for _, score in one.top]
    assert one.top[0] == (one.label, one.score)
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_one_image_gives_one_prediction_and_a_list_gives_a_list(model, digits):
    assert model.predict(digits[0][0]) == model.predict([digits[0][0]])[0]


@pytest.mark.parametrize("kind", ["path", "pathlib", "bytes", "array", "tensor", "float tensor", "RGB"])
def test_an_image_may_be_given_in_any_form(model, digits, tmp_path, kind):
    image = digits[0][3]
    path = tmp_path / "3.png"
    image.save(path)
    array = np.asarray(image)
    forms = {
        "path": str(path),
        "pathlib": path,
        "bytes": path.read_bytes(),
        "array": array,
        "tensor": torch.from_numpy(array.copy())[None],
        "float tensor": torch.from_numpy(array / 255.0)[None].float(),
        "RGB": image.convert("RGB"),
    }
    assert model.predict(forms[kind]) == model.predict(image)


def test_no_images_give_no_predictions(model):
    assert model.predict([]) == []


def test_an_image_that_cannot_be_decoded_is_named(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png"):
        model.predict(str(tmp_path / "bad.png"))


def test_bad_images_can_be_passed_over(model, digits, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = [digits[0][0], str(tmp_path / "bad.png"), digits[0][1]]
    errors = {}
    ((rows, scores),) = model.scores(images, errors=errors)
    assert rows.tolist() == [0, 2]
    assert list(errors) == [1]
    assert model.predictions(scores) == model.predict([images[0], images[2]])


def test_a_wrong_topk_is_refused(model, digits):
    with pytest.raises(ComponentError, match="topk must be an integer of at least 1"):
        model.predict(digits[0][0], topk=0)


class Hungry(torch.nn.Module):
    def forward(self, images):
        return torch.empty(1 << 58, dtype=torch.uint8)


def test_the_batch_size_is_named_where_memory_runs_out(model, digits):
    hungry = Classifier(Hungry(), model.preprocessing)
    with pytest.raises(ResourceError, match=r"with 3 images at once, ran out of memory: lower --batch-size"):
        hungry.predict(digits[0][:3])


def test_a_path_without_a_run_names_the_runs_beside_it(result):
    with pytest.raises(CheckpointNotFoundError, match="did you mean 'r'"):
        load_model(result.path + "x")


def test_averages_of_the_weights_are_used(tmp_path, digits):
    average = {"name": "ema_model_weights", "decay": 0.5}
    config = {**load_config("configs/digits.yaml"), "num_epochs": 1, "hooks": [average]}
    result = LocalTrainer(storage_path=str(tmp_path), name="r").train(build_task(config))
    model = load_model(result.path)
    right = [int(one.label) == label for one, label in zip(model.predict(digits[0]), digits[1], strict=True)]
    assert np.mean(right) == pytest.approx(result.metrics["test"]["accuracy"]["top_1"], abs=1e-9)


def test_an_upright_image_is_predicted(model, digits, tmp_path):
    image = digits[0][5].convert("L").transpose(Image.Transpose.ROTATE_90)
    tags = Image.Exif()
    tags[274] = 6  # the camera was turned
    image.save(tmp_path / "turned.png", exif=tags)
    with Image.open(tmp_path / "turned.png") as turned:
        assert model.predict(turned) == model.predict(digits[0][5])


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ({"name": "CrossEntropyLoss"}, "softmax"),
        ({"name": "BCEWithLogitsLoss"}, "sigmoid"),
        ({"name": "asymmetric"}, "sigmoid"),
        ({"name": "binary_cross_entropy"}, "sigmoid"),
        ({"name": "focal"}, "sigmoid"),
        ({"name": "focal", "activation": "softmax"}, "softmax"),
    ],
)
def test_probabilities_are_those_that_the_loss_means(loss, activation):
    assert activation_of(loss) == activation
