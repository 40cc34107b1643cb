// Markdown that strangers wrote, as elements. A block that did not change since the last look is left alone.

import { Marked } from "/page/vendor/marked.js";
import DOMPurify from "/page/vendor/purify.js";

const marked = new Marked({ gfm: true, breaks: false });

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "input",
    "kbd", "li", "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["alt", "align", "checked", "class", "colspan", "disabled", "href", "rowspan", "src", "start", "title", "type"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|#)/i,
  ADD_URI_SAFE_ATTR: ["align", "checked", "colspan", "disabled", "rowspan", "start", "type"], // no addresses, and not tested as such
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  } else if (node.tagName === "INPUT") {
    node.setAttribute("type", "checkbox"); // task lists; nothing that can be typed into
    node.setAttribute("disabled", "");
  } else if (node.tagName === "IMG" && !/^data:image\/(png|jpeg|gif|webp);/i.test(node.getAttribute("src") ?? "")) {
    // Loading it would tell somebody what is in its address. It is shown as a link.
    const link = document.createElement("a");
    link.textContent = node.getAttribute("alt") || "image";
    const source = node.getAttribute("src") ?? "";
    if (/^https?:/i.test(source)) {
      link.href = source;
      link.target = "_blank";
      link.rel = "noopener noreferrer nofollow";
    }
    node.replaceWith(link);
  }
  const language = /^language-[\w+#.-]+$/;
  if (node.hasAttribute?.("class") && !(node.tagName === "CODE" && language.test(node.className))) node.removeAttribute("class");
});

export function renderMarkdown(element, text) {
  const tokens = marked.lexer(text).filter((token) => token.type !== "space");
  const links = tokens.links ?? {};
  const kept = element.markdownBlocks ?? [];
  tokens.forEach((token, index) => {
    if (kept[index]?.raw === token.raw) return;
    const block = document.createElement("div");
    block.replaceChildren(DOMPurify.sanitize(marked.parser(Object.assign([token], { links })), ALLOWED));
    for (const pre of block.querySelectorAll("pre")) addCopy(pre);
    const old = element.children[index];
    if (old) old.replaceWith(block);
    else element.append(block);
    kept[index] = { raw: token.raw };
  });
  while (element.children.length > tokens.length) element.lastElementChild.remove();
  kept.length = tokens.length;
  element.markdownBlocks = kept;
}

function addCopy(pre) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.onclick = async () => {
    await navigator.clipboard?.writeText(pre.querySelector("code")?.textContent ?? "");
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  pre.append(button);
}
