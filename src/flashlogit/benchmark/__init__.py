"""How fast a pass over X is, as a share of what the same machine can read; and whether its answer is right.

    cli -> kernel (measure, table, picture, JSON) | tune (launch table) | compare (two JSON files)

`contenders` and `torch_ways` say what competes, `truth` and `check` what is right, `clock` and `cuda_clock` how long
a call takes, `report` what is kept of it.
"""
