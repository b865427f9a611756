import gc


def pytest_collection_finish() -> None:
    # The trainers collect garbage at the end of every training, and would look through all that was imported: 0.3 s.
    gc.collect()
    gc.freeze()
