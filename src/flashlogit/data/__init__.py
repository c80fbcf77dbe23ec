"""Data: files and other sources, made into standardised rows on the device.

`loading` serves training; `prediction` reads rows for a model that exists already, and needs no torch.
"""
