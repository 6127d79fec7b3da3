"""The parts of reading web sites: addresses, the guard before them, requests, robots, sitemaps, links."""
