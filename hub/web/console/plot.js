// A small live plot: one series as a line over its area, as SVG.

import { el, setText } from './dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 240;
const HEIGHT = 56;

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The next number from n on that is 1, 2 or 5 times a power of ten, so that the axis does not change with each sample. */
function roundUp(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= n);
}

export class Plot {
  constructor(label, format, kept = 180) {
    this.format = format;
    this.kept = kept;
    this.area = shape('path', { class: 'area' });
    this.line = shape('path', { class: 'line' });
    // The drawing is stretched to the width of the tile, so the text is a separate element.
    const drawing = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label });
    drawing.append(this.area, this.line);
    this.top = el('span', { class: 'axis' });
    this.element = el('div', { class: 'plot' }, this.top, drawing);
  }

  draw(values) {
    const top = roundUp(Math.max(1, ...values));
    const x = (i) => WIDTH - ((values.length - 1 - i) * WIDTH) / (this.kept - 1);
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 4);
    const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
    this.line.setAttribute('d', points.length ? `M${points.join('L')}` : '');
    this.area.setAttribute('d', points.length
      ? `M${x(0).toFixed(1)},${HEIGHT}L${points.join('L')}L${WIDTH},${HEIGHT}Z` : '');
    setText(this.top, this.format(top));
  }
}
