// The files that go with the next message: chosen, pasted or dropped, checked against the limits, shown with their names.

import { ICONS, icon, make } from "./elements.js";

const SHOWN = /^image\/(png|jpeg|gif|webp)$/; // what the page's policy lets us show, as data
const THUMB_PX = 512; // twice as wide as it is shown, for fine screens

export class Attachments {
  #files = []; // {name, size, type, dataUrl, thumb}
  #reading = 0;
  #limits = { files: 20, file_bytes: 10 * 1024 ** 2, message_bytes: 24 * 1024 ** 2 }; // until the server has told its own

  // `changed()` is called when what is attached has changed; `tell(text)` says it to whoever reads or listens.
  constructor({ list, changed, tell }) {
    Object.assign(this, { list, changed, tell });
  }

  set limits(limits) { if (limits) this.#limits = limits; }
  get limitsInWords() {
    const { files, file_bytes: one, message_bytes: all } = this.#limits;
    return `${files} files, ${bytes(one)} each, ${bytes(all)} in all`;
  }

  get empty() { return this.#files.length === 0; }
  get busy() { return this.#reading > 0; } // a message must not leave without what was attached to it

  // Takes files in, each that keeps to the limits; says which ones do not.
  async add(files) {
    const refused = [];
    const added = [];
    this.#reading++;
    this.changed();
    try {
      for (const file of files) {
        const problem = this.#problem(file);
        if (problem) { refused.push(problem); continue; }
        const one = { name: file.name || `pasted.${file.type.split("/")[1] ?? "bin"}`, size: file.size, type: file.type, dataUrl: "", thumb: "" };
        this.#files.push(one); // counts against the limits from now on
        try {
          one.dataUrl = await read(file);
          if (SHOWN.test(file.type)) one.thumb = await thumbnail(file);
          added.push(one.name);
        } catch { // a folder, or a file that is gone by now
          this.#files.splice(this.#files.indexOf(one), 1);
          refused.push(`“${one.name}” cannot be read.`);
        }
      }
    } finally {
      this.#reading--;
      this.#show();
    }
    if (refused.length) this.tell(refused.join(" "), true);
    else if (added.length) this.tell(`Attached: ${added.join(", ")}`, false);
  }

  // Gives up what is attached, to be sent.
  take() {
    const files = this.#files;
    this.#files = [];
    this.#show();
    return files;
  }

  // Takes back what could not be sent.
  putBack(files) {
    this.#files.push(...files);
    this.#show();
  }

  #problem(file) {
    const { files, file_bytes: one, message_bytes: all } = this.#limits;
    const named = `“${file.name}”`;
    if (this.#files.length >= files) return `${named} is one too many: a message may have ${files} files.`;
    if (file.size === 0) return `${named} is empty.`;
    if (file.size > one) return `${named} has ${bytes(file.size)}; a file may have ${bytes(one)}.`;
    const total = this.#files.reduce((sum, other) => sum + other.size, file.size);
    if (total > all) return `${named} does not fit any more: all files of a message may have ${bytes(all)}.`;
    return "";
  }

  #show() {
    this.list.hidden = this.empty;
    this.list.replaceChildren(...this.#files.map((file) => {
      const remove = make("button", { type: "button", className: "remove", "aria-label": `Remove ${file.name}` }, icon(ICONS.cross));
      remove.onclick = () => {
        const index = this.#files.indexOf(file);
        this.#files.splice(index, 1);
        this.#show();
        this.tell(`Removed: ${file.name}`, false);
        const left = [...this.list.querySelectorAll(".remove")];
        (left[Math.min(index, left.length - 1)] ?? document.getElementById("composer-text")).focus();
      };
      return make("li", {}, fileCard(file), remove);
    }));
    this.changed();
  }
}

// How a file is shown, before it is sent and after. Of files that came earlier only the name is known.
export function fileCard({ name, size, thumb }) {
  const card = make("span", { className: thumb ? "file-card picture" : "file-card" });
  if (thumb) card.append(make("img", { src: thumb, alt: "" }));
  else card.append(make("span", { className: "file-kind", textContent: kindOf(name), "aria-hidden": "true" }));
  const label = make("span", { className: "file-label" }, make("span", { className: "file-name", textContent: name, title: name }));
  if (size) label.append(make("span", { className: "file-size", textContent: bytes(size) }));
  card.append(label);
  return card;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 ** 2) return `${Math.round(count / 1024)} kB`;
  return `${(count / 1024 ** 2).toFixed(1).replace(/\.0$/, "")} MB`;
}

function kindOf(name) {
  const ending = /\.([A-Za-z0-9]{1,4})$/.exec(name)?.[1];
  return (ending ?? "file").toUpperCase();
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(asBase64(reader.result, file.type));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

// A browser that knows no type writes none, or one of its own.
function asBase64(url, type) { return `data:${type || "application/octet-stream"};base64,${url.slice(url.indexOf(",") + 1)}`; }

// A small copy, so that a conversation with many photographs stays light.
async function thumbnail(file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, THUMB_PX / Math.max(picture.width, picture.height));
    const canvas = make("canvas", { width: Math.max(1, Math.round(picture.width * scale)), height: Math.max(1, Math.round(picture.height * scale)) });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    return canvas.toDataURL(file.type === "image/jpeg" ? "image/jpeg" : "image/png");
  } catch { return ""; } // it says that it is a picture, and is none
}
