"""`sfumato demo`: one page in the browser, on real models."""
