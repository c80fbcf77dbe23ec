"""What scripts/benchmark.py is made of, and no part of what is installed.

    benchmark.py -> kernel | fit | tune | device | report (compare)

`clock` says how long a call takes, `problems` what is timed and what is right; `contenders` are the libraries that
`fit` runs, `report` is what is kept of a run. `device` runs the stages in `stages`, `fit` and `tune`, in a `bench`.
"""
