"""Networks: architectures, noise layers, cards, variants; `load_model` finds them by reference."""
