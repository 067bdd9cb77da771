// A tile opens large, with all of its settings; what is within the element is written anew while pictures are made, so the dialog stands beside it.
const dialog = document.createElement("dialog");
dialog.className = "sf-dialog";
dialog.setAttribute("aria-label", "picture and settings");
element.parentElement.append(dialog);
let place = -1;

const tiles = () => [...element.querySelectorAll(".sf-tile")].filter((one) => one.querySelector(".sf-own"));
const make = (tag, kind, text) => {
  const made = document.createElement(tag);
  made.className = kind;
  if (text) made.textContent = text;
  return made;
};

function show(at) {
  const all = tiles();
  if (!all.length) return;
  place = (at + all.length) % all.length;
  const one = all[place], shared = element.querySelector(".sf-shared");
  const source = one.querySelector(".sf-picture, .sf-hatched").cloneNode(true);
  source.removeAttribute("style");
  if (source.tagName === "IMG") {
    source.onload = () => {
      const side = Math.max(source.naturalWidth, source.naturalHeight), room = Math.min(480, innerWidth - 64);
      source.style.width = side * 2 <= room ? `${source.naturalWidth * Math.floor(room / side)}px` : "";
    };
  }
  const label = one.querySelector(".sf-open").getAttribute("aria-label");
  const left = make("div", "sf-large"), right = make("div", "sf-settings");
  left.append(source);
  right.append(make("h3", "", label));
  const rows = make("div", "sf-scroll");
  for (const table of [one.querySelector(".sf-own"), shared]) {
    if (!table) continue;
    const copy = table.cloneNode(true);
    copy.hidden = false;
    rows.append(copy);
  }
  rows.tabIndex = 0;
  right.append(rows);
  const bar = make("div", "sf-actions");
  const act = (text, name, to) => {
    const button = make("button", `${name} sf-button`, text);
    button.type = "button";
    button.onclick = to;
    bar.append(button);
    return button;
  };
  const told = { seed: one.dataset.seed, label: one.dataset.label || "" };
  act("Use this seed", "sf-use", () => { dialog.close(); trigger("use_seed", told); });
  act("Follow it in Trajectory", "sf-follow", () => { dialog.close(); follow(told); });
  const save = one.querySelector(".sf-save");
  if (save) act("Save PNG", "sf-keep", () => save.click());
  act("Previous", "sf-previous", () => show(place - 1));
  act("Next", "sf-next", () => show(place + 1));
  act("Close", "sf-close", () => dialog.close());
  const where = document.activeElement && dialog.contains(document.activeElement) ? document.activeElement.className : "sf-close";
  dialog.replaceChildren(left, right, bar);
  if (!dialog.open) dialog.showModal();
  (bar.querySelector("." + where.split(" ")[0]) || bar.lastChild).focus({ preventScroll: true });
  dialog.scrollTop = 0; // where the window is small the picture comes first
}

function follow(told) {
  // that tab keeps the seed of its last path in a box of its own, which would go before the form's
  const box = document.querySelector("#path-seed input, #path-seed textarea");
  if (box) {
    box.value = told.seed;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }
  trigger("follow", told);
}

function save(link) {
  // the picture carries its settings; its address is its own content, so it is put into the link only now
  const image = link.closest(".sf-tile").querySelector("img");
  const copy = document.createElement("a");
  copy.href = image.src;
  copy.download = link.getAttribute("download");
  document.body.append(copy);
  copy.click();
  copy.remove();
}

element.addEventListener("click", (event) => {
  const link = event.target.closest(".sf-save"), open = event.target.closest(".sf-open");
  if (link) { event.preventDefault(); save(link); }
  else if (open && !open.disabled) show(tiles().indexOf(open.closest(".sf-tile")));
});
element.addEventListener("keydown", (event) => {
  const link = event.target.closest(".sf-save");
  if (link && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); save(link); }
});
element.addEventListener("dragstart", (event) => {
  const one = event.target.closest(".sf-tile"), link = one && one.querySelector(".sf-save"), image = one && one.querySelector("img");
  if (link && image) event.dataTransfer.setData("DownloadURL", `image/png:${link.getAttribute("download")}:${image.src}`);
});
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight" || event.key === "ArrowLeft") { event.preventDefault(); show(place + (event.key === "ArrowRight" ? 1 : -1)); }
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  const one = tiles()[place];
  if (one) one.querySelector(".sf-open").focus();
});
