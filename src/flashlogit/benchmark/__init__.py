"""How fast a pass over X is, as a share of what the same machine can read, and whether its answer is right; and how
fast a whole fit is, to the same objective as others'.

    cli -> kernel (measure, table, picture, JSON) | fit (the same for fits) | compare (two JSONs)

`contenders` and `torch_ways` say what competes, `truth` and `check` what is right, `clock` and `cuda_clock` how long
a call takes, `report` what is kept of it. Files of `fit` begin with its name: `fit_problems` and `fit_truth` say
what is solved and how well, `fit_contenders_*` who competes (a file for each library), `fit_ladder` how they run.
"""
