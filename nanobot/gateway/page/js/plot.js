// A plot that moves with time: up to two lines over the last minutes, on a canvas.

const SPAN_S = 300;
const LEFT = 42, BOTTOM = 20, TOP = 8;

export class Plot {
  #points = []; // [seconds, first, second], oldest first

  constructor(canvas, { unit = "", colours }) {
    Object.assign(this, { canvas, unit, colours });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  add(at, ...values) {
    this.#points.push([at, ...values]);
    while (this.#points.length && this.#points[0][0] < at - SPAN_S) this.#points.shift();
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    pen.font = `11px ${style.getPropertyValue("--sans")}`;
    const now = this.#points.at(-1)?.[0] ?? 0;
    const most = ceiling(Math.max(0, ...this.#points.flatMap(([, ...values]) => values.filter((value) => value != null))));
    const x = (at) => LEFT + (1 - (now - at) / SPAN_S) * (width - LEFT - 4);
    const y = (value) => TOP + (1 - value / most) * (height - TOP - BOTTOM);
    pen.textBaseline = "middle";
    for (const part of [0, 0.5, 1]) {
      const at = Math.round(y(most * part)) + 0.5;
      pen.strokeStyle = colour(part ? "--line" : "--line-2");
      pen.beginPath(); pen.moveTo(LEFT, at); pen.lineTo(width - 4, at); pen.stroke();
      pen.fillStyle = colour("--ink-3");
      pen.textAlign = "right";
      pen.fillText(label(most * part) + (part === 1 ? this.unit : ""), LEFT - 8, at);
    }
    pen.textBaseline = "alphabetic";
    [[4, "4 min ago"], [2, "2 min ago"], [0, "now"]].forEach(([minutes, text]) => {
      pen.textAlign = minutes ? "center" : "right";
      pen.fillText(text, x(now - minutes * 60), height - 4);
    });
    this.colours.forEach((name, index) => {
      pen.strokeStyle = colour(name);
      pen.lineWidth = 1.8;
      pen.lineJoin = "round";
      pen.setLineDash(index ? [5, 4] : []);
      pen.beginPath();
      let drawing = false;
      for (const point of this.#points) {
        const value = point[index + 1];
        if (value == null) { drawing = false; continue; }
        if (drawing) pen.lineTo(x(point[0]), y(value)); else pen.moveTo(x(point[0]), y(value));
        drawing = true;
      }
      pen.stroke();
    });
    pen.setLineDash([]);
  }
}

function ceiling(most) {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= most);
}

function label(value) { return value >= 100 ? Math.round(value).toString() : Number(value.toPrecision(2)).toString(); }
