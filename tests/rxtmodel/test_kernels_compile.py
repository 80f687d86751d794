"""What the interpreter runs Triton's compiler may refuse: compiled here, for a device elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SAMPLE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rxtmodel.kernels.sample import sample

vocabulary = int(sys.argv[1])
types = dict(
    logits_ptr="*fp32", order_ptr="*i32", banned_ptr="*fp32", flags_ptr="*i32", numbers_ptr="*fp32",
    top_k_ptr="*i32", seed_ptr="*i64", drawn_ptr="*i64", seen_ptr="*i8", bias_ptr="*fp32",
    token_ptr="*i32", pos_ptr="*i32", places_ptr="*i32", turn_ptr="*i32", turn_stride="i32",
    stride="i32", nobody="i32",
)
tiles = max(2, 1 << (-(-vocabulary // 2048) - 1).bit_length())
given = dict(TURNS=4, V=vocabulary, PDL=True, TILE=2048, TILES=tiles)
names = sample.arg_names
source = ASTSource(
    sample,
    {name: types.get(name, "constexpr") for name in names},
    {(names.index(name),): value for name, value in given.items()},
)
found = triton.compile(
    source, target=GPUTarget("cuda", 90, 32),
    options=dict(num_warps=16, launch_pdl=True, maxnreg=64),
)
print(len(found.asm["cubin"]))
"""


@pytest.mark.parametrize("vocabulary", [300, 10_000, 151_936])
def test_the_kernel_that_draws_compiles(vocabulary, tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "TRITON_CACHE_DIR": str(tmp_path),
    }
    script = tmp_path / "compile.py"  # a kernel's source must lie in a file
    script.write_text(SAMPLE)
    done = subprocess.run(
        [sys.executable, str(script), str(vocabulary)],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": os.getcwd()},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1_000
