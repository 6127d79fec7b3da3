"""The console: server-rendered pages and small islands over the rooms below."""
