"""Models that leave: as folders that diffusers loads without Sfumato, and as exported programs."""
