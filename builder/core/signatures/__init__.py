"""The formats of signatures that others' programs check: cosign's of images, OpenSSF's of models. Pure."""
