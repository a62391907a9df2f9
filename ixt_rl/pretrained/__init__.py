"""Released models as ordinary Hugging Face folders: from packages that hold them, and from GGUF files."""
