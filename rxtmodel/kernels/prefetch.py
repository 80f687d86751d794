"""Asking for memory that a kernel will read as soon as it may."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def ask(at, ok):
    """Have the lines of 128 bytes at pointers ``at`` brought to the second cache, where ``ok``."""
    tl.inline_asm_elementwise(
        """
        {
            .reg .pred wanted;
            setp.ne.s32 wanted, $2, 0;
            @wanted prefetch.global.L2 [$1];
            mov.u32 $0, 0;
        }
        """,
        "=r,l,r",
        [at.to(tl.int64), tl.broadcast_to(ok, at.shape).to(tl.int32)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
