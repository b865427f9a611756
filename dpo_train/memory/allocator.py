"""Memory of the device: the token budget that fits, and the C library's allocator."""

import ctypes
import platform
from typing import Any

import torch

#: Settings of glibc's malloc.h: free memory above which the heap shrinks, and block size above which memory is mapped.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def suggested_tokens(model: Any, device: torch.device) -> int:
    """Return a number of tokens per micro-batch that a device computes efficiently and has the memory for.

    On a CPU, matrix products are no faster per token above 1,000 tokens, and activations stay small. On a GPU, this
    takes half of the memory left by weights, gradients and Adam's moments, at an estimate of 16 hidden and 3
    intermediate vectors per layer and token.
    """
    if device.type != "cuda":
        return 1024
    config = model.config.get_text_config()
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    free, _ = torch.cuda.mem_get_info(device)
    hidden, inner = config.hidden_size, getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    bytes_per_token = config.num_hidden_layers * (16 * hidden + 3 * inner) * 2 + 4 * config.vocab_size
    return int(min(max((free - 3 * weights) / 2 / bytes_per_token, 2048), 65536))


def disable_malloc_trim() -> bool:
    """Let this process keep freed memory for its next tensors; return True if the C library is glibc and accepted it.

    By default, glibc returns large blocks to the system, and each training step pays for clearing and mapping all of
    their pages again. This changes the whole process, so only the command calls it.
    """
    # Windows has no unnamed library.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.system() == "Linux" else None
    return mallopt is not None and all(
        mallopt(setting, _NEVER) == 1 for setting in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    )
