"""Whom calls go to: provider rows and prices, the transport to them, and the engines that run weights here."""
