"""Effects: everything that touches a disk, a process, a clock or a network."""
