"""Learning the score of noisy images: coordinates, network, objective, training, model file."""
