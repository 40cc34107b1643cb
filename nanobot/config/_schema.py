"""The shape of `config.json`: one frozen Struct per section, one described field per key.

Keys are camelCase in the file and snake_case here. A JSON schema and the reference page are generated from these
classes, so each field carries its description, and its limits are part of its type. `silent_keys` are keys that other
versions write and this one does not use: they are kept on write and not reported as unknown.
"""
# Annotations are evaluated as the classes are made: as strings they would cost each process 5 ms at the first load.

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import NODEFAULT, Meta, Struct, field, structs

__all__ = [
    "AgentDefaults",
    "AgentsSettings",
    "ApiSettings",
    "BudgetSettings",
    "ChannelsSettings",
    "Config",
    "DreamSettings",
    "ExecSettings",
    "FallbackModel",
    "FileToolSettings",
    "GatewaySettings",
    "HeartbeatSettings",
    "McpServer",
    "ModelPreset",
    "ProviderSettings",
    "ReasoningEffort",
    "RetrySettings",
    "Section",
    "SessionsSettings",
    "Settings",
    "TelemetrySettings",
    "TimeoutSettings",
    "ToolsSettings",
    "WebFetchSettings",
    "WebSearchSettings",
    "WebSettings",
    "WebSocketChannel",
]

ReasoningEffort: TypeAlias = Literal[
    "none", "minimal", "low", "medium", "high", "xhigh", "max", "adaptive"
]

_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_Secret: TypeAlias = Annotated[str, Meta(extra_json_schema={"writeOnly": True})]
_Url: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^\s/]\S*)?$(?!\n)",
        extra={"expected": "a URL that starts with http:// or https://"},
    ),
]
_ProxyUrl: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^((https?|socks5h?)://[^\s/]\S*)?$(?!\n)",
        extra={"expected": "a URL that starts with http://, https:// or socks5://"},
    ),
]
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
_Positive: TypeAlias = Annotated[int, Meta(ge=1, le=2**53)]
_Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
_Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
# A week bounds every wait: longer ones are mistakes, and some event loops overflow on them.
_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=604_800)]
_SecondsOrOff: TypeAlias = Annotated[float, Meta(ge=0, le=604_800)]


class Section(Struct, frozen=True, kw_only=True, rename="camel"):
    """One object of the file.

    `repr` shows what differs from the defaults, but no text: any may be secret, and sections reach logs and tracebacks.
    """

    silent_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that are kept without being reported; one that ends in `*` stands for all that begin so."""

    open_keys: ClassVar[bool] = False
    """Whether this section holds keys of others as well (channels), so that none is reported."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in _changes(self))
        return f"{type(self).__name__}({shown})"


def _changes(section: Section) -> Iterator[tuple[str, object]]:
    for known in structs.fields(section):
        default = known.default
        if known.default_factory is not NODEFAULT:
            default = known.default_factory()
        value = getattr(section, known.name)
        if value != default:
            yield known.name, value


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, Section | bool | int | float | None) else "…"


class DreamSettings(Section, frozen=True, kw_only=True):
    """Consolidation of memory in the background."""

    enabled: Annotated[
        bool, Meta(description="Whether memory is consolidated in the background.")
    ] = True
    interval_h: Annotated[
        _Positive, Meta(description="Hours between two consolidations, when `cron` is not set.")
    ] = 2
    cron: Annotated[str | None, Meta(description="Cron expression that replaces the interval.")] = (
        None
    )
    model_override: Annotated[
        str | None, Meta(description="Name of the preset that consolidates; null uses the default.")
    ] = None


class FallbackModel(Section, frozen=True, kw_only=True):
    """A model to fall back to, written out instead of named as a preset."""

    model: Annotated[_Text, Meta(description="Model to ask when the ones before it failed.")]
    provider: Annotated[
        str, Meta(description="Provider that serves it; `auto` finds out from the model's name.")
    ] = "auto"
    max_tokens: Annotated[
        _Positive | None, Meta(description="Most tokens of one answer; null takes the default's.")
    ] = None
    context_window_tokens: Annotated[
        _Positive | None,
        Meta(description="Context window in tokens; null takes what is known of the model."),
    ] = None
    temperature: Annotated[
        _Temperature | None, Meta(description="Sampling temperature; null takes the default's.")
    ] = None
    reasoning_effort: Annotated[
        ReasoningEffort | None,
        Meta(description="How hard the model thinks; never taken over from another model."),
    ] = None


