"""Training: one objective, one file; one readable loop; recipes in, zoo folders out."""
