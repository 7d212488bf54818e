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
    var alone = !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (event.key === "Enter" && alone) {
      if (!isField(event.target)) reveal(chosen());
      setTimeout(importanceNext(event.target));
    }
    if (isCycle(event)) forget();
    // Label Studio takes the key first.
    setTimeout(function () { afterKey(event, alone); });
  }, true);

  // After the reason comes the importance of the same box, where that is still empty.
  function importanceNext(target) {
    var box = isField(target) ? target.closest(view) : null;
    var following = box ? box.nextElementSibling : null;
    return function () {
      var field = following && following.matches(view) ? following.querySelector(empty) : null;
      if (field && !isField(document.activeElement)) field.focus();
    };
  }

  function answers() { var store = window.Htx && window.Htx.annotationStore; return store ? store.selected : null; }
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
    if (!answers() || !window.Htx.annotationStore.names.has(CONTROL)) return;
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
