"""The commented `penstock.toml` that `penstock init` writes: every section, each with its default or an example."""

from penstock.main.errors import SettingsExist
from penstock.main.home_files import create_home
from penstock.spec.home import Home

TEMPLATE = """\
# Settings of this Penstock. Everything is optional: without this file the embedded model, local servers named by
# OLLAMA_HOST, VLLM_BASE_URL or LLAMACPP_BASE_URL, and every provider whose usual key variable is set
# (OPENAI_API_KEY, ANTHROPIC_API_KEY …) are there by themselves.
# `penstock config check` reads it and says what is wrong; a running Penstock takes up changes within seconds.
# No secret belongs in here: name the environment variable that holds it.

# Providers, routes, limits and prices can also be made by `penstock provider create …`, REST and console. What stands
# in this file is changed in this file only; `penstock config plan` says what a change of it would do.

# --- Providers: where calls can be sent --------------------------------------------------------------------------
# [providers.local]
# dialect = "openai"                       # or responses, anthropic, gemini, bedrock, cohere
# base_url = "http://127.0.0.1:9100/v1"    # ends before /chat/completions
# api_key_env = "LOCAL_KEY"                # optional; or secret = "NAME" of `penstock secret set`
# timeout_s = 600.0                        # a whole call
# connect_timeout_s = 5.0
# first_byte_timeout_s = 120.0
# idle_timeout_s = 120.0                   # between two pieces of a reply

# --- Routes: the names clients put into `model` ------------------------------------------------------------------
# [routes."gpt-4o-mini"]
# targets = [{ provider = "local", model = "gpt-4o-mini", weight = 1 }]
# balance = "weighted"                     # or random, least-busy, latency, cost
# deadline_s = 120.0                       # the whole call with all its attempts
# retry = { max_attempts = 3 }
# on_loss = "warn"                         # or refuse, drop: what a target cannot be told

[limits]
# max_body_bytes = 26214400                # 25 MiB
# max_file_bytes = 536870912               # 512 MiB: one file at /v1/files
# max_project_file_bytes = 10737418240     # 10 GiB: all files of a project
# max_json_depth = 64
# max_concurrent_calls = 2000              # per gateway worker
# redis_url_env = "PENSTOCK_REDIS_URL"     # counters of several machines

# --- Limits and budgets: requests, tokens or usd in a minute, hour, day, week or month ---------------------------
# [[limits.rules]]
# name = "each-project"
# scope = "project"                        # or all, key, user, route, model; match = "NAME" for one of them
# unit = "usd"
# amount = 50.00
# window = "month"

# --- Prices that win over the price table, in US dollars per million tokens --------------------------------------
# [[prices]]
# provider = "local"
# model = "gpt-4o*"
# input_uncached = 0.15
# output_text = 0.60

[storage]
# control_url = "postgresql://user@host/penstock"    # default: SQLite in the home
# control_url_env = "PENSTOCK_CONTROL_URL"           # instead, when the URL holds a password
# blobs_url = "s3://bucket/prefix"                   # default: files in the home

[traces]
# capture_payloads = true                  # false: spans keep tokens, money and times, but no text
# max_payload_bytes = 1048576
# estimate_cost = true                     # of calls that are sent in without a cost, from the price table
# grpc_port = 4317                         # OTLP over gRPC, beside the console; 0: none
# [traces.retention]                       # by default everything is kept
# payload_days = 30                        # what was asked and answered
# span_days = 365                          # whole traces; what they cost stays
# [traces.projects.clinic]
# capture_payloads = false
# payload_days = 7
# [[traces.masks]]                         # made unreadable before anything is written
# name = "email"
# builtin = "email"                        # or credit_card, iban, phone, api_key; or pattern = "…"
# [[traces.forward]]                       # stored spans, sent on as OTLP
# name = "team"
# url = "https://otel.example.com/v1/traces"

[up]
# host = "127.0.0.1"                       # 0.0.0.0 lets other machines in; put TLS in front
# port = 4600                              # gateway
# console_port = 4601                      # console and REST API
# workers = 1                              # gateway processes

[tuning]
# python = "/opt/tune/bin/python"          # environment with the training libraries; default: `penstock tune install`
# network = false                          # true: those libraries may reach hubs
"""


def write_template(home: Home, *, force: bool = False) -> None:
    """Write the commented settings into `home`; raise `SettingsExist` rather than replace a file unasked."""
    create_home(home)
    if home.settings.exists() and not force:
        raise SettingsExist(
            f"{home.settings} exists already.", hint="Edit it, or replace it by the template with --force."
        )
    home.settings.write_text(TEMPLATE, encoding="utf-8")
