"""The script of the page Map: draws points, and lets one draw a line around some of them.

Two canvases lie over each other, so that a line that grows does not draw the points again. The count of what is inside
is worked out here by the rule of `image_maps.inside`, and the server works out the same from the line's corners.
"""

SCRIPT = """
const MOST_CORNERS = 400;
let map = null, view = null, line = [], grid = null, asked = 0, drawing = false, moved = false;
const part = name => element.querySelector(name);
const isDark = () => document.body.classList.contains('dark');
const size = () => { const box = part('.plane').getBoundingClientRect(); return [box.width, box.height]; };
const scale = () => { const [w, h] = size(); return Math.min(w, h) / map.side * view.zoom; };
const toScreen = (x, y) => {
  const [w, h] = size(), s = scale();
  return [w / 2 + (x - view.x) * s, h / 2 - (y - view.y) * s];
};
const toMap = (px, py) => {
  const [w, h] = size(), s = scale();
  return [(px - w / 2) / s + view.x, (h / 2 - py) / s + view.y];
};
const fit = canvas => {
  const [w, h] = size(), ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  return pen;
};
const draw = () => {
  if (!map || !part('.points')) return;
  const began = performance.now(), pen = fit(part('.points')), [w, h] = size(), s = scale();
  const dot = Math.max(2, Math.min(7, 260 / Math.sqrt(map.ids.length) * Math.sqrt(view.zoom)));
  for (let g = map.groups.length - 1; g >= 0; g--) {
    pen.fillStyle = isDark() ? map.groups[g].dark : map.groups[g].light;
    for (const i of map.of[g]) {
      const px = w / 2 + (map.x[i] - view.x) * s, py = h / 2 - (map.y[i] - view.y) * s;
      if (px > -9 && py > -9 && px < w + 9 && py < h + 9) pen.fillRect(px - dot / 2, py - dot / 2, dot, dot);
    }
  }
  element.dataset.drawn = map.ids.length;
  element.dataset.milliseconds = (performance.now() - began).toFixed(1);
};
const drawLine = () => {
  const canvas = part('.line');
  if (!canvas) return;
  const pen = fit(canvas);
  if (line.length < 2) return;
  pen.strokeStyle = pen.fillStyle = isDark() ? '#ffffff' : '#111827';
  pen.lineWidth = 2;
  pen.beginPath();
  line.forEach(([x, y], i) => { const [px, py] = toScreen(x, y); if (i) pen.lineTo(px, py); else pen.moveTo(px, py); });
  pen.closePath();
  pen.stroke();
  pen.globalAlpha = 0.08;
  pen.fill('evenodd');
  pen.globalAlpha = 1;
};
const inside = (px, py) => {
  let within = false;
  for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
    const [x0, y0] = line[i], [x1, y1] = line[j];
    if ((y0 > py) !== (y1 > py) && px < (x1 - x0) * (py - y0) / (y1 - y0) + x0) within = !within;
  }
  return within;
};
const told = () => {
  const out = part('.inside');
  out.replaceChildren();
  if (line.length < 3) { out.textContent = 'Nothing is drawn around yet.'; return; }
  let count = 0;
  for (let i = 0; i < map.ids.length; i++) if (inside(map.x[i], map.y[i])) count++;
  const words = count === 1 ? '1 image' : count.toLocaleString('en') + ' images';
  if (!count) { out.textContent = 'No image is inside.'; return; }
  const link = document.createElement('a');
  const query = new URLSearchParams({select: 'lasso', map: map.map, points: line.flat().join(',')});
  link.href = '/browse?' + query;
  link.textContent = 'Open ' + words + ' in Browse';
  out.append(link, ' to tag them, send them to people, or export them.');
};
const index = () => {
  grid = new Map();
  for (let i = 0; i < map.ids.length; i++) {
    const key = (map.x[i] >> 7) * 4096 + (map.y[i] >> 7);
    if (!grid.has(key)) grid.set(key, []);
    grid.get(key).push(i);
  }
};
const nearest = (px, py) => {
  const [mx, my] = toMap(px, py), reach = 10 / scale();
  let best = -1, least = reach * reach;
  for (let cx = (mx - reach) >> 7; cx <= (mx + reach) >> 7; cx++)
    for (let cy = (my - reach) >> 7; cy <= (my + reach) >> 7; cy++)
      for (const i of grid.get(cx * 4096 + cy) || []) {
        const d = (map.x[i] - mx) ** 2 + (map.y[i] - my) ** 2;
        if (d < least) { least = d; best = i; }
      }
  return best;
};
const show = async i => {
  const id = map.ids[i], number = ++asked;
  const answer = await fetch('/data/map-point.json?' + new URLSearchParams({image: id}));
  const rows = answer.ok ? await answer.json() : [];
  if (number !== asked || !rows.length) return;
  const box = part('.under'), picture = document.createElement('img'), link = document.createElement('a');
  picture.src = '/blob/' + encodeURIComponent(rows[0].blob);
  picture.alt = '';
  link.href = '/browse?' + new URLSearchParams({image: id});
  link.append(picture, document.createTextNode(rows[0].prompt));
  const words = document.createElement('span');
  words.textContent = rows[0].model + ' · ' + map.groups[map.group[i]].name;
  box.replaceChildren(link, words);
};
const load = async () => {
  const figure = part('[data-map]');
  if (!figure || figure.dataset.loaded) return;
  figure.dataset.loaded = '1';
  const answer = await fetch(figure.dataset.map);
  if (!answer.ok) { part('.inside').textContent = await answer.text(); return; }
  const found = await answer.json();
  if (!found.ids) return;
  found.of = found.groups.map(() => []);
  found.group.forEach((g, i) => found.of[g].push(i));
  map = found;
  map.right = map.top = 0;
  for (let i = 0; i < map.ids.length; i++) {
    map.right = Math.max(map.right, map.x[i]); map.top = Math.max(map.top, map.y[i]);
  }
  line = [];
  index(); whole(); told(); listen();
};
const listen = () => {
  const plane = part('.plane');
  let last = 0;
  const at = event => {
    const box = plane.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  plane.onpointerdown = event => {
    if (event.button) return;
    plane.setPointerCapture(event.pointerId);
    drawing = true; moved = false;
    line = [toMap(...at(event)).map(Math.round)];
  };
  plane.onpointermove = event => {
    const [px, py] = at(event);
    if (!drawing) {
      if (performance.now() - last < 60) return;
      last = performance.now();
      const i = nearest(px, py);
      if (i >= 0) show(i);
      return;
    }
    const [x0, y0] = toScreen(...line[line.length - 1]);
    if (Math.hypot(px - x0, py - y0) < 4) return;
    moved = true;
    line.push(toMap(px, py).map(Math.round));
    drawLine();
  };
  plane.onpointerup = event => {
    if (!drawing) return;
    drawing = false;
    if (!moved) {
      line = [];
      const i = nearest(...at(event));
      drawLine(); told();
      if (i >= 0) show(i);
      return;
    }
    const step = Math.ceil(line.length / MOST_CORNERS);
    line = line.filter((_, i) => i % step === 0);
    drawLine(); told();
  };
  plane.onwheel = event => {
    event.preventDefault();
    const [px, py] = at(event), before = toMap(px, py);
    view.zoom = Math.min(80, Math.max(0.95, view.zoom * Math.exp(-event.deltaY / 400)));
    const after = toMap(px, py);
    view.x += before[0] - after[0]; view.y += before[1] - after[1];
    draw(); drawLine();
  };
  plane.ondblclick = whole;
};
const whole = () => { view = {x: map.right / 2, y: map.top / 2, zoom: 0.95}; draw(); drawLine(); };
element.addEventListener('click', event => {
  if (event.target.closest('.clear')) { line = []; drawLine(); told(); }
  if (event.target.closest('.whole') && map) whole();
});
new MutationObserver(load).observe(element, {childList: true, subtree: true});
const again = () => { draw(); drawLine(); };
new ResizeObserver(again).observe(element);
new MutationObserver(again).observe(document.body, {attributes: true, attributeFilter: ['class']});
load();
"""
