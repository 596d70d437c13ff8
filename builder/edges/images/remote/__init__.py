"""Images that others have built."""
