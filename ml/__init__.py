"""From labelled posts to a model folder, and from a model folder to probabilities. A library of its own."""
