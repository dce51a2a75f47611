"""Simulates Inductor's kernels for an H100 without having one: launches and bytes moved of a function of tensors.

A function is traced on fake tensors, forward and backward; its graph is moved to the device and lowered as in
torch.compile. Triton compiles nothing, and nothing runs. `imagine` changes torch for the rest of the process, which
must therefore do nothing else.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

CPU, DEVICE = torch.device("cpu"), torch.device("cuda", 0)

H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    total_memory=80 << 30,
    shared_memory_per_block_optin=232448,
    L2_cache_size=50 << 20,
)
"""The device properties that Inductor queries, from the vendor's data sheet."""

# Assumed rates; docs/training.md compares their results with three steps timed on an H100.
BANDWIDTH = 2.5e12
"""Bytes per second: three quarters of the data sheet's 3.35e12."""
PRODUCT_RATE = 600e12
"""Operations per second of matrix products in bf16: three fifths of the data sheet's 989e12."""
LAUNCH_SECONDS = 3e-6
"""Overhead of a kernel in a CUDA graph beyond moving its bytes: filling the processors, draining them, and starting the
next kernel."""


class NotHere(Exception):
    """The installed versions cannot lower graphs without a GPU; the message is one line."""


@dataclass(frozen=True)
class Work:
    """The work of a GPU.

    Bytes count each kernel's inputs and outputs once. The true traffic is lower if caches hold some of them, and higher
    for scattered reads.
    """

    kernels: int = 0
    """Triton kernels."""
    calls: int = 0
    """Library kernels: matrix products, and the operations that Inductor leaves to torch."""
    kernel_bytes: int = 0
    call_bytes: int = 0
    flops: int = 0
    """Floating-point operations of the library kernels."""
    call_seconds: float = 0.0
    """Modelled: each library kernel takes the longer of the times for its bytes and its operations."""

    @property
    def launches(self) -> int:
        return self.kernels + self.calls

    @property
    def seconds(self) -> float:
        """Modelled: launches one after another; Triton kernels take the time for their bytes."""
        return self.kernel_bytes / BANDWIDTH + self.call_seconds + self.launches * LAUNCH_SECONDS

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def kernel(moved: int) -> Work:
    """One kernel of Triton, or of torch itself, that moves `moved` bytes."""
    return Work(kernels=1, kernel_bytes=moved)


def call(moved: int, flops: int) -> Work:
    """One library kernel that moves `moved` bytes and does `flops` operations."""
    return Work(calls=1, call_bytes=moved, flops=flops, call_seconds=max(moved / BANDWIDTH, flops / PRODUCT_RATE))


def imagine() -> None:
    """Make Inductor see an H100 for the rest of this process. Raises `NotHere` if this torch cannot."""
    try:
        _imagine()
        weight, x = (torch.empty(64, 64, device="meta", requires_grad=wanted) for wanted in (True, False))
        found = Lowering(lambda weight, x: (x @ weight).relu().sum(), weight, x).compiled()
        if (found.calls, found.flops) != (2, 2 * 2 * 64**3):
            raise ValueError(f"expected two products of 64 x 64, got {found}")
    except Exception as error:  # private parts of torch raise anything in another version
        words = " ".join(str(error).split())
        raise NotHere(
            f"torch {torch.__version__} cannot lower graphs without a GPU: {type(error).__name__}: {words}"
        ) from error


def _private(name: str) -> Any:
    """Import a private, untyped module, which other versions of torch may lack, only when it is needed."""
    return importlib.import_module(name)


def _imagine() -> None:
    interfaces, config = _private("torch._dynamo.device_interface"), _private("torch._inductor.config")
    capability = 10 * H100.major + H100.minor
    answers = {
        "current_device": DEVICE.index,
        "device_count": 1,
        "is_available": True,
        "get_device_properties": H100,
        "get_compute_capability": capability,
        "is_triton_capable": True,
        "raise_if_triton_unavailable": None,
    }
    functions = {name: staticmethod(lambda *_, answer=answer: answer) for name, answer in answers.items()}
    imagined = type("Imagined", (interfaces.CudaInterface,), functions)
    list(interfaces.get_registered_device_interfaces())  # else torch would register its own interface later
    for name in (DEVICE.type, str(DEVICE)):
        interfaces.register_interface_for_device(name, imagined)
    cuda: Any = torch.cuda
    cuda.get_device_properties, cuda.current_device = functions["get_device_properties"], functions["current_device"]
    target = _private("triton.backends.compiler").GPUTarget(DEVICE.type, capability, H100.warp_size)
    _private("triton.runtime").driver.set_active(SimpleNamespace(get_current_target=lambda: target))
    _private("torch.fx.experimental.proxy_tensor").CONSTANT_NUMEL_LIMIT = 0  # else constants are computed on the device
    config.joint_graph_constant_folding = False  # would compute on the device, too
    config.shape_padding = False  # would time kernels on the device
    config.compile_threads = 1
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)  # no warnings on its choices


