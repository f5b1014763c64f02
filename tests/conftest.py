import os

# No progress bars; and one set of threads, so that seeds mean the same in every test.
os.environ.setdefault("SOFTEELS_HEADLESS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