class RetrySettings(Section, frozen=True, kw_only=True):
    """How patient requests are that may succeed later. Null takes what `providerRetryMode` means."""

    max_attempts: Annotated[
        _Positive | None,
        Meta(description="Requests that may fail for a fault of service or network: 4, or 12."),
    ] = None
    max_refusals: Annotated[
        _Positive | None,
        Meta(description="Requests that may be refused for coming too fast (429): 30, or 120."),
    ] = None
    total_s: Annotated[
        _SecondsOrOff | None,
        Meta(description="Seconds from the first request to the start of the last: 300, or 3600."),
    ] = None
    first_delay_s: Annotated[
        _SecondsOrOff | None,
        Meta(description="Seconds to wait after the first failure; doubles with each: 1."),
    ] = None
    max_delay_s: Annotated[
        _SecondsOrOff | None, Meta(description="Seconds that the doubling stops at: 30, or 60.")
    ] = None


class BudgetSettings(Section, frozen=True, kw_only=True):
    """What may be spent. Null is no limit."""

    tokens: Annotated[
        _Positive | None, Meta(description="Tokens, prompts and answers together.")
    ] = None
    usd: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="US dollars by the list prices of the models."),
    ] = None


class AgentDefaults(Section, frozen=True, kw_only=True):
    """What every agent starts from: model, limits and habits."""

    silent_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "botIcon",
            "botName",
            "contextBlockLimit",
            "disabledSkills",
            "failOnToolError",
            "idleCompactCheckIntervalSeconds",
            "toolHintMaxLength",
            "unifiedSession",
        }
    )

    workspace: Annotated[
        _Text, Meta(description="Folder in which the agent's tools work; `~` is your home folder.")
    ] = "~/.nanobot/workspace"
    model_preset: Annotated[
        str | None,
        Meta(description="Name of the preset to use; it wins over the model fields beside it."),
    ] = None
    model: Annotated[
        _Text | None,
        Meta(
            description="Model to use. Null means `anthropic/claude-opus-4-5`, or the usual model of "
            "the only provider that has a key."
        ),
    ] = None
    provider: Annotated[
        _Text,
        Meta(description="Provider that serves the model; `auto` finds out from the model's name."),
    ] = "auto"
    max_tokens: Annotated[_Positive, Meta(description="Most tokens of one answer.")] = 8192
    context_window_tokens: Annotated[
        _Positive | None,
        Meta(
            description="Context window in tokens. Null takes what is known of the model, else 200000."
        ),
    ] = None
    temperature: Annotated[
        _Temperature | None,
        Meta(description="Sampling temperature; null leaves it to the service."),
    ] = 0.1
    reasoning_effort: Annotated[
        ReasoningEffort | None,
        Meta(description="How hard the model thinks; null leaves it to the service."),
    ] = None
    fallback_models: Annotated[
        tuple[FallbackModel | _Text, ...],
        Meta(
            description="What to ask in turn when the model fails: names of presets, or objects that name a model."
        ),
    ] = ()
    max_tool_iterations: Annotated[_Positive, Meta(description="Most model calls of one run.")] = (
        200
    )
    max_concurrent_runs: Annotated[
        _Positive | None,
        Meta(
            description="Most turns at the same time, shared fairly among tenants; null is no limit."
        ),
    ] = None
    resumable: Annotated[
        bool,
        Meta(
            description="Whether calls of tools are written down before they begin, so that a turn can go on after a crash."
        ),
    ] = False
    max_queued_runs: Annotated[
        _Positive,
        Meta(description="Most runs that wait for one session; a further one is refused."),
    ] = 1000
    max_concurrent_subagents: Annotated[
        _Positive, Meta(description="Most subagents of one run that work at the same time.")
    ] = 1
    max_subagent_depth: Annotated[
        _Count,
        Meta(description="How deep subagents may start others; 1: not at all, 0: no subagents."),
    ] = 1
    max_tool_result_chars: Annotated[
        _Positive,
        Meta(description="Most characters of one tool result that the model is shown."),
    ] = 16_000
    provider_retry_mode: Annotated[
        Literal["standard", "persistent"],
        Meta(description="How long failed requests are repeated: a few times, or patiently."),
    ] = "standard"
    retry: Annotated[
        RetrySettings, Meta(description="The bounds of that, one by one, where they are given.")
    ] = field(default_factory=RetrySettings)
    max_budget: Annotated[BudgetSettings, Meta(description="What one run may spend.")] = field(
        default_factory=BudgetSettings
    )
    timezone: Annotated[
        str | None,
        Meta(description="IANA time zone that the model is told; null is the system's own."),
    ] = None
    timezone_mode: Annotated[
        Literal["auto", "manual"],
        Meta(description="`auto` ignores `timezone` and follows the system."),
    ] = "manual"
    idle_compact_after_minutes: Annotated[
        float,
        Meta(ge=0, description="Minutes of silence after which a session is compacted; 0 never."),
    ] = 15
    consolidation_ratio: Annotated[
        float,
        Meta(
            ge=0.1, le=0.95, description="Part of the token budget that compaction aims to leave."
        ),
    ] = 0.5
    override_policy: Annotated[
        Literal["exclusive", "isolated"],
        Meta(
            description="Whether a run with its own model excludes all others, or overlaps with them."
        ),
    ] = "exclusive"
    dream: Annotated[
        DreamSettings, Meta(description="Consolidation of memory in the background.")
    ] = field(default_factory=DreamSettings)

    @property
    def zone(self) -> str | None:
        """The configured time zone, or None to follow the system."""
        return self.timezone if self.timezone_mode == "manual" else None


