// What is wrong with a page as it stands in the window: text that is cut off, overlaps, is too
// small or too pale, and a page wider than the window. browser.py evaluates it in the page; it gives sentences.
(paper) => {
  const SLACK = 1.5; // pixels: browsers round differently
  const SMALLEST = 7.5; // pixels: what can still be read on a telephone held close
  const found = [];
  const view = document.documentElement;
  scrollTo(0, 0);
  const quote = (text) => `"${text.trim().replace(/\s+/g, " ").slice(0, 50)}"`;
  const ancestors = function* (element) {
    for (let up = element; up; up = up.parentElement) yield up;
  };

  // Colours are [red, green, blue, opacity], 0 to 255 and 0 to 1; a canvas knows all notations.
  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const colour = (css) => {
    if (!known.has(css)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = css;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      known.set(css, [r, g, b, a / 255]);
    }
    return known.get(css);
  };
  const over = ([r, g, b, a], [R, G, B]) =>
    [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const luminance = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => { // WCAG 2.2, "contrast ratio"
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const opacity = (element) => [...ancestors(element)]
    .reduce((product, up) => product * Number(getComputedStyle(up).opacity), 1);

  // Backgrounds are not printed unless the reader asks for it, so paper is white.
  const background = (element) => {
    let behind = [255, 255, 255, 1];
    if (paper) return behind;
    const layers = [...ancestors(element)].map((up) => colour(getComputedStyle(up).backgroundColor));
    for (const layer of layers.reverse()) behind = over(layer, behind);
    return behind;
  };
  // The shapes of a picture that lie under the middle of its text. Pixels are not looked at.
  const shapesUnder = (text, box) => {
    scrollTo(0, box.top - innerHeight / 2);
    const now = text.getBoundingClientRect();
    const [x, y] = [now.left + now.width / 2, now.top + now.height / 2];
    const shapes = document.elementsFromPoint(x, y).filter((shape) =>
      shape instanceof SVGGeometryElement && getComputedStyle(shape).fill.startsWith("rgb")
      && shape.isPointInFill(new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse()))
      && shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING);
    return shapes.reverse().map((shape) => {
      const style = getComputedStyle(shape);
      const [r, g, b, a] = colour(style.fill);
      return [r, g, b, a * Number(style.fillOpacity) * opacity(shape)];
    });
  };

  // The text as boxes. Fonts keep room above and below their letters; it may be shared.
  const within = (box, dx, dy) => ({
    left: box.left + dx, right: box.right - dx, top: box.top + dy, bottom: box.bottom - dy });
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("defs, .skip:not(:focus)")) continue;
    // Words for screen readers alone are cut to nothing on purpose.
    if ([...ancestors(element)].some((up) => getComputedStyle(up).clipPath === "inset(50%)")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const svg = element.closest("svg");
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of svg ? [element.getBoundingClientRect()] : range.getClientRects()) {
      if (box.width < 1 || box.height < 1) continue;
      const matrix = svg && element.getScreenCTM();
      const upright = !svg || Math.abs(matrix.b) < Math.abs(matrix.a);
      const [dx, dy] = upright ? [0, 0.18 * box.height] : [0.18 * box.width, 0];
      texts.push({ element, svg, words: node.data, ink: within(box, dx, dy) });
    }
  }

  const outside = (box, frame) => box.left < frame.left - SLACK || box.right > frame.right + SLACK;
  const above = (box, frame) => box.top < frame.top - SLACK || box.bottom > frame.bottom + SLACK;
  const scrolls = (element) => !paper && /auto|scroll/.test(getComputedStyle(element).overflowX);
  const seen = (box, element) => { // what is left of a box in the region that it scrolls in
    const region = [...ancestors(element)].find(scrolls)?.getBoundingClientRect();
    return region
      ? { ...box, left: Math.max(box.left, region.left), right: Math.min(box.right, region.right) }
      : box;
  };
  const sides = { left: 0, right: view.clientWidth };

  if (view.scrollWidth > innerWidth) {
    found.push(`too wide: the page is ${view.scrollWidth} px in a window of ${innerWidth} px`);
  }
  for (const text of texts) {
    const { element, svg, ink } = text;
    let frame = sides;
    for (const up of ancestors(svg ? svg.parentElement : element)) {
      const box = up.getBoundingClientRect();
      if (scrolls(up)) {
        if (outside(box, sides)) found.push(`cut off: the region of ${quote(text.words)}`);
        const left = box.left - up.scrollLeft;
        frame = { left, right: left + up.scrollWidth };
        break;
      }
      if (getComputedStyle(up).overflowX !== "visible" && up !== view && up !== document.body
          && (outside(ink, box) || above(ink, box))) {
        found.push(`cut off: ${quote(text.words)} by its ${up.localName}`);
      }
    }
    if (outside(ink, frame)) found.push(`cut off: ${quote(text.words)}`);
    if (svg) {
      const box = svg.getBoundingClientRect();
      if (outside(ink, box) || above(ink, box)) {
        found.push(`cut off: ${quote(text.words)} by its picture`);
      }
    }
  }

  for (let i = 0; i < texts.length; i++) {
    for (let j = i + 1; j < texts.length; j++) {
      const [a, b] = [texts[i], texts[j]];
      const wide = Math.min(a.ink.right, b.ink.right) - Math.max(a.ink.left, b.ink.left);
      const high = Math.min(a.ink.bottom, b.ink.bottom) - Math.max(a.ink.top, b.ink.top);
      if (wide <= SLACK || high <= SLACK) continue;
      const [left, right] = [seen(a.ink, a.element), seen(b.ink, b.element)];
      if (Math.min(left.right, right.right) - Math.max(left.left, right.left) <= SLACK) continue;
      found.push(`overlap: ${quote(a.words)} and ${quote(b.words)}`);
    }
  }

  const [small, pale] = [new Map(), new Map()]; // each word once
  for (const { element, svg, words, ink } of texts) {
    const style = getComputedStyle(element);
    let behind = background(svg ?? element);
    if (svg) for (const shape of shapesUnder(element, ink)) behind = over(shape, behind);
    const [r, g, b, a] = colour(svg ? style.fill : style.color);
    const letters = over([r, g, b, a * opacity(element)], behind);
    const matrix = svg ? element.getScreenCTM() : { a: 1, b: 0 };
    const size = parseFloat(style.fontSize) * Math.hypot(matrix.a, matrix.b);
    if (size < SMALLEST && !paper) small.set(words, size);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = contrast(letters, behind);
    if (ratio < (large ? 3 : 4.5)) pale.set(words, ratio);
  }
  for (const [words, size] of small) found.push(`small: ${quote(words)} at ${size.toFixed(1)} px`);
  for (const [words, ratio] of pale) found.push(`pale: ${quote(words)} at ${ratio.toFixed(2)}`);
  scrollTo(0, 0);

  if (paper) {
    for (const element of document.body.querySelectorAll("*")) {
      if (/fixed|sticky/.test(getComputedStyle(element).position) && element.checkVisibility()) {
        found.push(`${element.localName} does not stay in its place`);
      }
    }
    for (const element of document.querySelectorAll("details > :not(summary)")) {
      if (!element.checkVisibility()) found.push(`${quote(element.textContent)} is missing`);
    }
  }
  return found;
}
