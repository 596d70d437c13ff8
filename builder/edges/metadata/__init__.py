"""Films and songs: what files, their names and two services say of them."""