class AgentsSettings(Section, frozen=True, kw_only=True):
    """Settings of the agents."""

    defaults: Annotated[AgentDefaults, Meta(description="What every agent starts from.")] = field(
        default_factory=AgentDefaults
    )


class ModelPreset(Section, frozen=True, kw_only=True):
    """A named model with its sampling and limits."""

    silent_keys: ClassVar[frozenset[str]] = frozenset({"label"})

    model: Annotated[_Text, Meta(description="Model to use.")]
    provider: Annotated[
        _Text,
        Meta(description="Provider that serves the model; `auto` finds out from the model's name."),
    ] = "auto"
    max_tokens: Annotated[_Positive, Meta(description="Most tokens of one answer.")] = 8192
    context_window_tokens: Annotated[
        _Positive | None,
        Meta(
            description="Context window in tokens. Null takes what is known of the model, else 200000."
        ),
    ] = None
    temperature: Annotated[
        _Temperature | None,
        Meta(description="Sampling temperature; null leaves it to the service."),
    ] = 0.1
    reasoning_effort: Annotated[
        ReasoningEffort | None,
        Meta(description="How hard the model thinks; null leaves it to the service."),
    ] = None


class TimeoutSettings(Section, frozen=True, kw_only=True):
    """How long one request may stay silent, by phase, in seconds."""

    connect_s: Annotated[_Seconds, Meta(description="Until the connection stands.")] = 10.0
    first_token_s: Annotated[
        _Seconds, Meta(description="From the request to the first byte of the answer.")
    ] = 300.0
    between_tokens_s: Annotated[
        _Seconds, Meta(description="Longest silence inside the answer.")
    ] = 90.0
    request_s: Annotated[_Seconds, Meta(description="The whole request.")] = 1800.0


