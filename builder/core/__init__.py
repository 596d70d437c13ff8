"""Pure planning: nothing here touches a disk, a process, a clock or a network."""
