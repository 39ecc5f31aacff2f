"""The commands of `bpcore`, a module each: `add` declares its options, `run` does it."""
