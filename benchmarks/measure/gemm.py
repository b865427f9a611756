"""Matrix-multiply rate of this machine on the shapes of a model; prints JSON.

Every weight matrix is multiplied as in a training step: forward, gradient of the input, gradient of the weight.
"""

import argparse
import json
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=900)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model))
    shapes = [tuple(module.weight.shape) for module in model.modules() if isinstance(module, torch.nn.Linear)]
    dtype = getattr(torch, options.dtype)
    seconds = flops = 0.0
    for shape in sorted(set(shapes)):
        weight, inputs = torch.randn(shape, dtype=dtype), torch.randn(options.tokens, shape[1], dtype=dtype)
        # Results are written to preallocated tensors: allocating memory is not part of the limit.
        outputs, of_inputs, of_weight = inputs @ weight.T, torch.empty_like(inputs), torch.empty_like(weight)
        most = 0
        start = time.perf_counter()
        while time.perf_counter() - start < options.seconds / len(set(shapes)) or most < 2:
            torch.mm(outputs, weight, out=of_inputs)
            torch.mm(outputs.T, inputs, out=of_weight)
            torch.mm(inputs, weight.T, out=outputs)
            most += 1
        seconds += (time.perf_counter() - start) / most * shapes.count(shape)
        flops += 6 * options.tokens * shape[0] * shape[1] * shapes.count(shape)
    print(json.dumps({"flops_per_s": flops / seconds}))


if __name__ == "__main__":
    main()
