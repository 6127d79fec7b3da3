"""Google's generateContent protocol, as AI Studio and Vertex AI speak it."""
