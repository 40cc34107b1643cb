"""Every provider that nanobot knows by name, as data.

To add one, add an entry. `Source:` for base URLs, variables and formats is each vendor's API reference, as of 27 November 2026.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = [
    "CATALOG",
    "EMBEDDED_MODEL",
    "UNSUPPORTED",
    "Hosting",
    "Kind",
    "PrefixRule",
    "PromptProfile",
    "ProviderEntry",
    "custom_entry",
]

Kind: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic", "local"]
"""The wire format a service speaks; `local` is the model server that nanobot starts by itself."""

PromptProfile: TypeAlias = Literal["full", "compact"]

Hosting: TypeAlias = Literal["own", "open", "all"]
"""Whose models a service has: its own; also open weights of others; or everybody's, as gateways have."""

PrefixRule: TypeAlias = Literal["strip", "strip_if_nested", "strip_all"]
"""What becomes of `openrouter/` in `openrouter/x/y` before the model's name goes on the wire.

- `strip`: it is removed.
- `strip_if_nested`: it is removed if what follows still has a `/`, because the service's own models carry its name:
  `openrouter/auto` stays, `openrouter/openai/gpt-4.1` becomes `openai/gpt-4.1`.
- `strip_all`: everything up to the last `/` is removed, whoever it names.
"""

EMBEDDED_MODEL = "smollm2-135m"
"""The model inside the `local` extra."""


class ProviderEntry(Struct, frozen=True, kw_only=True):
    """What is known of one provider.

    Attributes:
      name: How configurations name it; `-`, `_` and case do not matter there.
      label: How people know it.
      kind: Its wire format.
      base_url: With the version path, without a trailing slash; "" when only the user can know it.
      api_path: Appended to a base URL of the user's that has no path; "" takes the path of `base_url`.
      env_keys: Variables that may hold the key, in order.
      env_bases: Variables that may hold the base URL; they count only together with a key from the environment.
      env_configures: Whether the key's variable alone makes this a choice. False where it is another entry's
        too, or is commonly set for other purposes: then the provider has to be named.
      needs_key: Whether it refuses to work without a key.
      words: Whole words in a model's name that say it is from here, in lower case.
      not_words: Words that say it is not, whatever `words` or a prefix found.
      closed_words: Those of `words` whose models have no open weights: elsewhere only gateways serve them.
      aliases: Other names, also as prefix of a model.
      prefix: What becomes of its own prefix.
      own_models: Models whose name begins with the prefix on the wire as well, whatever `prefix` says.
      makes_models: Whether its name stands for a vendor, which services that host others use as a prefix.
      hosts: Whose models it serves.
      local: Whether it is a server that the user runs.
      default_model: What to use when nobody says; None when only the user can know what is served.
      quirks: See the wire format's own list.
      prompt_profile: `compact` for models that a full system prompt would fill up.
      offers_tools: Whether its models can be offered tools.
      enforces_schemas: Whether it holds answers to a JSON schema: "known" with the models of which the list of known
        models says so, "all" with any.
    """

    name: str
    label: str
    kind: Kind = "openai_chat"
    base_url: str = ""
    api_path: str = ""
    env_keys: tuple[str, ...] = ()
    env_bases: tuple[str, ...] = ()
    env_configures: bool = True
    needs_key: bool = True
    words: frozenset[str] = frozenset()
    not_words: frozenset[str] = frozenset()
    closed_words: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    prefix: PrefixRule = "strip"
    own_models: frozenset[str] = frozenset()
    makes_models: bool = False
    hosts: Hosting = "own"
    local: bool = False
    default_model: str | None = None
    quirks: frozenset[str] = frozenset()
    prompt_profile: PromptProfile = "full"
    offers_tools: bool = True
    enforces_schemas: Literal["never", "known", "all"] = "never"


def custom_entry(name: str) -> ProviderEntry:
    """The entry of a provider that only the configuration knows: OpenAI-compatible, with its own `apiBase`."""
    return ProviderEntry(name=name, label=name, needs_key=False, hosts="all")


