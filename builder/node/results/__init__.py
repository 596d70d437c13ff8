"""The results of a batch: where they are, how they are looked at and published, what is told of them."""
