"""Models from nothing: the tokenizer, template and configuration that training from scratch begins with."""
