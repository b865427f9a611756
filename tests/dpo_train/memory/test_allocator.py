"""Memory that a process keeps after its tensors are freed."""

import platform
import resource

import pytest
import torch

from dpo_train.memory.allocator import disable_malloc_trim


# Counts page faults of the machine, and changes malloc for the rest of the process.
@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_the_memory_of_a_freed_tensor_is_reused_without_page_faults() -> None:
    assert disable_malloc_trim()
    pages = 2**28 // resource.getpagesize()
    faults = []
    # Each tensor is 16 MiB smaller than the one before, because something small may have been allocated in its place.
    for size in (2**26, 60 * 2**20, 56 * 2**20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(size)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert max(faults[1:]) < pages / 100


@pytest.mark.skipif(platform.libc_ver()[0] == "glibc", reason="glibc has these settings")
def test_other_c_libraries_are_left_as_they_are() -> None:
    assert not disable_malloc_trim()
