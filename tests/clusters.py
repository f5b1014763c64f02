"""What the Dask clusters of tests have in common: no dashboard, and a port of their own beside other clusters."""

CLUSTER = {"threads_per_worker": 1, "dashboard_address": None, "scheduler_kwargs": {"dashboard_address": ":0"}}
