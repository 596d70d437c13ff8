"""What earlier builds made: the history of sizes, and versions to go back to."""
