"""The memory of the machine: how much of it a micro-batch takes, and what becomes of it afterwards. Knows no data."""

import ctypes
import platform
from typing import Any

import torch

#: Of glibc's malloc.h: the free memory above which the heap shrinks, and the size from which a block is a mapping.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_ALWAYS_KEPT = 2**31 - 1


def suggested_tokens(model: Any, device: torch.device) -> int:
    """Tokens of a micro-batch that a device computes well and has the memory for.

    A CPU's matrix products are as fast per token at 1,000 tokens as at more, and activations then stay small. On a GPU
    half of what weights, gradients and Adam's moments leave free is taken, at a rough estimate of 16 hidden and 3
    intermediate vectors a layer.
    """
    if device.type != "cuda":
        return 1024
    config = model.config.get_text_config()
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    free, _ = torch.cuda.mem_get_info(device)
    hidden, inner = config.hidden_size, getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    each = config.num_hidden_layers * (16 * hidden + 3 * inner) * 2 + 4 * config.vocab_size
    return int(min(max((free - 3 * weights) / 2 / each, 2048), 65536))


def disable_malloc_trim() -> bool:
    """Let this process keep the memory that its tensors free, for the next ones.

    By default the C library gives large blocks back to the system, and each training step pays for all their pages
    again: they are cleared and mapped one by one. Whether that could be changed is returned; only glibc knows how, and
    only for its main thread.
    """
    # Windows has no library without a name.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.system() == "Linux" else None
    return mallopt is not None and all(
        mallopt(setting, _ALWAYS_KEPT) == 1 for setting in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    )
