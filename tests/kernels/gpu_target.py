"""Compile the kernels that a call launches for an H100, or another GPU of NVIDIA, on a machine without one.

Run as a program, outside Triton's interpreter: each line of standard input is a JSON object that describes one call;
each line of output lists the resources of the kernels that the call launched. The interpreter can pass where the
compiler refuses, and only the compiler knows whether a tile fits the registers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from functools import partial, partialmethod
from pathlib import Path
from typing import Any
from unittest import mock

import torch

H100 = 90
"""Its compute capability."""
_SHARED = {86: (102_400, 101_376), 90: (233_472, 232_448), 100: (233_472, 232_448)}
"""Bytes of shared memory of a multiprocessor, and those that one program may take."""
_WARPS = {86: 48}
_TYPES = {torch.float64: "*fp64", torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
_TYPES |= {torch.uint8: "*u8", torch.int64: "*i64", torch.int32: "*i32"}


def main() -> None:
    from triton.runtime.jit import JITFunction

    import flashlogit_kernels as kernels

    for line in sys.stdin:
        call = json.loads(line)
        reports: list[dict[str, Any]] = []
        with mock.patch.object(JITFunction, "run", partialmethod(reported, reports, call)):
            steps = {"step": run_step, "models_step": run_models_step}
            steps.get(call["function"], partial(run_call, kernels))(call)
        print(json.dumps(reports), flush=True)


def reported(fn: Any, reports: list[dict[str, Any]], call: dict[str, Any], *args: Any, **kwargs: Any) -> None:
    """Add to the reports what a launch of the kernel takes, with what it issues where the call says if it has a border:
    to list that takes longer than to compile."""
    reports.append(compile_launch(fn, args, kwargs, call.get("target", H100), issued="border" in call))


def run_call(kernels: Any, call: dict[str, Any]) -> None:
    """Make the described call on CPU tensors; nothing is computed."""
    from flashlogit_kernels.gpu.launch import LaunchConfig

    storage, compute = getattr(torch, call["storage"]), getattr(torch, call["compute"])
    N, D = call["N"], call["D"]
    X = torch.empty(D, N, dtype=storage).t() if call.get("column_major") else torch.empty(N, D, dtype=storage)
    if call.get("padded"):
        X = kernels.pad_rows(X)
    extras: dict[str, Any] = {}
    if "launch" in call:
        extras["launch"] = LaunchConfig(*call["launch"])
    if call.get("everything"):
        extras |= {"sample_weight": torch.ones(N), "pos_weight": torch.ones(())}
        extras |= {"rows": torch.arange(N), "clamp_gradient": "exact"}
    if "eps" in call:
        extras["eps"] = call["eps"]
    if call.get("center"):
        extras["center"] = torch.ones(D)
    if call.get("border"):
        extras["border"] = True
    if call["function"] == "fit_tiny":
        from flashlogit_kernels.gpu.fits.tiny import fit_tiny

        some: dict[str, Any] = {"l2": 0.0 if call.get("unpenalised") else 0.1}
        if call.get("everything"):
            some |= {"rows": torch.arange(N), "starts": torch.arange(0, N + 1, N // 2)}
            some |= {"l2": torch.ones(len(some["starts"]) - 1, dtype=torch.float64)}
        fit_tiny(X, torch.ones(N, dtype=torch.uint8), tolerance=1e-6, **some)
        return
    if call["function"] == "mean_optimum":
        from flashlogit_kernels.gpu.fits.tiny import TinyFits, mean_optimum

        ones = torch.ones(D + 1, dtype=torch.float64)
        mean_optimum(TinyFits.empty(X, 132), null=ones, center=ones[:D], scale=ones, folded=True)
        return
    if call["function"] == "models_onepass":
        from flashlogit_kernels.models import Models

        K, C, one = call["K"], call.get("C", 1), torch.ones(1, N, dtype=torch.uint8)
        models = Models(one, one, *torch.zeros(3, K, dtype=torch.int32), classes=C)
        zeros = torch.zeros(D + 1, K * C, dtype=compute)
        along = zeros[D] if call.get("along") else None
        kernels.models_onepass(X, models, zeros[:D], zeros[D], along=along)
        return
    function = getattr(kernels, call["function"])
    if call["function"] == "label_sums":
        function(torch.ones(N, dtype=storage), *([torch.ones(N)] if call.get("everything") else []))
        return
    if call["function"] == "column_moments":
        function(X, extras.get("rows"))
        return
    if call["function"] in ("column_sums", "hessian_product"):
        vectors = [torch.ones(N), torch.ones(D)][: 1 if call["function"] == "column_sums" else 2]
        function(X, *vectors, compute_dtype=compute, **extras)
        return
    y = torch.ones(N) if call.get("everything") else torch.ones(N, dtype=torch.bool)
    if call["function"] == "bce_onepass" and call.get("everything"):
        extras |= {"residual": True, "curvature": True, "logits": True}
    function(X, y, torch.ones(D), torch.ones(1), compute_dtype=compute, **extras)


def run_step(call: dict[str, Any]) -> None:
    """Make the described step of a fit with an intercept, and take up a Hessian in Newton's method."""
    from flashlogit_kernels.gpu.steps.step import Step

    D, P = call["D"], call["D"] + 1
    ones = torch.ones(P, dtype=torch.float64)
    step = Step(ones, ones, center=None, weight_sum=1.0, intercept=True, method=call["method"], device=ones.device)
    step.advance(torch.zeros(1, 2 * D + 6, dtype=torch.float64), exact=True)
    if call["method"] == "newton":
        step.hessian(torch.zeros(1, 2 * D + 6 + D * D, dtype=torch.float64), first=True)