class ProviderSettings(Section, frozen=True, kw_only=True):
    """How to reach one provider."""

    silent_keys: ClassVar[frozenset[str]] = frozenset({"profile", "region"})

    api_key: Annotated[
        _Secret | None,
        Meta(description="Key; null or empty falls back to the provider's environment variable."),
    ] = None
    api_base: Annotated[
        _Url | None,
        Meta(description="Base URL; null takes the provider's own. Custom providers must set it."),
    ] = None
    api_type: Annotated[
        Literal["auto", "chat_completions", "responses"] | None,
        Meta(description="Which of OpenAI's two wire formats to speak."),
    ] = "auto"
    extra_headers: Annotated[
        Mapping[str, str] | None, Meta(description="HTTP headers to add to every request.")
    ] = None
    extra_body: Annotated[
        Mapping[str, Any] | None,
        Meta(description="Fields to merge into every request body, over ours."),
    ] = None
    extra_query: Annotated[
        Mapping[str, str] | None, Meta(description="Query parameters to add to every request.")
    ] = None
    proxy: Annotated[
        _ProxyUrl | None,
        Meta(description="HTTP proxy to go through; a provider with a SOCKS proxy cannot be used."),
    ] = None
    thinking_style: Annotated[
        Literal["thinking_type", "enable_thinking", "reasoning_split"] | None,
        Meta(description="How a custom provider wants thinking to be switched on."),
    ] = None
    display_name: Annotated[str | None, Meta(description="Name to show to people.")] = None
    ca_file: Annotated[
        str | None,
        Meta(description="File of certificates to trust instead of the usual ones; PEM."),
    ] = None
    max_concurrent_requests: Annotated[
        _Positive | None, Meta(description="Most requests in flight at once; null has no limit.")
    ] = None
    requests_per_minute: Annotated[
        _Positive | None,
        Meta(description="Most requests begun within any 60 seconds; null has no limit."),
    ] = None
    tokens_per_minute: Annotated[
        _Positive | None,
        Meta(description="Most tokens of requests within any 60 seconds; null has no limit."),
    ] = None
    timeouts: Annotated[
        TimeoutSettings, Meta(description="How long one request may stay silent, by phase.")
    ] = field(default_factory=TimeoutSettings)


class ExecSettings(Section, frozen=True, kw_only=True):
    """The shell tool."""

    enable: Annotated[bool, Meta(description="Whether the agent may run commands.")] = True
    timeout: Annotated[
        _SecondsOrOff,
        Meta(
            description="Seconds one command may run unless the call says otherwise; 0 has no limit."
        ),
    ] = 60
    path_prepend: Annotated[str, Meta(description="Put before PATH.")] = ""
    path_append: Annotated[str, Meta(description="Put after PATH.")] = ""
    sandbox: Annotated[
        Literal["", "bwrap"],
        Meta(description="Sandbox to run commands in: `bwrap` (bubblewrap), or empty for none."),
    ] = ""
    sandbox_ro_binds: Annotated[
        tuple[str, ...], Meta(description="Further paths that the sandbox may read.")
    ] = ()
    sandbox_rw_binds: Annotated[
        tuple[str, ...],
        Meta(description="Further paths that the sandbox may write, beside the workspace."),
    ] = ()
    allowed_env_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="Environment variables that commands see, beside PATH, HOME and the like."
        ),
    ] = ()
    allow_patterns: Annotated[
        tuple[str, ...],
        Meta(
            description="Regular expressions of the only commands allowed; each matches one as a whole, and"
            " what it matches is allowed whatever else is said."
        ),
    ] = ()
    deny_patterns: Annotated[
        tuple[str, ...],
        Meta(description="Regular expressions; a command in which one is found is refused."),
    ] = ()


class FileToolSettings(Section, frozen=True, kw_only=True):
    """The file tools."""

    enable: Annotated[bool, Meta(description="Whether the agent may use files.")] = True


class WebSearchSettings(Section, frozen=True, kw_only=True):
    """The web search tool."""

    provider: Annotated[
        str,
        Meta(description="Search service to ask: `duckduckgo`, `brave`, `tavily` or `searxng`."),
    ] = "duckduckgo"
    api_key: Annotated[
        _Secret,
        Meta(
            description="Key of the search service; empty falls back to BRAVE_API_KEY or TAVILY_API_KEY."
        ),
    ] = ""
    base_url: Annotated[
        _Url, Meta(description="Base URL of the search service; `searxng` needs one.")
    ] = ""
    max_results: Annotated[_Positive, Meta(description="Results of one search.")] = 5
    timeout: Annotated[_Seconds, Meta(description="Seconds one search may take.")] = 30


