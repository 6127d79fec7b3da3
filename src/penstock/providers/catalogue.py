"""The providers that are known by name: one row each, no code. `auth`, variable, address and price id are theirs.

A row is used when its key variable is set, or when the operator names it. Prices are found in genai-prices under
`price_id`; `local` means that the calls cost nothing because the operator runs the server.
"""

from collections.abc import Mapping

from penstock.base.errors import NotFound, suggest
from penstock.spec.routes import Provider

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY", price_id="openai"
    ),
    Provider(
        name="anthropic",
        base_url="https://api.anthropic.com/v1",
        api_key_env="ANTHROPIC_API_KEY",
        price_id="anthropic",
    ),
    Provider(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        api_key_env="GEMINI_API_KEY",
        price_id="google",
    ),
    Provider(
        name="groq", base_url="https://api.groq.com/openai/v1", api_key_env="GROQ_API_KEY", price_id="groq"
    ),
    Provider(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        api_key_env="MISTRAL_API_KEY",
        price_id="mistral",
    ),
    Provider(
        name="together",
        base_url="https://api.together.xyz/v1",
        api_key_env="TOGETHER_API_KEY",
        price_id="together",
    ),
    Provider(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        api_key_env="FIREWORKS_API_KEY",
        price_id="fireworks",
    ),
    Provider(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        api_key_env="OPENROUTER_API_KEY",
        price_id="openrouter",
    ),
    Provider(
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        api_key_env="DEEPSEEK_API_KEY",
        price_id="deepseek",
    ),
    Provider(name="xai", base_url="https://api.x.ai/v1", api_key_env="XAI_API_KEY", price_id="x-ai"),
    Provider(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        api_key_env="CEREBRAS_API_KEY",
        price_id="cerebras",
    ),
    Provider(
        name="perplexity",
        base_url="https://api.perplexity.ai",
        api_key_env="PERPLEXITY_API_KEY",
        price_id="perplexity",
    ),
    Provider(
        name="cohere",
        base_url="https://api.cohere.ai/compatibility/v1",
        api_key_env="COHERE_API_KEY",
        price_id="cohere",
    ),
    Provider(
        name="moonshot",
        base_url="https://api.moonshot.ai/v1",
        api_key_env="MOONSHOT_API_KEY",
        price_id="moonshotai",
    ),
    Provider(name="ollama", base_url="http://127.0.0.1:11434/v1", auth="none", price_id="local"),
    Provider(name="vllm", base_url="http://127.0.0.1:8000/v1", api_key_env="VLLM_API_KEY", price_id="local"),
    Provider(name="llamacpp", base_url="http://127.0.0.1:8080/v1", auth="none", price_id="local"),
    Provider(name="lmstudio", base_url="http://127.0.0.1:1234/v1", auth="none", price_id="local"),
    Provider(name="sglang", base_url="http://127.0.0.1:30000/v1", auth="none", price_id="local"),
)


def find_provider(name: str) -> Provider:
    """Return the row called `name`; raise `NotFound` that names the nearest one."""
    for provider in PROVIDERS:
        if provider.name == name:
            return provider
    names = [provider.name for provider in PROVIDERS]
    raise NotFound(
        f"No provider is known as {name!r}.",
        hint=suggest(name, names) or f"Known: {', '.join(names)}. Any other needs a base_url.",
    )


def providers_with_keys(environ: Mapping[str, str]) -> tuple[Provider, ...]:
    """Return the hosted providers whose key variable is set in `environ`."""
    return tuple(
        provider
        for provider in PROVIDERS
        if provider.price_id != "local" and provider.api_key_env and environ.get(provider.api_key_env)
    )
