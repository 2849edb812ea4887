import inspect

import numpy as np
import pytest
from PIL import Image

from ray_classy.dataset.decode import decode_image
from ray_classy.dataset.image_dataset import ImageDataset
from ray_classy.dataset.image_path_dataset import ImagePathDataset
from ray_classy.dataset.row_dataset import RowDataset
from ray_classy.dataset.rows import ItemRows
from ray_classy.errors import ComponentError
from ray_classy.registry import config_keys


class Greys(ImageDataset):
    """A user's dataset, whose one argument has no default."""

    decodes = True

    def open_rows(self, values, scale=1):
        options = self.image_options
        return RowDataset(
            ItemRows(value=values),
            lambda row: {"input": decode_image(np.full((2, 2), row["value"] * scale), options=options)},
        )


def test_an_argument_of_open_rows_may_lack_a_default():
    assert Greys(2, False, None, None, [7])[0]["input"].getpixel((0, 0)) == (7, 7, 7)
    assert Greys(2, False, values=[7], scale=2)[0]["input"].getpixel((0, 0)) == (14, 14, 14)
    parameters = inspect.signature(Greys).parameters
    assert [*parameters][-5:] == ["values", "scale", "max_pixels", "background", "value_range"]
    assert parameters["values"].default is inspect.Parameter.empty


def test_an_argument_with_the_name_of_a_common_one_is_named():
    with pytest.raises(TypeError, match=r"Clash\.open_rows .*transform.*; rename"):

        class Clash(ImageDataset):
            def open_rows(self, transform):
                pass


def test_the_options_of_decoding_are_keys_of_datasets_that_decode():
    assert {"max_pixels", "background", "value_range"} < config_keys(ImagePathDataset).keys()
    assert "max_pixels" not in config_keys(type("Plain", (ImageDataset,), {"open_rows": lambda self: None}))


def test_the_options_of_decoding_reach_the_decoder(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("LA", (2, 2), (9, 0)).save(tmp_path / "a/1.png")
    config = {"image_folder": str(tmp_path), "batchsize_per_replica": 1, "use_shuffle": False}
    dataset = ImagePathDataset.from_config({**config, "background": [250, 0, 0]})
    dataset.transform = None
    assert dataset[0]["input"].getpixel((0, 0)) == (250, 0, 0)
    with pytest.raises(ComponentError, match="max_pixels"):
        ImagePathDataset.from_config({**config, "max_pixels": 0})