class WebFetchSettings(Section, frozen=True, kw_only=True):
    """The tool that reads web pages."""

    use_jina_reader: Annotated[
        bool,
        Meta(description="Whether page addresses may go to a third party that renders them."),
    ] = False


class WebSettings(Section, frozen=True, kw_only=True):
    """The web tools."""

    enable: Annotated[bool, Meta(description="Whether the agent may use the web.")] = True
    proxy: Annotated[
        _ProxyUrl | None,
        Meta(
            description="Proxy of the web tools, http(s) or socks5; the environment's is not used."
        ),
    ] = None
    user_agent: Annotated[str | None, Meta(description="User-Agent header of the web tools.")] = (
        None
    )
    search: Annotated[WebSearchSettings, Meta(description="The web search tool.")] = field(
        default_factory=WebSearchSettings
    )
    fetch: Annotated[WebFetchSettings, Meta(description="The tool that reads web pages.")] = field(
        default_factory=WebFetchSettings
    )


class McpServer(Section, frozen=True, kw_only=True):
    """One MCP server whose tools the agent may use."""

    silent_keys: ClassVar[frozenset[str]] = frozenset({"auth"})

    type: Annotated[
        Literal["stdio", "sse", "streamableHttp"] | None,
        Meta(description="Transport; null is guessed from `command` or `url`."),
    ] = None
    command: Annotated[str, Meta(description="Program to start.")] = ""
    args: Annotated[tuple[str, ...], Meta(description="Arguments of the program.")] = ()
    env: Annotated[Mapping[str, str], Meta(description="Environment variables of the program.")] = (
        field(default_factory=dict)
    )
    cwd: Annotated[str, Meta(description="Folder to start the program in.")] = ""
    url: Annotated[_Url, Meta(description="Address of a server that runs elsewhere.")] = ""
    headers: Annotated[Mapping[str, str], Meta(description="HTTP headers for that server.")] = (
        field(default_factory=dict)
    )
    tool_timeout: Annotated[_Seconds, Meta(description="Seconds one tool call may take.")] = 30
    enabled_tools: Annotated[
        tuple[str, ...], Meta(description="Tools to offer; `*` is all of them.")
    ] = ("*",)


class ToolsSettings(Section, frozen=True, kw_only=True):
    """What the agent may do."""

    silent_keys: ClassVar[frozenset[str]] = frozenset(
        {"cliApps", "imageGeneration", "maxSessionMessagesPerMinute", "my", "webuiAllow*"}
    )

    exec: Annotated[ExecSettings, Meta(description="The shell tool.")] = field(
        default_factory=ExecSettings
    )
    file: Annotated[FileToolSettings, Meta(description="The file tools.")] = field(
        default_factory=FileToolSettings
    )
    web: Annotated[WebSettings, Meta(description="The web tools.")] = field(
        default_factory=WebSettings
    )
    restrict_to_workspace: Annotated[
        bool | None,
        Meta(
            description="Whether tools must stay inside the workspace. Null confines the file tools; true also runs"
            " commands in a sandbox or not at all; false confines nothing."
        ),
    ] = None
    ssrf_whitelist: Annotated[
        tuple[str, ...],
        Meta(description="Private networks (CIDR) that the web tools may reach."),
    ] = ()
    approval: Annotated[
        Mapping[str, Literal["ask", "never"]],
        Meta(
            description="Whether somebody is asked before a tool is run, by its name or a pattern such as `mcp_*`; "
            "tools that are not listed decide for themselves."
        ),
    ] = field(default_factory=dict)
    park_for_approval: Annotated[
        bool,
        Meta(
            description="Whether a run whose tool needs approval is parked if nobody is there to ask; else the call is denied."
        ),
    ] = False
    approval_expires_after_hours: Annotated[
        Annotated[float, Meta(gt=0, le=87_600)],
        Meta(
            description="Hours that a parked call waits for a decision; then it counts as denied."
        ),
    ] = 24.0
    mcp_servers: Annotated[
        Mapping[str, McpServer], Meta(description="MCP servers by a name of your choice.")
    ] = field(default_factory=dict)


