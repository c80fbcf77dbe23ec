"""What scripts/benchmark.py is made of, and no part of what is installed.

    benchmark.py -> kernel | fit | tune | device | compare

`clock` says how long a call takes, `problems` what is timed and `truth` what is right; `contenders` are the libraries
that `fit` runs, `report` is what is kept of a run. `device` runs the stages in `stages`, `device_fits` and `tune`.
"""
