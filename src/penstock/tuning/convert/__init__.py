"""Conversion of Hugging Face folders (safetensors + tokenizer.json) to GGUF files, with numpy alone."""
