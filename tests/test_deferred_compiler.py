"""`torch._dynamo`, imported when something is compiled; each test in a process of its own."""

import sys

import pytest

from ray_classy.deferred_compiler import defer_compiler
from tests.forks import forks

START = """
import sys, torch
from ray_classy.deferred_compiler import compiler_is_imported, defer_compiler
defer_compiler()
"""


@pytest.fixture(scope="module")
def printed_by():
    with forks() as printed_by:
        yield lambda program: printed_by(START + program)


def test_training_without_compiling_does_not_import_it(printed_by):
    program = """
import tempfile, torch.distributed as dist
from torchvision import models, tv_tensors
from torchvision.transforms import v2
with tempfile.NamedTemporaryFile() as file:
    dist.init_process_group("gloo", init_method=f"file://{file.name}", rank=0, world_size=1)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    for build in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = build(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        model(v2.Normalize([0.5], [0.5])(tv_tensors.Image(torch.rand(1, 1, 2)))[0]).sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    dist.destroy_process_group()
print(compiler_is_imported())
"""
    assert printed_by(program) == "False"


def test_the_number_of_compiled_graphs_is_known_without_it(printed_by):
    program = "from ray_classy.torch_compat import compiled_graphs; print(compiled_graphs(), compiler_is_imported())"
    assert printed_by(program) == "0 False"


def test_compiling_imports_it(printed_by):
    program = """
from ray_classy.torch_compat import compiled_graphs
compiled = torch.compile(lambda x: 2 * x + 1, backend="eager")
print(compiled(torch.ones(())).item(), compiled_graphs(), compiler_is_imported())
"""
    assert printed_by(program) == "3.0 1 True"


def test_a_submodule_is_the_one_that_the_package_has_imported(printed_by):
    program = """
import torch._dynamo.config as config
from torch._dynamo.utils import counters
import torch._dynamo.eval_frame
print(torch._dynamo.config is config is sys.modules["torch._dynamo.config"],
    torch._dynamo.utils.counters is counters, isinstance(torch._dynamo.eval_frame.OptimizedModule, type))
"""
    assert printed_by(program) == "True True True"


def test_a_submodule_that_does_not_exist_is_an_import_error(printed_by):
    program = """
try:
    import torch._dynamo.absent
except ModuleNotFoundError as error:
    print(error)
"""
    assert printed_by(program) == "No module named 'torch._dynamo.absent'"


def test_functions_that_were_disabled_before_stay_out_of_compiled_code(printed_by):
    program = """
def plus_one(x):
    return x + 1
plus_one.__module__ = "torchvision.part"
left_alone = torch.compiler.disable(plus_one)
print(left_alone(torch.ones(())).item(), compiler_is_imported())
try:
    torch.compile(lambda x: left_alone(x), backend="eager", fullgraph=True)(torch.ones(()))
except Exception as error:
    print(type(error).__module__, torch.compile(lambda x: left_alone(x), backend="eager")(torch.ones(())).item())
"""
    assert printed_by(program).splitlines() == ["2.0 False", "torch._dynamo.exc 2.0"]


def test_a_function_that_a_user_disables_imports_it(printed_by):
    program = """
@torch.compiler.disable
def left_alone(x):
    return x + 1
print(left_alone(torch.ones(())).item(), compiler_is_imported())
"""
    assert printed_by(program) == "2.0 True"


def test_threads_that_ask_for_it_at_once_get_the_same_modules(printed_by):
    program = """
import importlib
from concurrent.futures import ThreadPoolExecutor
names = [f"torch._dynamo.{name}" for name in ("config", "eval_frame", "trace_rules", "guards")] * 2
with ThreadPoolExecutor(8) as pool:
    modules = list(pool.map(importlib.import_module, names))
print([sys.modules[name] for name in names] == modules == [eval(name) for name in names], compiler_is_imported())
"""
    assert printed_by(program) == "True True"


def test_an_optimizer_that_was_made_before_steps_inside_a_compiled_function(printed_by):
    program = """
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([weight], lr=0.5)
weight.sum().backward()
optimizer.step()
torch.compile(optimizer.step, backend="eager")()
print(weight.tolist(), compiler_is_imported())
"""
    assert printed_by(program) == "[0.0, 0.0] True"


def test_a_setting_of_the_compiler_holds_for_ddp(printed_by):
    program = """
import torch.nn.parallel.distributed as parallel
torch._dynamo.config.optimize_ddp = "python_reducer"
print(torch._dynamo.utils.get_optimize_ddp_mode())
"""
    assert printed_by(program) == "python_reducer"


def test_other_names_of_its_modules_are_those_of_the_package(printed_by):
    program = """
rules = torch._dynamo.trace_rules
print(callable(rules.lookup), rules.lookup is torch._dynamo.trace_rules.lookup, compiler_is_imported())
"""
    assert printed_by(program) == "True True True"


def test_what_is_answered_in_its_place_is_what_it_answers(printed_by):
    program = """
before = torch._dynamo.utils.get_optimize_ddp_mode(), torch._dynamo.graph_break(), \\
    torch._dynamo.trace_rules.clear_lru_cache()
assert not compiler_is_imported()
torch._dynamo.config
print(before == (torch._dynamo.utils.get_optimize_ddp_mode(), torch._dynamo.graph_break(),
    torch._dynamo.trace_rules.clear_lru_cache()), compiler_is_imported())
"""
    assert printed_by(program) == "True True"


def test_what_torchvision_imported_before_asks_the_compiler(printed_by):
    program = """
import torchvision
assert not compiler_is_imported()
from torchvision.ops.roi_align import is_compile_supported
print(is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu"), compiler_is_imported())
"""
    assert printed_by(program) == "True True"


def test_a_compiler_that_is_imported_already_is_left_alone(printed_by):
    program = """
import torch._dynamo.config
package = sys.modules["torch._dynamo"]
defer_compiler()
print(sys.modules["torch._dynamo"] is package, compiler_is_imported())
"""
    assert printed_by(program) == "True True"


def test_deferring_it_twice_changes_nothing():
    defer_compiler()
    finders = list(sys.meta_path)
    defer_compiler()
    assert sys.meta_path == finders


def test_modules_are_looked_through_without_importing_it(printed_by):
    program = """
import inspect
[getattr(module, "__warningregistry__", None) for module in list(sys.modules.values())]
inspect.getmodule(compiler_is_imported)
print(compiler_is_imported())
"""
    assert printed_by(program) == "False"
