"""What images and bundles consist of, on paper."""
