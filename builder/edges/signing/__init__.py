"""Keys that sign images, bundles and models: in a file, or in hardware that a command asks."""
