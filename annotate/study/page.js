// The page of a rater: shows a trial, takes an answer by key or click, zooms all images together.
// The server decides what is asked; a vote is shown as given only after the server has stored it.
const root = element.querySelector(".study");
const part = (name) => root.querySelector("." + name);
const token = new URLSearchParams(window.location.search).get("rater") || "";
let state = null;      // what the server last said
let ranks = [];        // of the images from left to right, while a ranking is entered
let asked = 0;         // when the trial was shown
let busy = false;
const zoom = { scale: 1, x: 0, y: 0 };  // x, y: shift in parts of the view's width and height

function say(text, wrong) {
  part("message").textContent = text;
  part("message").classList.toggle("wrong", Boolean(wrong));
}

function place() {
  const limit = zoom.scale - 1;
  zoom.x = Math.min(0, Math.max(-limit, zoom.x));
  zoom.y = Math.min(0, Math.max(-limit, zoom.y));
  for (const image of root.querySelectorAll(".view img"))
    image.style.transform = `translate(${zoom.x * 100}%, ${zoom.y * 100}%) scale(${zoom.scale})`;
}

function zoomAt(factor, x, y) {  // x, y: the point that stays, in parts of the view
  const scale = Math.min(16, Math.max(1, zoom.scale * factor));
  zoom.x = x - ((x - zoom.x) * scale) / zoom.scale;
  zoom.y = y - ((y - zoom.y) * scale) / zoom.scale;
  zoom.scale = scale;
  place();
}

function fullResolution() {  // one pixel of the largest image is one pixel of the page
  let scale = 1;
  for (const image of root.querySelectorAll(".view img")) {
    const shown = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight);
    scale = Math.max(scale, 1 / shown);
  }
  if (Math.abs(zoom.scale - scale) < 0.01) Object.assign(zoom, { scale: 1, x: 0, y: 0 }), place();
  else zoomAt(scale / zoom.scale, 0.5, 0.5);
}

function view(url, caption) {
  const figure = document.createElement("figure");
  const label = document.createElement("figcaption");
  label.textContent = caption;
  const frame = document.createElement("div");
  frame.className = "view";
  const image = document.createElement("img");
  image.alt = caption;
  image.draggable = false;
  image.src = url;
  image.onerror = () => say("An image could not be loaded. Reload the page; if it stays so, tell who gave you the link.", true);
  frame.append(image);
  figure.append(label, frame);
  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(event.deltaY < 0 ? 1.25 : 0.8, ...at(event));
  }, { passive: false });
  frame.addEventListener("pointermove", (event) => {
    if (!(event.buttons & 1)) return;
    const box = frame.getBoundingClientRect();
    zoom.x += event.movementX / box.width;
    zoom.y += event.movementY / box.height;
    place();
  });
  frame.addEventListener("dblclick", fullResolution);
  return figure;
}

function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.onclick = () => { action(); root.focus(); };
  part("answers").append(made);
  return made;
}

function letters(count) { return [..."ABCDEFGH"].slice(0, count); }