class ApiSettings(Section, frozen=True, kw_only=True):
    """The OpenAI-compatible server."""

    host: Annotated[
        _Text, Meta(description="Address to listen on; beyond loopback a key is required.")
    ] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="Port to listen on.")] = 8900
    timeout: Annotated[_Seconds, Meta(description="Seconds one request may take.")] = 120.0
    api_key: Annotated[_Secret, Meta(description="Key that clients must send.")] = ""
    max_requests: Annotated[
        _Positive, Meta(description="Most requests that are worked on or wait.")
    ] = 1000
    max_requests_per_session: Annotated[
        _Positive,
        Meta(description="Most requests of one session: one is worked on, the others wait."),
    ] = 16
    reject_busy: Annotated[
        bool, Meta(description="Whether a request to a busy session is refused instead of waiting.")
    ] = False
    drain_timeout: Annotated[
        _Seconds, Meta(description="Seconds that requests have to end when the server stops.")
    ] = 30.0
    decide_approvals: Annotated[
        bool,
        Meta(description="Whether clients may decide about tool calls that wait for an approval."),
    ] = False


class WebSocketChannel(Section, frozen=True, kw_only=True):
    """The WebSocket channel of the gateway."""

    open_keys: ClassVar[bool] = True

    enabled: Annotated[bool, Meta(description="Whether the gateway opens this channel.")] = True
    host: Annotated[_Text, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="Port to listen on.")] = 8765
    path: Annotated[str, Meta(description="Path of the endpoint.")] = "/"
    token: Annotated[_Secret, Meta(description="Token that clients must send.")] = ""
    token_ttl_s: Annotated[_Seconds, Meta(description="Seconds an issued token can be used.")] = 300
    public_url: Annotated[
        str, Meta(description="Address of the endpoint for browsers, behind a proxy.")
    ] = ""
    allowed_origins: Annotated[
        tuple[str, ...], Meta(description="Web pages that may connect besides the gateway's own.")
    ] = ()
    max_connections: Annotated[int, Meta(ge=1, description="Clients at once.")] = 2_000
    max_message_bytes: Annotated[
        int, Meta(ge=1_024, le=2**26, description="Longest frame of a client, in characters.")
    ] = 37_748_736
    frames_per_s: Annotated[
        float, Meta(gt=0, description="Frames that a client may send each second.")
    ] = 20.0
    replay_bytes: Annotated[
        int, Meta(ge=4_096, description="What is kept of a chat for clients that come back.")
    ] = 1_048_576
    ping_interval_s: Annotated[_Seconds, Meta(description="Seconds between two pings.")] = 20
    ping_timeout_s: Annotated[_Seconds, Meta(description="Seconds to answer a ping.")] = 20
    approval_timeout_s: Annotated[
        _Seconds, Meta(description="Seconds that a tool call waits for somebody's decision.")
    ] = 300
    drain_s: Annotated[
        _Seconds, Meta(description="Seconds that turns may go on when the gateway is stopped.")
    ] = 10


class ChannelsSettings(Section, frozen=True, kw_only=True):
    """Where people reach the agent. Settings of channels that are not known here are kept."""

    open_keys: ClassVar[bool] = True

    websocket: Annotated[WebSocketChannel, Meta(description="The WebSocket channel.")] = field(
        default_factory=WebSocketChannel
    )


class HeartbeatSettings(Section, frozen=True, kw_only=True):
    """Regular looks at the workspace's HEARTBEAT.md."""

    enabled: Annotated[bool, Meta(description="Whether the gateway looks by itself.")] = True
    interval_s: Annotated[_Seconds, Meta(description="Seconds between two looks.")] = 1800
    keep_recent_messages: Annotated[
        _Count, Meta(description="Messages of earlier looks that are kept.")
    ] = 8


