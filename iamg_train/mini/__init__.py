"""The mini world: drawn posters, invented users, and a small Stable Diffusion family trained on them."""
