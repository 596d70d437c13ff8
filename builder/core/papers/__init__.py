"""The papers of images and bundles: what is in them, how they were made, which advisories concern them. Pure."""