class _Traced(Exception):
    """Ends a trace before anything runs; carries the graph, its inputs and the partitioner's arguments."""


def _leave(graph: fx.GraphModule, inputs: Any, **told: Any) -> Any:
    raise _Traced(graph, inputs, told)


class _On(fx.Interpreter):
    """Runs a graph with every device in it replaced by `device`."""

    def __init__(self, graph: fx.GraphModule, device: torch.device) -> None:
        super().__init__(graph)
        self._device = device

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(target, *self._moved(args, kwargs))

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_method(target, *self._moved(args, kwargs))

    def _moved(self, *given: Any) -> Any:
        return tree_map_only(torch.device, lambda _: self._device, given)


class Lowering:
    """A function of tensors on the imagined device."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Trace `function` as torch.compile would. `arguments` hold tensors on the device `meta`, alone or in lists and
        objects. If one of the tensors requires a gradient, the backward pass is traced as well."""
        found: list[tuple[fx.GraphModule, list[Tensor]]] = []

        def keep(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
            found.append((graph, inputs))
            return graph.forward

        torch.compile(function, backend=keep, fullgraph=True, dynamic=False)(*arguments)
        ((graph, self._arguments),) = found
        self._mode = FakeTensorMode()
        traced = _private("torch._functorch.aot_autograd").aot_function(
            _On(graph, CPU).run,
            _leave,
            _leave,
            _leave,
            {},
            keep_inference_input_mutations=True,
            inference_compiler=_leave,
        )
        # For GPU tensors autograd would ask the driver for a stream, so the trace is on the CPU and is moved later.
        faked = [self._fake(t, CPU) for t in self._arguments]
        try:
            with self._mode:
                traced(*faked)
        except _Traced as end:
            self._graph, inputs, self._told = end.args
        self._inputs = tree_map_only(Tensor, lambda t: self._fake(t, DEVICE), inputs)
        self._trained = bool(self._told)

    def gradients(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        """Tensors like those that the backward pass returns for `arguments`, on the device `meta`."""
        (output,) = self._graph.graph.find_nodes(op="output")
        results = output.args[0][self._told["num_fwd_outputs"] :]
        by_argument = {id(t): node.meta["val"] for t, node in zip(self._arguments, results, strict=True) if node}
        like = [by_argument[id(t)] for t in arguments]
        return [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta") for t in like]

    def compiled(self) -> Work:
        """The work as compiled by torch.compile."""
        compile_fx = _private("torch._inductor.compile_fx")
        whole = self._moved(compile_fx.select_decomp_table())
        with compile_fx.V.set_fake_mode(self._mode):
            if not self._trained:
                compile_fx._recursive_joint_graph_passes(whole)
                return self._lowered(whole, is_inference=True, is_backward=False)
            forward, backward = compile_fx.partition_fn(whole, self._inputs, **self._told)
        passes = (forward, False), (backward, True)
        return sum((self._lowered(graph, is_inference=False, is_backward=back) for graph, back in passes), Work())

    def uncompiled(self) -> Work:
        """The work in eager mode, one operation after the other."""
        done = Work()
        for node in self._moved({}).graph.nodes:
            if node.op == "call_function" and not _is_view(node):
                moved, flops = _moved_by(node), _flops(node)
                done += kernel(moved) if flops is None else call(moved, flops)
        return done

    def _fake(self, t: Tensor, device: torch.device) -> Tensor:
        with self._mode:
            fake = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device)
        return fake.requires_grad_(t.requires_grad)

    def _moved(self, decompositions: dict[Any, Any]) -> fx.GraphModule:
        """The graph moved to the device."""
        make_fx = _private("torch.fx.experimental.proxy_tensor").make_fx
        run = _On(self._graph, DEVICE).run

        def joint(primals: Any, tangents: Any) -> Any:  # the partitioner requires these names
            return run(*primals, *tangents)

        with self._mode, fx.traceback.preserve_node_meta():
            moved = make_fx(joint if self._trained else run, decompositions)(*self._inputs)
        moved.graph.eliminate_dead_code()
        moved.recompile()
        return moved

    def _lowered(self, graph: fx.GraphModule, is_inference: bool, is_backward: bool) -> Work:
        compile_fx = _private("torch._inductor.compile_fx")
        V = compile_fx.V
        inputs = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
        with V.set_fake_mode(self._mode), compile_fx.DebugContext(), torch.no_grad():
            compile_fx.view_to_reshape(graph)
            compile_fx.fake_tensor_prop(graph, inputs)
            compile_fx._recursive_post_grad_passes(graph, is_inference)
            lowering = compile_fx.GraphLowering(graph, inputs, is_inference=is_inference, is_backward=is_backward)
            with V.set_graph_handler(lowering), V.set_extern_kernel_nodes([]):
                lowering.run(*inputs)
                lowering.init_wrapper_code()
                lowering._update_scheduler()
                return sum(map(_scheduled, lowering.scheduler.nodes), Work())


def _scheduled(node: Any) -> Work:
    """The work of one scheduler node after fusion: one kernel, or several if it has too many tensors.

    Generating kernel code is left out: it is slow and changes neither the number of kernels nor the bytes.
    """
    scheduler = _private("torch._inductor.scheduler")
    if isinstance(node, scheduler.NopKernelSchedulerNode) or isinstance(node.node, scheduler.ir.MultiOutput):
        return Work()
    if isinstance(node, scheduler.ForeachKernelSchedulerNode):
        arguments = sum(len(part.read_writes.reads) + len(part.read_writes.writes) for part in node.snodes)
        return Work(
            kernels=-(-arguments // scheduler.config.combo_kernel_max_num_args),
            kernel_bytes=sum(map(_touched, node.snodes)),
        )
    if not node.is_extern():
        return kernel(_touched(node))
    origin = node.node.get_origin_node()
    flops = _flops(origin) if origin else None
    # For matrix products count the views themselves: Inductor would count the whole tensors behind the views.
    return call(int(node.get_read_write_buffers_sizes()) if flops is None else _moved_by(origin), flops or 0)


def _touched(node: Any) -> int:
    """Bytes that a kernel reads and writes: per buffer the bytes touched, at most the buffer's size."""
    scheduler = _private("torch._inductor.scheduler")
    touched: Counter[str] = Counter()
    for dep in node.read_writes.reads_and_writes():
        if isinstance(dep, scheduler.MemoryDep):  # other dependencies move no bytes
            touched[dep.name] += dep.numbytes_hint()
    # This leaves out buffers that are internal to the fused kernel.
    whole = node.get_read_write_buffer_accesses(include_reads=True, include_writes=True)
    return sum(min(int(size), touched[name]) for name, size in whole.items())


def _moved_by(node: fx.Node) -> int:
    """Bytes of an operation's inputs and outputs."""
    tensors = [*(of.meta.get("val") for of in node.all_input_nodes), *tree_leaves(node.meta.get("val"))]
    return sum(map(_bytes, tensors))


def _flops(node: fx.Node) -> int | None:
    """Floating-point operations of a matrix product or convolution; None for any other operation."""
    count = flop_registry.get(getattr(node.target, "overloadpacket", None))
    if count is None:
        return None
    values = [argument.meta["val"] if isinstance(argument, fx.Node) else argument for argument in node.args]
    return int(count(*values, out_val=node.meta["val"]))


def _is_view(node: fx.Node) -> bool:
    """Whether `node` launches no kernel."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return True  # `getitem` on several results
    returned = [r.alias_info for r in node.target._schema.returns]
    return any(a is not None and not a.is_write for a in returned) or node.target is torch.ops.aten._unsafe_view.default


def _bytes(value: Any) -> int:
    """Bytes of a tensor in memory; dimensions made by `expand` count once."""
    if not isinstance(value, Tensor):
        return 0
    return value.element_size() * math.prod(n for n, stride in zip(value.shape, value.stride(), strict=True) if stride)
