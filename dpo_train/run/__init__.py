"""One training run of the command line: options, inputs, plan, training, outputs."""
