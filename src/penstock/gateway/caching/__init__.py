"""The parts of the response cache: what makes two requests equal, which meanings are near, who shares a call in flight."""
