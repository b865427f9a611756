"""What a process does with the memory that its tensors free."""

import platform
import resource

import pytest
import torch

from dpo_train.memory.allocator import disable_malloc_trim


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory when asked to")
def test_a_large_tensor_is_made_again_without_asking_the_system_for_its_pages() -> None:
    assert disable_malloc_trim()
    pages = 2**28 // resource.getpagesize()
    faults = []
    # Each is 16 MiB smaller than the one before, in whose place something small may have settled by then.
    for size in (2**26, 60 * 2**20, 56 * 2**20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(size)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert max(faults[1:]) < pages / 100