function show(next) {
  state = next;
  ranks = [];
  Object.assign(zoom, { scale: 1, x: 0, y: 0 });
  part("views").replaceChildren();
  part("answers").replaceChildren();
  part("done").textContent = `${state.answered} of ${state.total} answered`;
  root.querySelector("progress").value = state.total ? state.answered / state.total : 1;
  const trial = state.trial;
  if (!trial) {
    part("prompt").textContent = "";
    part("keys").textContent = state.total ? "Backspace: the answer before" : "";
    const end = document.createElement("p");
    end.className = "finished";
    end.textContent = state.total ? "Everything is answered and saved. Thank you." : "There is nothing to answer.";
    part("views").append(end);
    say("");
    return;
  }
  part("prompt").textContent = trial.prompt;
  const pair = state.protocol === "gsb";
  const names = pair ? ["Left", "Right"] : letters(trial.pictures.length);
  const figures = trial.pictures.map((url, k) => view(url, names[k]));
  if (trial.reference) part("views").append(view(trial.reference, "Original (not judged)"));
  part("views").append(...figures);
  if (pair) {
    for (const [text, given] of [["Left is better", [1, 2]], ["The same", [1, 1]], ["Right is better", [2, 1]]]) {
      const made = button(text, () => vote(given));
      made.classList.toggle("chosen", Boolean(trial.answer) && String(trial.answer) === String(given));
    }
    part("keys").textContent = "← or 1: left is better · ↓ or 2: the same · → or 3: right is better · "
      + "Backspace: the answer before · wheel or + −: zoom · F: full resolution · 0: whole image";
  } else {
    names.forEach((name, k) => {
      for (let rank = 1; rank <= names.length; rank++)
        button(`${name}: ${rank}`, () => { ranks[k] = rank; mark(); }).dataset.place = `${k}:${rank}`;
    });
    button("Save (Enter)", () => save());
    part("keys").textContent = `1 to ${names.length}: the rank of the image in the orange frame, 1 is the best, equal ranks are a tie · `
      + "Enter: save · Backspace: take back, or the answer before · wheel or + −: zoom · F: full resolution · 0: whole image";
    if (trial.answer) ranks = [...trial.answer];
    mark();
  }
  for (const url of state.soon) new Image().src = url;
  asked = performance.now();
  root.focus();
}

function mark() {  // the ranks that are entered so far
  const figures = [...part("views").querySelectorAll("figure")].slice(state.trial.reference ? 1 : 0);
  const next = open();
  figures.forEach((figure, k) => {
    figure.classList.toggle("chosen", Boolean(ranks[k]));
    figure.classList.toggle("next", k === next);
    figure.querySelector("figcaption").textContent = letters(figures.length)[k] + (ranks[k] ? `: ${ranks[k]}` : "");
  });
  for (const made of part("answers").querySelectorAll("button")) {
    const [k, rank] = (made.dataset.place || "").split(":").map(Number);
    made.classList.toggle("chosen", Boolean(made.dataset.place) && ranks[k] === rank);
  }
}

function open() {  // the first image without a rank, or -1
  return [...state.trial.pictures.keys()].find((k) => !ranks[k]) ?? -1;
}

function save() {
  if (open() >= 0) return say("Every image needs a rank.", true);
  const best = Math.min(...ranks);
  vote(ranks.map((rank) => rank - best + 1));
}

async function ask(call, argument) {
  if (busy) return;
  busy = true;
  try {
    const next = await call({ token, ...argument });
    if (next.error) say(next.error, true);
    else { show(next); say(next.saved ? "Saved." : ""); }
  } catch (error) {
    say("Not saved: the server does not answer. Press the key again in a moment.", true);
  } finally {
    busy = false;
  }
}

const vote = (given) => ask(server.vote, {
  trial: state.trial.id, ranks: given, seconds: (performance.now() - asked) / 1000,
});

function onKey(event) {
  if (!state || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const { key } = event;
  const pair = { ArrowLeft: [1, 2], 1: [1, 2], ArrowDown: [1, 1], 2: [1, 1], ArrowRight: [2, 1], 3: [2, 1] };
  if (key === "+" || key === "=") zoomAt(1.5, 0.5, 0.5);
  else if (key === "-") zoomAt(1 / 1.5, 0.5, 0.5);
  else if (key === "0") Object.assign(zoom, { scale: 1, x: 0, y: 0 }), place();
  else if (key === "f" || key === "F") fullResolution();
  else if (key === "Backspace" && state.trial && state.protocol === "ranks" && ranks.some(Boolean) && !state.trial.answer) {
    const given = [...state.trial.pictures.keys()].filter((k) => ranks[k]);
    ranks[given[given.length - 1]] = undefined;
    mark();
  }
  else if (key === "Backspace") ask(server.trial, { at: state.at - 1 });
  else if (!state.trial) return;
  else if (state.protocol === "gsb" && pair[key]) vote(pair[key]);
  else if (state.protocol === "ranks" && key === "Enter") save();
  else if (state.protocol === "ranks" && Number(key) >= 1 && Number(key) <= state.trial.pictures.length) {
    if (state.trial.answer) { ranks = []; state.trial.answer = null; }
    if (open() >= 0) ranks[open()] = Number(key);
    mark();
  }
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", onKey);
ask(server.trial, { at: null });
