"""Rows of datasets made ready to train on: messages, then token ids and loss masks, then the files a trainer reads."""
