import pytest
import torch

from ray_classy.errors import ComponentError
from ray_classy.tasks import BatchNormSyncMode
from tests.helpers import make_task
from tests.tasks.images import image_task


@pytest.mark.parametrize(
    ("options", "ranks", "told"),
    [
        ({"cudnn_benchmark": True, "deterministic": True}, 1, "cudnn_benchmark .* deterministic"),
        ({"compile": {"backend": "eager"}, "gradient_checkpointing": True}, 1, "gradient_checkpointing or compile"),
        ({"compile": {"backend": "eager"}, "strategy": "fsdp"}, 2, "compile .* 'fsdp'"),
        ({"memory_format": "auto", "strategy": "fsdp"}, 2, "memory_format 'auto' .* 'fsdp'"),
        ({"batch": 2, "strategy": "fsdp"}, 2, "batch: .* 'fsdp'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, ranks, told):
    task = image_task()
    if "strategy" in options:
        task.set_distributed_options(strategy=options.pop("strategy"))
    for name, value in options.items():
        getattr(task, f"set_{name}")(value)
    with pytest.raises(ComponentError, match=told):
        task.preflight(world_size=ranks)


def test_parts_of_batches_do_not_go_with_synchronized_batch_norm_on_several_ranks():
    task = image_task().set_batch(2).set_distributed_options(batch_norm_sync_mode=BatchNormSyncMode.PYTORCH)
    with pytest.raises(ComponentError, match="batch_norm_sync_mode"):
        task.preflight(world_size=2, on_gpu=True)


@pytest.mark.parametrize(("tf32", "precision"), [(True, "high"), (False, "highest")])
def test_number_formats_of_the_process(tf32, precision):
    switches = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    try:
        make_task().set_tf32(tf32).set_cudnn_benchmark(tf32).prepare()
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cudnn.allow_tf32 is tf32 and torch.backends.cudnn.benchmark is tf32
    finally:
        torch.set_float32_matmul_precision(switches[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = switches[1:]
