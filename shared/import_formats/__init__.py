"""Files of karma, read as streams in any known format: each line becomes records of the contract, or a fault."""
