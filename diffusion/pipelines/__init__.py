"""Models of diffusers as ours: networks, schedulers, VAEs and text encoders of its pipelines."""
