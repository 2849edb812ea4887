import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from ray_classy.errors import ComponentError, UnavailableError
from ray_classy.generic.visualize import (
    image_map,
    plot_learning_curves,
    plot_losses,
    plot_model,
    visdom_connect,
    visdom_connected,
)


class Server:
    def line(self, **given):
        self.given = given
        return "window"


def test_curves_of_different_lengths_are_plotted_together():
    server = Server()
    assert plot_learning_curves({"train": [2.0, 1.0], "test": [3.0]}, server, title="loss") == "window"
    assert server.given["Y"].shape == (2, 2) and server.given["Y"][1, 1].isnan()
    assert server.given["opts"] == {"title": "loss", "legend": ["train", "test"]}


def test_losses_are_plotted_over_scores():
    server = Server()
    plot_losses([nn.CrossEntropyLoss(), nn.MSELoss()], server)
    classes, numbers = server.given["Y"].T
    assert classes.diff().max() < 0 and numbers.argmin() in (99, 100) and server.given["X"][0] == -5


def test_a_loss_of_another_kind_is_refused():
    with pytest.raises(ComponentError, match="TripletMarginLoss"):
        plot_losses(nn.TripletMarginLoss())


def test_without_a_server_nothing_is_plotted(caplog):
    assert plot_learning_curves({"train": [1.0]}) is None and plot_losses(nn.MSELoss()) is None
    assert "tensorboard_plot" in caplog.text and not visdom_connected()
    with pytest.raises(UnavailableError, match="tensorboard_plot"):
        visdom_connect()


def test_a_model_is_drawn_somewhere():
    with pytest.raises(ComponentError, match="writer"):
        plot_model(nn.Linear(2, 2), (2,))


class Grey(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"input": torch.full((1, 8, 8), index / 4)}


@pytest.mark.parametrize("dataset", [Grey(), DataLoader(Grey(), 3)], ids=["dataset", "loader"])
def test_images_are_drawn_at_their_places(dataset):
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    picture = image_map(corners, dataset, mapsize=10, imsize=4)
    assert picture.shape == (3, 10, 10) and picture.dtype == torch.uint8
    assert [picture[0, y, x].item() for x, y in ((0, 0), (9, 0), (0, 9), (9, 9), (5, 5))] == [0, 64, 128, 191, 255]


def test_images_in_a_grid_do_not_overlap():
    picture = image_map(torch.zeros(4, 2), Grey(), mapsize=8, imsize=4, snap_to_grid=True)
    assert sorted(picture[0, ::4, ::4].flatten().tolist()) == [0, 64, 128, 191]


def test_places_of_another_shape_are_refused():
    with pytest.raises(ComponentError, match="mapcoord"):
        image_map(torch.zeros(4, 3), Grey())
