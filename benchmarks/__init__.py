"""Measurements of speed. ``python -m benchmarks`` runs them; what they found is in ``results/``.

Claims about speed are made here and not in tests, which machines make noisy. What is compared is
interleaved in one run, and compared round by round; medians are reported, beside a floor where
there is one: what the machine needs at least.
"""
