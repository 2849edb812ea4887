"""Nodes, resources and placement groups of a cluster, and the blocks of a dataset in it."""

import time

import pyarrow as pa
import pytest
from ray._private import state, worker
from ray.core.generated import gcs_pb2
from ray.data import block
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from ray_classy.ray_compat import cluster, data

pytestmark = pytest.mark.ray


def test_free_resources_are_known_by_node(ray_cluster, hidden, monkeypatch):
    node = ray_cluster.get_runtime_context().get_node_id()
    for _ in range(300):  # the workers of another test may be ending
        if ray_cluster.available_resources().get("CPU") == ray_cluster.cluster_resources()["CPU"]:
            break
        time.sleep(0.1)
    assert cluster.free_by_node()[node]["CPU"] == ray_cluster.available_resources()["CPU"]
    assert not hidden.lines()
    hidden(state, "available_resources_per_node")
    assert cluster.free_by_node()[node]["CPU"] == ray_cluster.available_resources()["CPU"]
    assert "not known by node" in hidden.lines()[0]


def test_a_cluster_may_have_no_dashboard(ray_cluster, hidden):
    assert not cluster.has_dashboard()
    hidden(worker, "get_dashboard_url")
    assert cluster.has_dashboard() and "cleaner is started" in hidden.lines()[0]


def test_the_head_is_a_resource(ray_cluster):
    assert ray_cluster.cluster_resources()[cluster.HEAD] == 1


class Owner:
    """Makes a placement group, and keeps it."""

    def make(self):
        self.group = placement_group([{"CPU": 0.1}], lifetime="detached")
        self.group.wait(10)
        return self.group.id.hex(), ray_id()


def ray_id():
    import ray

    return ray.get_runtime_context().get_actor_id()


def removed(ray, identity, seconds):
    for _ in range(int(seconds / 0.1)):
        if not cluster.nodes_of_group(identity):
            return True
        time.sleep(0.1)
    return False


def test_groups_of_an_actor_that_died_are_removed_and_no_others(ray_cluster):
    makers = [ray_cluster.remote(num_cpus=0)(Owner).remote() for _ in range(2)]
    (gone, actor), (kept, _) = ray_cluster.get([maker.make.remote() for maker in makers])
    ray_cluster.kill(makers[0])
    cluster.remove_groups_of(actor)
    assert removed(ray_cluster, gone, 10)
    assert len(cluster.nodes_of_group(kept)) == 1
    cluster.remove_group(kept)
    assert removed(ray_cluster, kept, 10)


@pytest.mark.parametrize(
    "owner, name",
    [(state, "state"), (state.GlobalState, "_connect_and_get_accessor"), (gcs_pb2, "PlacementGroupTableData")],
)
def test_groups_whose_maker_is_not_known_stay(ray_cluster, hidden, owner, name, monkeypatch):
    group = placement_group([{"CPU": 0.1}])
    group.wait(10)
    with monkeypatch.context() as patch:
        patch.delattr(owner, name)
        cluster.remove_groups_of("00" * 16)
    assert "only when this process ends" in hidden.lines()[0]
    assert placement_group_table(group)["state"] == "CREATED"
    remove_placement_group(group)


def test_a_worker_knows_its_group(ray_cluster):
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 0.1}])
    inside = ray_cluster.remote(num_cpus=0.1)(cluster.current_group)
    strategy = PlacementGroupSchedulingStrategy(group)
    assert ray_cluster.get(inside.options(scheduling_strategy=strategy).remote()) == group.id.hex()
    remove_placement_group(group)


@pytest.mark.parametrize("private", [True, False])
def test_blocks_and_their_sizes(ray_cluster, hidden, private):
    import ray.data

    dataset = ray.data.from_arrow([pa.table({"a": [1, 2, 3]}), pa.table({"a": [4]})]).materialize()
    if not private:
        hidden(ray.data.Dataset, "iter_internal_ref_bundles")
    references, sizes = data.blocks_of(dataset)
    assert sizes == [3, 1] and len(hidden.lines()) == (not private)
    assert [data.arrow_table(one)["a"].to_pylist() for one in ray_cluster.get(references)] == [[1, 2, 3], [4]]


@pytest.mark.parametrize("private", [True, False])
def test_a_block_may_be_a_data_frame(hidden, private):
    import pandas as pd

    if not private:
        hidden(block, "BlockAccessor")
    assert data.arrow_table(pd.DataFrame({"a": [1, 2]})).to_pydict() == {"a": [1, 2]}
    assert len(hidden.lines()) == (not private)