def run_models_step(call: dict[str, Any]) -> None:
    """Make the described steps of 100 models with an intercept: from sums, proving gaps of two classes, and on."""
    from flashlogit_kernels.gpu.steps.many_step import ModelsStep
    from flashlogit_kernels.models import ModelSums

    D, C, K = call["D"], call.get("C", 1), 100
    ones = torch.ones(D + 1, K * C, dtype=torch.float64)
    each, of_models = ones[0, :K], ones[:, :K]
    step = ModelsStep(
        of_models, of_models, center=ones[:D, 0], weight_sum=each, goal=each, floor=each, classes=C, intercept=True,
        memory=20, curved=0.0, noise=0.0, rough_noise=0.0, near=1.0, refusals=1, stalled=1,
    )  # fmt: skip
    sums = ModelSums(each, each, ones[:D], ones[D])
    if C == 1:
        sums = sums._replace(border=ones[:D], corner=ones[D])
    step.next_points(step.judge(sums, rough=False, proofs=True), torch.float32)


def compile_launch(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], target: int, *, issued: bool
) -> dict[str, Any]:
    """Compile one launch as Triton's own launcher would specialise it, and read off its resources."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from flashlogit_kernels.gpu.resources import DeviceLimits, Resources, resident_programs

    bound = dict(zip(fn.arg_names, args, strict=False)) | kwargs
    options = ("num_warps", "num_ctas", "num_stages", "enable_fp_fusion", "maxnreg")
    options = {name: bound[name] for name in options if name in bound}
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(fn.params):
        value = bound[parameter.name]
        specialised = not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (specialised and type(value) is int and value == 1):
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = _TYPES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "i32" if value < 2**31 else "i64"
            if specialised and value % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    found = resources(compiled.asm, issued=issued)
    shared, shared_by_program = _SHARED[target]
    limits = DeviceLimits(65_536, _WARPS.get(target, 64), shared, shared_by_program, 16 if target == 86 else 32)
    takes = Resources(found["registers"], compiled.metadata.shared)
    return {
        "kernel": fn.__name__,
        "fits": compiled.metadata.shared <= shared_by_program,
        "programs": resident_programs(takes, options["num_warps"], limits),
        "shared": compiled.metadata.shared,
        "block_n": constants.get("BLOCK_N"),
        "num_warps": options["num_warps"],
        "cluster_barriers": compiled.asm["ptx"].count("barrier.cluster.arrive"),
        "specialised": [p.name for p in fn.params if not p.is_constexpr and not p.do_not_specialize],
        "float64": re.findall(r"arith.constant dense<([^>]*)> : tensor<\d+xf64>", compiled.asm["ttir"]),
    } | found


def resources(asm: dict[str, Any], *, issued: bool) -> dict[str, Any]:
    """Registers and spilled bytes a thread, the widest load in bytes, and, if asked, what the longest loop issues."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        tools = [("cuobjdump", "--dump-resource-usage"), *([("nvdisasm", "-c")] if issued else [])]
        log, *listing = (
            subprocess.run(
                [Path(triton.__file__).parent / "backends/nvidia/bin" / tool, option, file.name],
                capture_output=True, text=True, check=True,
            ).stdout
            for tool, option in tools
        )  # fmt: skip
    usage = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", log)}
    loads = re.findall(r"ld\.global\S*?(?:\.v(\d))?\.b(\d+)", asm["ptx"])
    widths = [int(vector or 1) * int(bits) // 8 for vector, bits in loads]
    widths += [int(size, 0) for size in re.findall(r"cp\.async\.c[ag]\.\S+ .*?\].*?\], (\w+)", asm["ptx"])]
    found: dict[str, Any] = {"registers": usage["REG"], "spilled": usage["STACK"] + usage["LOCAL"]}
    return found | {"widest_load": max(widths, default=0), "issued": [of_longest_loop(each) for each in listing]}


def of_longest_loop(listing: str) -> list[int]:
    """The longest loop, which is that over tiles: its instructions, how many of them are float64 arithmetic, and how
    many move numbers between threads."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    loop: list[str] = []
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(.*);", line):
            instructions.append(instruction[1])
            jump = re.match(r"BRA\b.*(\.L_\w+)", instruction[1])
            start = labels.get(jump[1], len(instructions)) if jump else len(instructions)
            loop = max(loop, instructions[start:], key=len)
    float64 = ("DADD", "DMUL", "DFMA", "DSETP")
    return [len(loop), sum(each.startswith(float64) for each in loop), sum(each.startswith("SHFL") for each in loop)]


if __name__ == "__main__":
    main()
