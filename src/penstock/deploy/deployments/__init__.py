"""Deployments: model versions that engines serve under routes of their own."""