class GatewaySettings(Section, frozen=True, kw_only=True):
    """The gateway process."""

    host: Annotated[_Text, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="Port to listen on.")] = 18_790
    restart_mode: Annotated[
        str, Meta(description="How the gateway restarts itself when it is asked to.")
    ] = "auto"
    heartbeat: Annotated[HeartbeatSettings, Meta(description="Regular looks at HEARTBEAT.md.")] = (
        field(default_factory=HeartbeatSettings)
    )


class SessionsSettings(Section, frozen=True, kw_only=True):
    """Where sessions are kept."""

    store: Annotated[
        Literal["sqlite", "postgres", "memory"],
        Meta(description="Store of the sessions: a local file, a server, or nothing durable."),
    ] = "sqlite"
    durability: Annotated[
        Literal["commit", "fast"],
        Meta(
            description="What a write survives when it has returned: a power cut too, "
            "or only the death of the process, at a fraction of the time."
        ),
    ] = "commit"
    url: Annotated[
        _Secret | None, Meta(description="Address of the PostgreSQL server, with its password.")
    ] = None
    max_connections: Annotated[
        _Positive,
        Meta(description="Most connections of one process to PostgreSQL, beside one that listens."),
    ] = 10
    max_budget: Annotated[
        BudgetSettings, Meta(description="What all runs of one session together may spend.")
    ] = field(default_factory=BudgetSettings)


class TelemetrySettings(Section, frozen=True, kw_only=True):
    """Traces and metrics by OpenTelemetry, which needs the extra `otel`. Where they go is said by the usual variables of the
    environment, such as `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_TRACES_EXPORTER=console`.
    """

    enabled: Annotated[bool, Meta(description="Whether runs are told to OpenTelemetry.")] = False
    capture_content: Annotated[
        bool,
        Meta(
            description="Whether spans hold what was said: messages, arguments and results of tools."
        ),
    ] = False
    content_limit: Annotated[_Positive, Meta(description="Characters of each such text.")] = 16_000


class Settings(Section, frozen=True, kw_only=True):
    """Everything that `config.json` may say."""

    silent_keys: ClassVar[frozenset[str]] = frozenset({"$schema", "transcription"})

    agents: Annotated[AgentsSettings, Meta(description="Settings of the agents.")] = field(
        default_factory=AgentsSettings
    )
    model_presets: Annotated[
        Mapping[str, ModelPreset], Meta(description="Models with their settings, by name.")
    ] = field(default_factory=dict)
    providers: Annotated[
        Mapping[str, ProviderSettings],
        Meta(
            description="Providers by name. A name that is not in the catalog is an OpenAI-compatible "
            "service of your own and needs `apiBase`."
        ),
    ] = field(default_factory=dict)
    tools: Annotated[ToolsSettings, Meta(description="What the agent may do.")] = field(
        default_factory=ToolsSettings
    )
    api: Annotated[ApiSettings, Meta(description="The OpenAI-compatible server.")] = field(
        default_factory=ApiSettings
    )
    channels: Annotated[ChannelsSettings, Meta(description="Where people reach the agent.")] = (
        field(default_factory=ChannelsSettings)
    )
    gateway: Annotated[GatewaySettings, Meta(description="The gateway process.")] = field(
        default_factory=GatewaySettings
    )
    sessions: Annotated[SessionsSettings, Meta(description="Where sessions are kept.")] = field(
        default_factory=SessionsSettings
    )
    telemetry: Annotated[
        TelemetrySettings, Meta(description="Traces and metrics by OpenTelemetry.")
    ] = field(default_factory=TelemetrySettings)


class Config(Settings, frozen=True, kw_only=True):
    """Settings as they were read, and where they came from.

    `path` is where the file is, or would be. `source` is the file that was read, or None for the built-in defaults.
    `unknown_keys` are the dotted paths of keys that nothing uses. `tree` is the file's own object: known keys in
    camelCase, unknown ones as they were, `${VAR}` not replaced; writes start from it. Do not change it: see `changed`.
    """

    path: Path | None = None
    source: Path | None = None
    unknown_keys: tuple[str, ...] = ()
    tree: Mapping[str, Any] = field(default_factory=dict)
