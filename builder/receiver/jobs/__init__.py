"""What the loader knows of jobs: their settings, their folders, their containers, the images that they need."""