_ENTRIES = (
    # Vendors, by their own models
    ProviderEntry(
        name="anthropic",
        label="Anthropic",
        kind="anthropic",
        base_url="https://api.anthropic.com/v1",
        env_keys=("ANTHROPIC_API_KEY",),
        env_bases=("ANTHROPIC_BASE_URL",),
        words=frozenset({"anthropic", "claude"}),
        closed_words=frozenset({"anthropic", "claude"}),
        makes_models=True,
        default_model="claude-opus-4-5",
        enforces_schemas="known",
    ),
    ProviderEntry(
        name="openai",
        label="OpenAI",
        base_url="https://api.openai.com/v1",
        env_keys=("OPENAI_API_KEY",),
        env_bases=("OPENAI_BASE_URL",),
        words=frozenset({"chatgpt", "codex", "gpt", "o1", "o3", "o4", "openai"}),
        closed_words=frozenset({"chatgpt", "codex", "gpt", "o1", "o3", "o4", "openai"}),
        not_words=frozenset({"oss"}),  # gpt-oss is served by everyone but OpenAI
        makes_models=True,
        default_model="gpt-4.1",
        enforces_schemas="known",
        quirks=frozenset({"max_completion_tokens", "no_think_tags", "tool_ids_40"}),
    ),
    ProviderEntry(
        name="azure_openai",
        label="Azure OpenAI",
        api_path="/openai/v1",
        env_keys=("AZURE_OPENAI_API_KEY",),
        env_bases=("AZURE_OPENAI_ENDPOINT",),
        words=frozenset({"azure"}),
        aliases=("azure",),
        hosts="all",  # under whatever names its deployments have
        enforces_schemas="known",
        quirks=frozenset({"max_completion_tokens", "no_think_tags", "tool_ids_40"}),
    ),
    ProviderEntry(
        name="gemini",
        label="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        env_keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        words=frozenset({"gemini", "gemma"}),
        closed_words=frozenset({"gemini"}),
        aliases=("google",),
        makes_models=True,
        default_model="gemini-flash-latest",
    ),
    ProviderEntry(
        name="deepseek",
        label="DeepSeek",
        base_url="https://api.deepseek.com",
        env_keys=("DEEPSEEK_API_KEY",),
        words=frozenset({"deepseek"}),
        makes_models=True,
        default_model="deepseek-flash",
    ),
    ProviderEntry(
        name="mistral",
        label="Mistral AI",
        base_url="https://api.mistral.ai/v1",
        env_keys=("MISTRAL_API_KEY",),
        words=frozenset({"codestral", "devstral", "magistral", "ministral", "mistral", "pixtral"}),
        makes_models=True,
        default_model="mistral-large-latest",
        # It refuses `stream_options` with 422, and reports usage unasked.
        quirks=frozenset({"no_stream_usage", "tool_ids_9"}),
    ),
    ProviderEntry(
        name="xai",
        label="xAI",
        base_url="https://api.x.ai/v1",
        env_keys=("XAI_API_KEY",),
        words=frozenset({"grok", "xai"}),
        closed_words=frozenset({"grok", "xai"}),
        makes_models=True,
        default_model="grok-4.7",
    ),
    ProviderEntry(
        name="moonshot",
        label="Moonshot AI",
        base_url="https://api.moonshot.ai/v1",
        env_keys=("MOONSHOT_API_KEY",),
        words=frozenset({"kimi", "moonshot"}),
        aliases=("moonshotai",),
        makes_models=True,
        default_model="kimi-k2.6",
    ),
    ProviderEntry(
        name="kimi_coding",
        label="Kimi for Coding",
        kind="anthropic",
        base_url="https://api.kimi.com/coding/v1",
        env_keys=("KIMI_CODING_API_KEY",),
        words=frozenset({"kimi"}),
        default_model="kimi-for-coding",
    ),
    ProviderEntry(
        name="zhipu",
        label="Zhipu AI",
        base_url="https://open.bigmodel.cn/api/paas/v4",
        env_keys=("ZAI_API_KEY", "ZHIPUAI_API_KEY"),
        words=frozenset({"glm", "zai", "zhipu"}),
        aliases=("zai",),
        makes_models=True,
        default_model="glm-5.2",
    ),
    ProviderEntry(
        name="dashscope",
        label="Alibaba DashScope",
        base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        env_keys=("DASHSCOPE_API_KEY",),
        words=frozenset({"dashscope", "qwen", "qwq"}),
        makes_models=True,
        default_model="qwen-plus",
    ),
    ProviderEntry(
        name="minimax",
        label="MiniMax",
        base_url="https://api.minimax.io/v1",
        env_keys=("MINIMAX_API_KEY",),
        words=frozenset({"minimax"}),
        makes_models=True,
        default_model="MiniMax-M2.7",
    ),
    ProviderEntry(
        name="minimax_anthropic",
        label="MiniMax (Anthropic format)",
        kind="anthropic",
        base_url="https://api.minimax.io/anthropic/v1",
        env_keys=("MINIMAX_API_KEY",),
        env_configures=False,
        words=frozenset({"minimax"}),
        default_model="MiniMax-M2.7",
    ),
    ProviderEntry(
        name="stepfun",
        label="StepFun",
        base_url="https://api.stepfun.com/v1",
        env_keys=("STEPFUN_API_KEY",),
        words=frozenset({"stepfun"}),
        makes_models=True,
    ),
    ProviderEntry(
        name="xiaomi_mimo",
        label="Xiaomi MiMo",
        base_url="https://api.xiaomimimo.com/v1",
        env_keys=("XIAOMIMIMO_API_KEY",),
        words=frozenset({"mimo"}),
        aliases=("mimo",),
        makes_models=True,
    ),
    ProviderEntry(
        name="longcat",
        label="LongCat",
        base_url="https://api.longcat.chat/openai/v1",
        env_keys=("LONGCAT_API_KEY",),
        words=frozenset({"longcat"}),
        makes_models=True,
    ),
    ProviderEntry(
        name="ant_ling",
        label="Ant Ling",
        base_url="https://api.ant-ling.com/v1",
        env_keys=("ANT_LING_API_KEY",),
        words=frozenset({"ling", "ring"}),
        makes_models=True,
    ),
    ProviderEntry(
        name="qianfan",
        label="Baidu Qianfan",
        base_url="https://qianfan.baidubce.com/v2",
        env_keys=("QIANFAN_API_KEY",),
        words=frozenset({"ernie", "qianfan"}),
        makes_models=True,
    ),
    ProviderEntry(
        name="volcengine",
        label="Volcengine",
        base_url="https://ark.cn-beijing.volces.com/api/v3",
        env_keys=("ARK_API_KEY",),
        words=frozenset({"doubao", "volcengine", "volces"}),
        makes_models=True,
        hosts="open",
    ),
    ProviderEntry(
        name="volcengine_coding_plan",
        label="Volcengine coding plan",
        base_url="https://ark.cn-beijing.volces.com/api/coding/v3",
        env_keys=("ARK_API_KEY",),
        env_configures=False,
        hosts="open",
    ),
    ProviderEntry(
        name="byteplus",
        label="BytePlus",
        base_url="https://ark.ap-southeast.bytepluses.com/api/v3",
        env_keys=("BYTEPLUS_API_KEY",),
        words=frozenset({"byteplus"}),
        hosts="open",
    ),
    ProviderEntry(
        name="byteplus_coding_plan",
        label="BytePlus coding plan",
        base_url="https://ark.ap-southeast.bytepluses.com/api/coding/v3",
        env_keys=("BYTEPLUS_API_KEY",),
        env_configures=False,
        hosts="open",
    ),
    ProviderEntry(
        name="nvidia",
        label="NVIDIA NIM",
        base_url="https://integrate.api.nvidia.com/v1",
        env_keys=("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"),
        words=frozenset({"nemotron", "nvapi", "nvidia"}),
        prefix="strip_if_nested",  # its own models are called nvidia/…
        makes_models=True,
        hosts="open",
        default_model="meta/llama-3.3-70b-instruct",
    ),
    # Services that host models of many vendors
    ProviderEntry(
        name="openrouter",
        label="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        env_keys=("OPENROUTER_API_KEY",),
        words=frozenset({"openrouter"}),
        prefix="strip_if_nested",  # its own models are called openrouter/…
        hosts="all",
        default_model="openrouter/auto",
    ),
    ProviderEntry(
        name="groq",
        label="Groq",
        base_url="https://api.groq.com/openai/v1",
        env_keys=("GROQ_API_KEY",),
        words=frozenset({"groq"}),
        own_models=frozenset({"groq/compound", "groq/compound-mini"}),
        hosts="open",
        default_model="openai/gpt-oss-120b",
    ),
    ProviderEntry(
        name="together",
        label="Together AI",
        base_url="https://api.together.xyz/v1",
        env_keys=("TOGETHER_API_KEY",),
        words=frozenset({"together"}),
        hosts="open",
        default_model="openai/gpt-oss-120b",
    ),
    ProviderEntry(
        name="huggingface",
        label="Hugging Face",
        base_url="https://router.huggingface.co/v1",
        env_keys=("HF_TOKEN",),
        env_configures=False,  # most people who have it use it to download
        words=frozenset({"huggingface"}),
        hosts="open",
        default_model="openai/gpt-oss-120b",
    ),
    ProviderEntry(
        name="fireworks",
        label="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        env_keys=("FIREWORKS_API_KEY",),
        words=frozenset({"fireworks"}),
        hosts="open",
        default_model="accounts/fireworks/models/gpt-oss-120b",
    ),
    ProviderEntry(
        name="cerebras",
        label="Cerebras",
        base_url="https://api.cerebras.ai/v1",
        env_keys=("CEREBRAS_API_KEY",),
        words=frozenset({"cerebras"}),
        hosts="open",
        default_model="gpt-oss-120b",
    ),
    ProviderEntry(
        name="orcarouter",
        label="OrcaRouter",
        base_url="https://api.orcarouter.ai/v1",
        env_keys=("ORCAROUTER_API_KEY",),
        words=frozenset({"orcarouter"}),
        hosts="all",
    ),
    ProviderEntry(
        name="edenai",
        label="Eden AI",
        base_url="https://api.edenai.run/v3",
        env_keys=("EDENAI_API_KEY",),
        words=frozenset({"edenai"}),
        hosts="all",
    ),
    ProviderEntry(
        name="opencode",
        label="OpenCode Zen",
        base_url="https://opencode.ai/zen/v1",
        env_keys=("OPENCODE_API_KEY",),
        words=frozenset({"opencode"}),
        aliases=("opencode_zen",),
        hosts="all",
    ),
    ProviderEntry(
        name="opencode_go",
        label="OpenCode Go",
        base_url="https://opencode.ai/zen/go/v1",
        env_keys=("OPENCODE_API_KEY",),
        env_configures=False,
        hosts="all",
    ),
    ProviderEntry(
        name="skywork",
        label="Skywork",
        base_url="https://api.apifree.ai/agent/v1",
        env_keys=("SKYWORK_API_KEY",),
        words=frozenset({"apifree", "skyclaw", "skywork"}),
        hosts="all",
    ),
    ProviderEntry(
        name="aihubmix",
        label="AiHubMix",
        base_url="https://aihubmix.com/v1",
        env_keys=("AIHUBMIX_API_KEY",),
        words=frozenset({"aihubmix"}),
        prefix="strip_all",
        hosts="all",
    ),
    ProviderEntry(
        name="siliconflow",
        label="SiliconFlow",
        base_url="https://api.siliconflow.cn/v1",
        env_keys=("SILICONFLOW_API_KEY",),
        words=frozenset({"siliconflow"}),
        hosts="open",
    ),
    ProviderEntry(
        name="novita",
        label="Novita AI",
        base_url="https://api.novita.ai/openai",
        env_keys=("NOVITA_API_KEY",),
        words=frozenset({"novita"}),
        hosts="open",
    ),
    ProviderEntry(
        name="modelscope",
        label="ModelScope",
        base_url="https://api-inference.modelscope.cn/v1",
        env_keys=("MODELSCOPE_API_KEY",),
        words=frozenset({"modelscope"}),
        hosts="open",
    ),
    # Servers that the user runs; chosen by their `apiBase`
    ProviderEntry(
        name="ollama",
        label="Ollama",
        base_url="http://localhost:11434/v1",
        env_keys=("OLLAMA_API_KEY",),
        env_configures=False,
        needs_key=False,
        words=frozenset({"ollama"}),
        local=True,
        quirks=frozenset({"printed_tool_calls"}),
    ),
    ProviderEntry(
        name="lm_studio",
        label="LM Studio",
        base_url="http://localhost:1234/v1",
        env_configures=False,
        needs_key=False,
        words=frozenset({"lmstudio"}),
        local=True,
        quirks=frozenset({"printed_tool_calls"}),
    ),
    ProviderEntry(
        name="vllm",
        label="vLLM",
        api_path="/v1",
        env_keys=("HOSTED_VLLM_API_KEY",),
        env_configures=False,
        needs_key=False,
        words=frozenset({"vllm"}),
        local=True,
        quirks=frozenset({"printed_tool_calls"}),
    ),
    ProviderEntry(
        name="atomic_chat",
        label="Atomic Chat",
        base_url="http://localhost:1337/v1",
        env_configures=False,
        needs_key=False,
        local=True,
        quirks=frozenset({"printed_tool_calls"}),
    ),
    ProviderEntry(
        name="ovms",
        label="OpenVINO Model Server",
        base_url="http://localhost:8000/v3",
        env_configures=False,
        needs_key=False,
        words=frozenset({"openvino", "ovms"}),
        local=True,
        quirks=frozenset({"printed_tool_calls"}),
    ),
    # The model that nanobot brings along
    ProviderEntry(
        name="local",
        label="Embedded model",
        kind="local",
        env_configures=False,
        needs_key=False,
        default_model=EMBEDDED_MODEL,
        prompt_profile="compact",
        offers_tools=False,
        enforces_schemas="all",  # llama.cpp makes a grammar of it
    ),
)

CATALOG = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Every known provider by name."""

UNSUPPORTED = MappingProxyType(
    {
        "assemblyai": "it transcribes speech and has no chat models",
        "bedrock": "its own format is not spoken here; its OpenAI-compatible endpoint works "
        "as a custom provider",
        "github_copilot": "it wants an interactive login; use a provider with an API key",
        "openai_codex": "it wants an interactive login; use `openai` with an API key",
        "xai_grok": "it wants an interactive login; use `xai` with an API key",
    }
)
"""Names that older configurations may use, and why they cannot be used here."""
