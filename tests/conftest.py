import gc
import os

# The tests run in several processes: torch's threads would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    # The trainers collect garbage at the end of every training, and would look through all that was imported: 0.3 s.
    gc.collect()
    gc.freeze()
