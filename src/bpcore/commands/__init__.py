"""The commands of `bpcore`, a module each: `add_options` declares its options, `run` does it."""
