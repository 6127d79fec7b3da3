"""Services on the internet. Quirks are departures from the dialect that the service documents, see `dialects/quirks`."""

from penstock.spec.routes import Provider

MODEL_MAKERS: tuple[Provider, ...] = (
    Provider(
        name="openai",
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        price_id="openai",
        also=("responses",),
    ),
    Provider(
        name="anthropic",
        dialect="anthropic",
        base_url="https://api.anthropic.com/v1",
        auth="x-api-key",
        api_key_env="ANTHROPIC_API_KEY",
        price_id="anthropic",
        headers={"anthropic-version": "2023-06-01"},
    ),
    Provider(
        name="gemini",
        dialect="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        auth="x-goog-api-key",
        api_key_env="GEMINI_API_KEY",
        price_id="google",
    ),
    Provider(
        name="cohere",
        dialect="cohere",
        base_url="https://api.cohere.com/v2",
        api_key_env="COHERE_API_KEY",
        price_id="cohere",
    ),
    Provider(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        api_key_env="MISTRAL_API_KEY",
        price_id="mistral",
        stream_usage=False,  # refuses the member, and tells usage unasked
        quirks=("max_tokens", "no_developer_role", "random_seed", "no_user", "no_logprobs"),
    ),
    Provider(
        name="xai",
        base_url="https://api.x.ai/v1",
        api_key_env="XAI_API_KEY",
        price_id="x-ai",
        also=("responses",),
        quirks=("reasoning_field:reasoning_content",),
    ),
    Provider(
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        api_key_env="DEEPSEEK_API_KEY",
        price_id="deepseek",
        quirks=("max_tokens", "no_developer_role", "no_json_schema", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="perplexity",
        base_url="https://api.perplexity.ai",
        api_key_env="PERPLEXITY_API_KEY",
        price_id="perplexity",
        quirks=("max_tokens", "no_developer_role", "top_k"),
    ),
    Provider(
        name="moonshot",
        base_url="https://api.moonshot.ai/v1",
        api_key_env="MOONSHOT_API_KEY",
        price_id="moonshotai",
        quirks=("max_tokens", "no_developer_role", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="zai",
        base_url="https://api.z.ai/api/paas/v4",
        api_key_env="ZAI_API_KEY",
        price_id="zai",
        quirks=("max_tokens", "no_developer_role", "no_json_schema", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="alibaba",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        api_key_env="DASHSCOPE_API_KEY",
        quirks=("max_tokens", "no_developer_role", "top_k", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="minimax",
        base_url="https://api.minimax.io/v1",
        api_key_env="MINIMAX_API_KEY",
        price_id="minimax",
        quirks=("max_tokens", "no_developer_role"),
    ),
    Provider(name="jina", base_url="https://api.jina.ai/v1", api_key_env="JINA_API_KEY"),
    Provider(
        name="voyage",
        base_url="https://api.voyageai.com/v1",
        api_key_env="VOYAGE_API_KEY",
        price_id="voyageai",
        quirks=("rerank_voyage",),
    ),
)
"""Those who train what they serve."""

CLOUDS: tuple[Provider, ...] = (
    Provider(
        name="azure",
        base_url="{AZURE_OPENAI_ENDPOINT}/openai/v1",
        auth="api-key",
        api_key_env="AZURE_OPENAI_API_KEY",
        price_id="azure",
        also=("responses",),
    ),
    Provider(
        name="bedrock",
        dialect="bedrock",
        base_url="https://bedrock-runtime.{AWS_REGION}.amazonaws.com",
        auth="sigv4",
        api_key_env="AWS_BEARER_TOKEN_BEDROCK",
        price_id="aws",
    ),
    Provider(
        name="vertex",
        dialect="gemini",
        base_url="https://{GOOGLE_CLOUD_LOCATION}-aiplatform.googleapis.com/v1/projects/{GOOGLE_CLOUD_PROJECT}"
        "/locations/{GOOGLE_CLOUD_LOCATION}/publishers/google",
        auth="gcp",
        api_key_env="GCP_ACCESS_TOKEN",
        price_id="google",
    ),
    Provider(
        name="vertex-global",
        dialect="gemini",
        base_url="https://aiplatform.googleapis.com/v1/projects/{GOOGLE_CLOUD_PROJECT}/locations/global"
        "/publishers/google",
        auth="gcp",
        api_key_env="GCP_ACCESS_TOKEN",
        price_id="google",
    ),
    Provider(
        name="databricks",
        base_url="{DATABRICKS_HOST}/serving-endpoints",
        api_key_env="DATABRICKS_TOKEN",
        price_id="databricks",
        quirks=("max_tokens", "no_developer_role"),
    ),
    Provider(
        name="cloudflare",
        base_url="https://api.cloudflare.com/client/v4/accounts/{CLOUDFLARE_ACCOUNT_ID}/ai/v1",
        api_key_env="CLOUDFLARE_API_TOKEN",
        price_id="cloudflare",
        quirks=("max_tokens", "no_developer_role"),
    ),
    Provider(
        name="nvidia",
        base_url="https://integrate.api.nvidia.com/v1",
        api_key_env="NVIDIA_API_KEY",
        quirks=("max_tokens", "no_developer_role"),
    ),
    Provider(name="github", base_url="https://models.github.ai/inference", api_key_env="GITHUB_TOKEN"),
)
"""Clouds that serve models of many makers under the customer's own account."""

HOSTS: tuple[Provider, ...] = (
    Provider(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        api_key_env="GROQ_API_KEY",
        price_id="groq",
        quirks=("no_n", "no_logprobs", "no_metadata", "reasoning_field:reasoning"),
    ),
    Provider(
        name="together",
        base_url="https://api.together.xyz/v1",
        api_key_env="TOGETHER_API_KEY",
        price_id="together",
        quirks=("max_tokens", "no_developer_role", "top_k", "reasoning_field:reasoning"),
    ),
    Provider(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        api_key_env="FIREWORKS_API_KEY",
        price_id="fireworks",
        quirks=("max_tokens", "no_developer_role", "top_k", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        api_key_env="OPENROUTER_API_KEY",
        price_id="openrouter",
        also=("responses",),
        quirks=("top_k", "reasoning_field:reasoning"),
    ),
    Provider(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        api_key_env="CEREBRAS_API_KEY",
        price_id="cerebras",
        quirks=("no_penalties", "no_n", "reasoning_field:reasoning"),
    ),
    Provider(
        name="sambanova",
        base_url="https://api.sambanova.ai/v1",
        api_key_env="SAMBANOVA_API_KEY",
        quirks=("max_tokens", "no_developer_role", "top_k"),
    ),
    Provider(
        name="deepinfra",
        base_url="https://api.deepinfra.com/v1/openai",
        api_key_env="DEEPINFRA_API_KEY",
        quirks=("max_tokens", "no_developer_role", "top_k", "reasoning_field:reasoning_content"),
    ),
    Provider(
        name="nebius",
        base_url="https://api.tokenfactory.nebius.com/v1",
        api_key_env="NEBIUS_API_KEY",
        quirks=("max_tokens", "no_developer_role", "top_k"),
    ),
    Provider(
        name="huggingface",
        base_url="https://router.huggingface.co/v1",
        api_key_env="HF_TOKEN",
        quirks=("max_tokens", "no_developer_role"),
    ),
    Provider(
        name="baseten",
        base_url="https://inference.baseten.co/v1",
        api_key_env="BASETEN_API_KEY",
        price_id="baseten",
        quirks=("max_tokens", "no_developer_role", "top_k"),
    ),
    Provider(
        name="ovhcloud",
        base_url="https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        api_key_env="OVH_AI_ENDPOINTS_ACCESS_TOKEN",
        price_id="ovhcloud",
        quirks=("max_tokens", "no_developer_role"),
    ),
)
"""Hosts of open models, and routers to others."""
