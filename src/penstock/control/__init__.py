"""The control plane's web side: REST, OTLP ingest, health. Thin handlers over the rooms below."""
