"""What a process does with the memory that its tensors free."""

import platform
import resource

import pytest
import torch

from dpo_train.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory when asked to")
def test_a_large_tensor_is_made_again_without_asking_the_system_for_its_pages() -> None:
    assert keep_freed_memory()
    pages = 2**28 // resource.getpagesize()
    faults = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**26)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[-1] < pages / 100
