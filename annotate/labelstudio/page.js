(function () {
  "use strict";
  var settings = "labelStudio:settings", mark = "sdg-data:defaults";
  try {
    if (!localStorage.getItem(mark)) {
      var known = JSON.parse(localStorage.getItem(settings) || "{}");
      known.selectAfterCreate = true;
      localStorage.setItem(settings, JSON.stringify(known));
      localStorage.setItem(mark, "1");
    }
  } catch (error) { console.warn("sdg-data: the browser keeps no settings", error); }

  function isField(element) { return Boolean(element) && /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName); }
  var view = '[data-testid="textarea-region-view"]', empty = '[data-testid="textarea-region-input"]';

  window.addEventListener("keydown", function (event) {
    if (!event.isTrusted && isField(document.activeElement)) { event.stopImmediatePropagation(); return; }
    if (event.isComposing) return;
    var alone = isAlone(event);
    // What is not trusted is a held key that is done now.
    if (held !== null && event.isTrusted && hold(event)) return;
    if (leadsToField(event, alone)) holdFrom(event.target);
    if (event.key === "Enter" && alone && !isField(event.target)) reveal(chosen());
    if (isCycle(event)) forget();
    // Label Studio takes the key first.
    setTimeout(function () { afterKey(event, alone); });
  }, true);

  // A field is led to some moments after the key, on a busy machine seconds. What is pressed until then is for that
  // field and never a key of the page: it is held, and done there one key after the other.
  // `held`: the keys not yet done, null where none is held; `due`: the field that is waited for, and for how many turns
  // more (a busy page's are longer); `left`: a key that was done has left the fields, so the page's keys are meant.
  var held = null, due = null, left = false, timer = 0, TURNS = 40, TURN = 50;

  function isAlone(event) { return !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.altKey; }
  // Those of AltGr are letters.
  function isChord(event) {
    return (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  }

  function leadsToField(event, alone) {
    if (!alone) return false;
    if (event.key === "Enter") return Boolean(isField(event.target) ? emptyAfter(event.target) : chosen());
    var box = event.key.toLowerCase() === "i" && !isField(event.target) && isReview() ? chosen() : null;
    return Boolean(box) && said(box, CONTROL) !== "wrong" && !said(box, WHY);
  }

  function holdFrom(target) {
    // By its place: when the field before it is left, Label Studio may make the list anew.
    due = { row: isField(target) ? rows().indexOf(target.closest(view)) + 1 : 0, turns: TURNS };
    held = held || [];
    stepIn(0);
  }

  function stepIn(time) { clearTimeout(timer); timer = setTimeout(step, time); }

  function hold(event) {
    if (/^(Shift|Control|Alt|AltGraph|Meta|CapsLock|F\d+)$/.test(event.key)) return false;
    held.push(event);
    event.stopImmediatePropagation();
    // The browser's own, as a paste, go on.
    if (!isChord(event) || event.key === "Enter" || event.key.toLowerCase() === "a") event.preventDefault();
    return true;
  }

  function step() {
    if (due) wait();
    else if (held && held.length) redo(held.shift());
    else held = null;
    if (held) stepIn(due ? TURN : 0);
  }

  function wait() {
    // After the reason comes the importance of the same box, where that is still empty.
    var row = due.row && !isField(document.activeElement) ? rows()[due.row] : null;
    var field = row && row.querySelector(empty);
    if (field) field.focus();
    if (isField(document.activeElement)) { due = null; left = false; }
    else if (!due.turns--) held = due = null;
  }

  function redo(event) {
    var at = document.activeElement, key = event.key, chord = key && isChord(event);
    if (!isField(at)) {
      if (left && key) (at || document.body).dispatchEvent(new KeyboardEvent("keydown", event));
      return;
    }
    if (event.pasted) document.execCommand("insertText", false, event.pasted);
    else if (key === "Escape" || (key === "Enter" && chord)) leave(at);
    else if (chord) { if (key.toLowerCase() === "a") at.select(); }
    else if (key.length === 1) document.execCommand("insertText", false, key);
    else if (key === "Enter" && event.shiftKey) document.execCommand("insertText", false, "\n");
    else if (key === "Enter") {
      if (emptyAfter(at)) holdFrom(at);
      else setTimeout(afterKey, 0, { key: key, target: at }, true);
      leave(at);
    }
    else if (key === "Backspace") document.execCommand("delete");
    else if (key === "Delete") document.execCommand("forwardDelete");
    else if (key === "Tab") {
      var fields = Array.from(document.querySelectorAll(view + " textarea, " + view + " input, " + empty));
      var to = fields[fields.indexOf(at) + (event.shiftKey ? -1 : 1)];
      if (to) to.focus();
    } else move(at, key);
  }

  function leave(field) { field.blur(); left = true; }

  function move(field, key) {
    var places = { Home: 0, End: field.value.length, ArrowRight: field.selectionEnd + 1,
                   ArrowLeft: Math.max(0, field.selectionStart - 1) };
    if (key in places) field.setSelectionRange(places[key], places[key]);
  }

  window.addEventListener("paste", function (event) {
    if (held === null) return;
    held.push({ pasted: event.clipboardData.getData("text/plain") });
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);

  // The pointer goes elsewhere: what was typed before is done before, and nothing is waited for.
  window.addEventListener("mousedown", function () {
    if (due) wait();
    while (held && held.length && !due) redo(held.shift());
    held = due = null;
  }, true);

  function rows() { return Array.from(document.querySelectorAll(view)); }

  // The field of the importance after the reason's, where it is still empty.
  function emptyAfter(field) {
    var row = field.closest(view), following = row ? row.nextElementSibling : null;
    return following && following.matches(view) ? following.querySelector(empty) : null;
  }

  function answers() { var store = window.Htx && window.Htx.annotationStore; return store ? store.selected : null; }
  function isReview() { return Boolean(answers()) && window.Htx.annotationStore.names.has(CONTROL); }
  function boxes() { var all = answers(); return all ? all.regionStore.regions : []; }
  function isCycle(event) { return event.altKey && event.code === "Period" && !isField(event.target); }
  // A field that was asked for once takes the keys whenever its box is chosen and comes into sight again.
  function forget() { boxes().forEach(function (one) { one.cancelPerRegionFocus(); }); }
  function chosen() { return boxes().find(function (one) { return one.selected; }); }

  // The list of boxes holds only those that are in sight, and a field that is out of sight gets no key.
  function reveal(box) {
    var list = document.querySelector(".lsf-tree-list-holder");
    if (!box || !list || within(document.querySelector(".lsf-tree-treenode-selected"), list)) return;
    list.scrollTop = list.scrollHeight * boxes().indexOf(box) / boxes().length - list.clientHeight / 4;
    setTimeout(function () {
      var row = document.querySelector(".lsf-tree-treenode-selected");
      if (row && !within(row, list)) row.scrollIntoView({ block: "nearest" });
    }, 50);
  }

  function within(row, list) {
    if (!row) return false;
    var inner = row.getBoundingClientRect(), outer = list.getBoundingClientRect();
    return inner.top >= outer.top && inner.bottom <= outer.bottom;
  }

  // --- review: box by box, each as large as it fits

  var CONTROL = "box_verdict", WHY = "box_verdict_reason", ROOM = 2.2, NEAREST = 8;

  function said(box, control) {
    var result = box.results.find(function (one) { return one.from_name.name === control; });
    return result && result.mainValue && result.mainValue.length ? String(result.mainValue[0]) : "";
  }

  function afterKey(event, alone) {
    var box = chosen(), typing = isField(event.target), key = event.key.toLowerCase();
    var cycled = isCycle(event);
    if (cycled) reveal(box);
    if (!isReview()) return;
    if (cycled && box) look(box);
    if (!alone) return;
    if (!typing && (key === "j" || key === "i")) {
      if (!box || (key === "j" && said(box, CONTROL) === "right")) next();
      else if (said(box, CONTROL) === "wrong" && !said(box, WHY)) { reveal(box); box.requestPerRegionFocus(); }
    }
    if (typing && key === "enter" && box && said(box, CONTROL) === "wrong" && said(box, WHY)) next();
  }

  // The next box without a verdict; where all have one, the whole picture.
  function next() {
    var all = boxes(), at = all.indexOf(chosen());
    for (var step = 1; step <= all.length; step++) {
      var box = all[(at + step) % all.length];
      if (said(box, CONTROL)) continue;
      forget();
      if (!box.selected) answers().selectArea(box);
      look(box);
      setTimeout(reveal, 0, box);
      return;
    }
    answers().unselectAll();
    if (all.length) all[0].object.sizeToFit();
  }

  function look(box) {
    var picture = box.object, place = box.serialize().value;
    picture.sizeToFit();
    var share = Math.max(place.width, place.height) / 100;
    var scale = Math.min(NEAREST, Math.max(1, 1 / (share * ROOM)));
    picture.setZoom(Math.max(1, picture.maxScale) * scale);
    picture.updateImageAfterZoom();
    var seen = picture.canvasSize, whole = picture.stageComponentSize;
    picture.setZoomPosition(
      seen.width / 2 - whole.width * picture.zoomScale * (place.x + place.width / 2) / 100,
      seen.height / 2 - whole.height * picture.zoomScale * (place.y + place.height / 2) / 100
    );
  }
})();
