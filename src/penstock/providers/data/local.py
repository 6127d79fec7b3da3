"""Servers that the operator runs: no charge. Old releases of them know fewer members than OpenAI."""

from penstock.spec.routes import Provider

LOCAL: tuple[Provider, ...] = (
    Provider(
        name="ollama",
        base_url="http://127.0.0.1:11434/v1",
        auth="none",
        price_id="local",
        quirks=("max_tokens", "reasoning_field:reasoning"),
    ),
    Provider(
        name="vllm",
        base_url="http://127.0.0.1:8000/v1",
        api_key_env="VLLM_API_KEY",
        price_id="local",
        quirks=("top_k", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="sglang",
        base_url="http://127.0.0.1:30000/v1",
        auth="none",
        price_id="local",
        quirks=("top_k", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="llamacpp",
        base_url="http://127.0.0.1:8080/v1",
        auth="none",
        price_id="local",
        quirks=("max_tokens", "top_k", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="lmstudio",
        base_url="http://127.0.0.1:1234/v1",
        auth="none",
        price_id="local",
        quirks=("max_tokens", "top_k"),
    ),
    Provider(
        name="tei",
        base_url="http://127.0.0.1:8081/v1",
        auth="none",
        price_id="local",
    ),
)
